"""The parts of viagra.py, one module for each concept."""

import os
import sys

VERSION = "1.0.0"

if sys.hexversion < 0x030B0000:  # before any part that an older Python cannot read
    _found = ".".join(map(str, sys.version_info[:3])) + " (" + sys.executable + ")"
    _name = os.path.basename(sys.argv[0])
    sys.exit(_name + ": needs Python 3.11 or later, not " + _found)
