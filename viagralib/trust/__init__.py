"""Who else could change what is run, read or written."""
