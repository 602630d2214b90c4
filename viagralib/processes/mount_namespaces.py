"""Mount namespaces: in one of its own, a process has other files than we have.

So a container that shares our pid namespace runs programs of its own in there, and any
file can have the path of a daemon's.
"""

from __future__ import annotations

import os

from viagralib.processes.linux import Process
from viagralib.processes.observer import file_identity


def runs_file(process: Process, path: str) -> bool:
    """Return whether its program is the file `path`, and not only called so.

    In a mount namespace of its own, any file can have any path. Without root's
    help, that takes a user namespace of its own: one in ours is believed, since its
    program may be the deleted one of before an upgrade.
    """
    if process.ask("exe", file_identity) == file_identity(path):
        return True
    ours = file_identity("/proc/self/ns/user")
    return ours in (None, process.ask("ns/user", file_identity))


def is_contained(process: Process) -> bool:
    """Return whether it has a mount namespace, a root and a program of its own.

    Services have the first by PrivateTmp= of systemd.exec(5), and the second where
    they go into a directory after their start; their program is ours. One that was
    deleted since tells nothing.
    """
    return process.ask("", _is_contained)


def _is_contained(place: str) -> bool:
    try:
        if os.readlink(f"{place}/ns/mnt") == os.readlink("/proc/self/ns/mnt"):
            return False
        program, path = os.stat(f"{place}/exe"), os.readlink(f"{place}/exe")
    except OSError:
        return False
    if not program.st_nlink or file_identity(f"{place}/root/.") == file_identity("/"):
        return False
    return file_identity(path) != (program.st_dev, program.st_ino)
