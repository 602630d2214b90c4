"""viagra-run: a command in a process contract."""
