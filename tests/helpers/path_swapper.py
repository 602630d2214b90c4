"""Swaps what a name names, now at once, now after a while, until it is ended.

python -I path_swapper.py UID ENTRY EVIL SAFE: as that user, makes ENTRY in turn a copy
of the file or directory EVIL, links to EVIL and to SAFE, a hard link to SAFE, nothing.
"""

import contextlib
import itertools
import os
import random
import shutil
import sys
import time

uid, entry, evil, safe = int(sys.argv[1]), *sys.argv[2:]
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
fresh, old = f"{entry}.fresh", f"{entry}.old"
PAUSES = (0, 0, 0.0005, 0.002, 0.01, 0.03)  # seconds: a run's checks take a few ms


def copy() -> None:
    (shutil.copytree if os.path.isdir(evil) else shutil.copy)(evil, fresh)


def nothing() -> None:
    remove(entry)


def remove(place: str) -> None:
    try:
        os.unlink(place)
    except FileNotFoundError:
        pass
    except OSError:
        shutil.rmtree(place, ignore_errors=True)


ways = [
    copy,
    lambda: os.symlink(evil, fresh),
    lambda: os.symlink(safe, fresh),
    lambda: os.link(safe, fresh),
    nothing,
]
for turn in itertools.count():
    remove(fresh)
    remove(old)
    # A hard link to another's file may be forbidden; a directory replaces no file.
    with contextlib.suppress(OSError):
        ways[turn % len(ways)]()
        if os.path.isdir(entry) or os.path.isdir(fresh):
            with contextlib.suppress(OSError):
                os.rename(entry, old)
        os.rename(fresh, entry)
    time.sleep(random.choice(PAUSES))
