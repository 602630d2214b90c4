"""Executing a hook: its clean room, its environment, until its end."""
