"""What people are told: notices, lines, documents, syslog."""
