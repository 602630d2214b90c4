"""viagra-lease: a command on one machine at a time."""
