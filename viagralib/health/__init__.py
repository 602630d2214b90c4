"""Whether a daemon that runs is well."""
