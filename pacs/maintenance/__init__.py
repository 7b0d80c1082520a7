"""What keeps an archive trustworthy while nobody looks."""
