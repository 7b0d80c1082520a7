"""What is sent on, to whom, until it has arrived."""
