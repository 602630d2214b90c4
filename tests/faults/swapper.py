"""Swaps what a name names, as fast as it can, until it is ended.

python -I swapper.py UID ENTRY EVIL SAFE: as that user, makes ENTRY in turn a copy of
the file or directory EVIL, links to EVIL and to SAFE, a hard link to SAFE, nothing.
"""

import itertools
import os
import shutil
import sys

uid, entry, evil, safe = int(sys.argv[1]), *sys.argv[2:]
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
fresh = f"{entry}.fresh"


def copy() -> None:
    (shutil.copytree if os.path.isdir(evil) else shutil.copy)(evil, fresh)


def nothing() -> None:
    pass


ways = [
    copy,
    lambda: os.symlink(evil, fresh),
    lambda: os.symlink(safe, fresh),
    lambda: os.link(safe, fresh),
    nothing,
]
for turn in itertools.count():
    for place in (fresh, entry):
        try:
            os.unlink(place)
        except FileNotFoundError:
            pass
        except OSError:
            shutil.rmtree(place, ignore_errors=True)
    try:
        ways[turn % len(ways)]()
        os.rename(fresh, entry)
    except OSError:
        continue  # a hard link to another's file may be forbidden
