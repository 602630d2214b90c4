"""What lies in start.d and its like: which entries are hooks, why others are off."""

from __future__ import annotations

import errno
import os
import stat

from viagralib.base.messages import Fault, reason, safe
from viagralib.settings import hook_templates

# An editor's or a packager's copy is executable like its original, but it would
# be a second daemon of that name, never found, and started for ever.
_EDITORS = "~ .bak .old .orig .rej .swp .tmp .save ,v"
_PACKAGERS = (
    ".dpkg-old .dpkg-new .dpkg-dist .dpkg-tmp .rpmnew .rpmsave .rpmorig "
    ".pacnew .pacsave .ucf-old .ucf-new .ucf-dist"
)
COPY_ENDINGS = (*_EDITORS.split(), *_PACKAGERS.split())
NOT_EXECUTABLE = "off: not executable"
NO_STEP = "off: the directory holds no executable step"

# What belongs beside hooks and is none, whatever its mode: `chmod +x *` happens.
NO_HOOKS = {
    "README": "no hook: for people to read",
    "service.subr": "no hook: what the ready hooks read in",
}
_LONGEST_NAME = 200  # bytes: a record's or an incident's file has some more of its own


def why_no_name(name: str) -> str:
    """Return why no daemon, hook or leased resource can have this name, or "".

    It is a file's name, a word of a command line, and shown to people.
    """
    if not name or name.startswith((".", "-")):
        return "it is empty, or begins with a dot or a dash"
    if "/" in name or safe(name) != name:
        return "it holds a slash, or what cannot be printed"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        return f"it is longer than {_LONGEST_NAME} bytes"
    return ""


def steps(directory: str) -> list[str]:
    """Return the executables of a hook that is a directory, in name order."""
    names = sorted(name for name in os.listdir(directory) if not why_copy(name))
    paths = [f"{directory}/{name}" for name in names]
    return [path for path in paths if is_executable(path)]


def why_copy(name: str) -> str:
    """Return why a file of this name is no hook although it looks like one, or ""."""
    if name.startswith("."):
        return "hidden"
    if name.endswith(COPY_ENDINGS) or (name.startswith("#") and name.endswith("#")):
        return "a copy that an editor or a package manager left"
    return ""


def is_executable(path: str) -> bool:
    return _is_program(_mode(path))


def _is_program(mode: int) -> bool:
    return stat.S_ISREG(mode) and bool(mode & 0o111)


def programs(hook: str) -> list[str]:
    """Return what a hook executes, in order: itself, or its steps. Raises OSError.

    A hook that cannot be looked at is not one that is not there: a check that is
    left out would make a sick daemon well.
    """
    mode = _mode(hook)
    if stat.S_ISDIR(mode):
        return steps(hook)
    return [hook] if _is_program(mode) else []


def names(directory: str) -> set[str] | None:
    """Return the names in a directory of hooks; None where that cannot be told."""
    try:
        return {*os.listdir(directory)}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError:
        return None


def is_there(path: str) -> bool:
    """Return whether there is a file of this name; in doubt, there is."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _mode(path: str) -> int:
    """Return what stat(2) says of a file's kind and mode; 0: it is not there."""
    try:
        return os.stat(path).st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return 0
        raise


def why_off(directory: str, name: str) -> str:
    """Return why this entry of start.d is not watched, or "". Raises Fault."""
    if why := why_copy(name) or NO_HOOKS.get(name, ""):
        return why
    if hook_templates.is_template(name):
        return f"a template, no hook itself: ln -s {safe(name)} {safe(name)}INSTANCE"
    path = f"{directory}/{name}"
    try:
        mode = os.stat(path).st_mode
        is_off = stat.S_ISDIR(mode) and not steps(path)
    except FileNotFoundError:
        target = safe(os.readlink(path)) if os.path.islink(path) else "nothing"
        raise Fault(
            safe(name),
            f"start.d/{safe(name)} links to {target}, "
            "which does not exist: mend or remove the link",
        ) from None
    except OSError as error:
        raise Fault(
            safe(name), f"could not look at its hook: {reason(error)}"
        ) from None
    if stat.S_ISDIR(mode):
        return NO_STEP if is_off else ""
    if not stat.S_ISREG(mode):
        return "neither a file nor a directory"
    if not mode & 0o111:
        return NOT_EXECUTABLE
    if why := why_no_name(name):
        raise Fault(safe(name), f"no name for a hook: {why}; rename it")
    return ""
