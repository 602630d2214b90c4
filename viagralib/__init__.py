"""The parts of viagra.py, one module for each concept."""

VERSION = "1.0.0"
