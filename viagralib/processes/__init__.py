"""The process table, which process is the daemon, and verdicts."""
