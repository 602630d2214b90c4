"""What the administrator asks for: homes, command line, hooks and their facts."""
