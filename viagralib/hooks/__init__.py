"""Executing a hook: its clean state, its environment, until its end."""
