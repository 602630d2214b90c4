"""Companion programs for use inside hooks."""
