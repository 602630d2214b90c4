"""Programs for use inside hooks."""
