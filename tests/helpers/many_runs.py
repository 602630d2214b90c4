"""Many runs of the real program, each in a process of its own, Python started once.

python -I many_runs.py COUNTS NUMBER PROGRAM [ARGUMENT ...]: runs PROGRAM so many times,
and writes how often each exit code was, as a JSON object, to the file COUNTS.
"""

import importlib
import json
import os
import pkgutil
import sys
from collections import Counter

counts, number, program = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sys.argv = sys.argv[3:]
sys.path.insert(0, os.path.dirname(program))
viagra = importlib.import_module("viagra")
library = importlib.import_module("viagralib").__path__
for module in pkgutil.walk_packages(library, "viagralib."):
    importlib.import_module(module.name)
codes: Counter[int] = Counter()
for _ in range(number):
    pid = os.fork()
    if pid == 0:
        os._exit(viagra.main())
    codes[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])] += 1
with open(counts, "w", encoding="ascii") as file:
    json.dump(codes, file)
