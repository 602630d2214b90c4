"""What viagra-run and viagra-lease share: a command held with all that it forks."""
