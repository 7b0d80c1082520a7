"""Who may come in: accounts with passwords, their sessions, and tokens for programs."""
