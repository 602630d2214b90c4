"""Owners: who else could change what we execute, read or write."""

from __future__ import annotations

import os
import stat
import sys

from viagralib.base.messages import reason, safe
from viagralib.base.users import group_name, user_name

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LONGEST_CHAIN = 40  # links followed, as Linux does: path_resolution(7)
_LONGEST_WAY = 1000  # entries passed: others may make links that go on for ever
_BYTECODE = "__pycache__"
_FILES = "__file__", "__cached__"  # of a module: its source, its bytecode
_MOST_TOLD = 3  # of the files of one folder that somebody else could change


class Trust:
    """Judges paths by who may write them: root and the user who runs us may.

    What it has looked at once, it does not look at again: to judge anew, make another.
    """

    def __init__(self, user: int) -> None:
        self.user = user
        self.owners = {0, user}
        self._statuses: dict[str, os.stat_result | None] = {}
        self._entries: dict[tuple[str, bool], str] = {}
        self._paths: dict[str, list[str]] = {}
        self._ways: dict[str, list[str]] = {}

    def why_not(self, path: str) -> str:
        """Return who else could change what `path` names, with the cure, or ""."""
        return next(iter(self.whys(path)), "")

    def whys(self, path: str) -> list[str]:
        """Return each reason why somebody else could change what `path` names.

        Each directory above it and all that links lead to is looked at. A sticky
        directory such as /tmp is fine on the way, since nobody can replace another
        user's entry in it, but not at the end, since anybody can add one.
        """
        if path not in self._paths:
            try:
                *way, end = self._way(path)
                whys = {one: self._why_not_entry(one, on_the_way=True) for one in way}
                # Of what is not there, the way to it says all.
                if self._status(end) or not any(whys.values()):
                    whys[end] = self._why_not_entry(end, on_the_way=False)
                self._paths[path] = self._told(whys) if any(whys.values()) else []
            except OSError as error:
                self._paths[path] = [f"could not look at {safe(path)}: {reason(error)}"]
        return self._paths[path]

    def _told(self, whys: dict[str, str]) -> list[str]:
        """Return the reasons on a way, with its link; one for a stranger's place."""
        told: list[str] = []
        link = theirs = ""
        for entry, why in whys.items():
            status = self._status(entry)
            is_theirs = status is None or status.st_uid not in self.owners
            if why and not (is_theirs and theirs and entry.startswith(f"{theirs}/")):
                told.append(f"by the link {safe(link)}: {why}" if link else why)
                theirs = entry if is_theirs else ""
            if status and stat.S_ISLNK(status.st_mode):
                link = link or entry
        return told

    def end(self, path: str) -> str:
        """Return what the links of a path lead to. Raises OSError."""
        return self._way(path)[-1]

    def _way(self, path: str) -> list[str]:
        if path not in self._ways:
            self._ways[path] = list(walk(path, self._status))
        return self._ways[path]

    def whys_below(self, folder: str) -> list[str]:
        """Return what others could change of a folder, and of all that lies in it."""
        if self._is_theirs(folder):
            return self.whys(folder)
        found: list[str] = []
        folders = [folder]
        for place in folders:  # which grows as they are found
            with os.scandir(place) as entries:
                for entry in entries:
                    found += self._whys_part(entry.path)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        found = list(dict.fromkeys(found))
        if len(found) > _MOST_TOLD:
            more = len(found) - _MOST_TOLD
            found[_MOST_TOLD:] = [f"{more} more files below {safe(folder)}, as these"]
        return self.whys(folder) + found

    def whys_loaded(self, folder: str) -> list[str]:
        """Return the same of what this run has loaded from the folder, and no more."""
        if self._is_theirs(folder):
            return self.whys(folder)
        paths: list[str] = []
        for module in list(sys.modules.values()):
            for file in (module.__dict__.get(key) or "" for key in _FILES):
                if file.startswith(f"{folder}/"):
                    paths += [os.path.dirname(file), file]
        found = [why for path in dict.fromkeys(paths) for why in self._whys_part(path)]
        return self.whys(folder) + found

    def _is_theirs(self, folder: str) -> bool:
        """Return whether a stranger owns what leads to it: that is told for all."""
        way = self._ways.get(folder, []) if self.whys(folder) else []
        owners = {status.st_uid for status in map(self._status, way) if status}
        return bool(owners - self.owners)

    def _whys_part(self, path: str) -> list[str]:
        status = self._status(path)
        if status is None:
            return []  # bytecode that Python has not kept
        if stat.S_ISLNK(status.st_mode):
            return self.whys(path)
        why = self._why_not_entry(path, on_the_way=False)
        return [_without_bytecode(path, why)] if why else []

    def _status(self, path: str) -> os.stat_result | None:
        """Return what lstat(2) says, None: nothing is there. Raises OSError."""
        if path not in self._statuses:
            self._statuses[path] = _look(path)
        return self._statuses[path]

    def _why_not_entry(self, path: str, on_the_way: bool) -> str:
        key = path, on_the_way
        if key not in self._entries:
            status = self._status(path)
            self._entries[key] = (
                self._why_not_status(path, status, on_the_way)
                if status
                else self._why_not_missing(path)
            )
        return self._entries[key]

    def _why_not_status(
        self, path: str, status: os.stat_result, on_the_way: bool
    ) -> str:
        if why := self._why_not_owner(path, status):
            return why
        sticky = on_the_way and status.st_mode & stat.S_ISVTX
        if stat.S_ISLNK(status.st_mode) or sticky:
            return ""
        if status.st_mode & 0o022 and not _is_place_or_file(status.st_mode):
            # chmod would mend nothing here, and /dev/null is everybody's.
            return f"{safe(path)} is a device or a pipe: put a file in its place"
        if status.st_mode & stat.S_IWOTH:
            return f"{safe(path)} can be written by everybody: chmod o-w {_word(path)}"
        if status.st_mode & stat.S_IWGRP:
            group = group_name(status.st_gid)
            return (
                f"{safe(path)} can be written by group {group}: chmod g-w {_word(path)}"
            )
        return ""

    def _why_not_missing(self, path: str) -> str:
        """Return who could make what is not there: in a sticky directory, anybody."""
        place = os.path.dirname(path)
        if not self._status(place) or not self._why_not_entry(place, on_the_way=False):
            return ""
        return (
            f"{safe(path)} does not exist, and anybody could make it in {safe(place)}: "
            "make it yourself, or keep it elsewhere"
        )

    def _why_not_owner(self, path: str, status: os.stat_result) -> str:
        if status.st_uid in self.owners:
            return self._why_not_hard_link(path, status)
        owner, trusted = user_name(status.st_uid), user_name(max(self.owners))
        text = f"{safe(path)} belongs to {owner}: chown"
        if stat.S_ISDIR(status.st_mode):
            text += f" -R {trusted} {_word(path)}, if you trust all that is in it"
            return f"{text}, or keep what is in it elsewhere"
        option = " -h" if stat.S_ISLNK(status.st_mode) else ""
        return f"{text}{option} {trusted} {_word(path)}, if you trust what it holds"

    def _why_not_hard_link(self, path: str, status: os.stat_result) -> str:
        """Return that others may have given root's file this name, to swap it later.

        They can where protected_hardlinks is 0: proc_sys_fs(5).
        """
        if status.st_nlink < 2 or stat.S_ISDIR(status.st_mode):
            return ""
        place = os.path.dirname(path)
        if not (above := self._status(place)) or not above.st_mode & 0o022:
            return ""
        text = f"{safe(path)} is a hard link that others could have made"
        return f"{text} in {safe(place)}: keep it elsewhere"


def walk(
    path: str, look: Callable[[str], os.stat_result | None] | None = None
) -> Iterator[str]:
    """Yield each entry that the system passes on the way to what `path` names.

    `look` gives the lstat(2) of an entry, None when it is not there. Raises OSError
    when one cannot be looked at, or when the way goes in a circle.
    """
    rest = [part for part in reversed(path.split("/")) if part]
    here, links, left = "/", 0, _LONGEST_WAY
    yield here
    while rest:
        if not (left := left - 1):
            raise OSError(None, "a way of too many parts", path)
        part = rest.pop()
        if part in (".", ".."):
            here = os.path.dirname(here) if part == ".." else here
            continue
        entry = f"{here.rstrip('/')}/{part}"
        yield entry
        status = (look or _look)(entry)
        if status is None or not stat.S_ISLNK(status.st_mode):
            here = entry
            continue
        links += 1
        if links > _LONGEST_CHAIN:
            raise OSError(None, "too many symbolic links", path)
        target = os.readlink(entry)
        rest += [part for part in reversed(target.split("/")) if part]
        here = "/" if target.startswith("/") else here


def _is_place_or_file(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _look(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _without_bytecode(path: str, why: str) -> str:
    """Return a reason with the cure for bytecode: whoever wrote it is what counts."""
    place, found, _ = path.partition(f"/{_BYTECODE}")
    if not found:
        return why
    said = why.partition(": ")[0]
    return f"{said}: rm -r {_word(place + found)}, which Python makes anew"


def _word(path: str) -> str:
    """Return a path as one word for the shell."""
    import shlex

    return safe(shlex.quote(path))
