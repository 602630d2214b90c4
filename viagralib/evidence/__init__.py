"""What is captured before anything is touched."""
