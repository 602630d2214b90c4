"""What everything else stands on: errors, text for people, durations, files."""
