"""What is remembered between runs; all of it may be deleted at any time."""
