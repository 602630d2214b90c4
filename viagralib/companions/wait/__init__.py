"""viagra-wait: until conditions hold."""
