"""Where things lie in the checkout that the tests belong to, and copies of it."""

import atexit
import compileall
import os
import re
import shutil
import tempfile
from pathlib import Path

import psutil

HELPERS = Path(__file__).resolve().parent
CHECKOUT = HELPERS.parent.parent
LIBRARY = CHECKOUT / "viagralib"
# Others may be writing bytecode into the checkout while it is copied.
NO_BYTECODE = shutil.ignore_patterns("__pycache__")
# make test-portable sets it: the copies read the process table as a BSD would.
PSUTIL_TABLE = os.environ.get("VIAGRA_TEST_TABLE") == "psutil"


def copy_library(place: Path, source: Path = LIBRARY) -> Path:
    """Copy viagralib to a directory, compiled there; return where it is.

    Root trusts it, whoever owns the checkout, and whatever the umask is.
    """
    library = place / "viagralib"
    shutil.copytree(source, library, ignore=NO_BYTECODE)
    compileall.compile_dir(library, quiet=2)
    for path in [library, *library.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    if PSUTIL_TABLE and source == LIBRARY:
        take_psutil_table(library)
    return library


def copy_program(place: Path) -> Path:
    """Copy viagra.py to a directory, with its library; return where it is."""
    script = place / "viagra.py"
    shutil.copy(CHECKOUT / "viagra.py", script)
    for path in (place, script):
        path.chmod(0o755)
    copy_library(place)
    return script


def take_psutil_table(library: Path) -> None:
    """Let a copy of the library read the process table through psutil on Linux.

    psutil goes beside it: users and other Pythons than ours have none.
    """
    table = library / "processes/table.py"
    text = table.read_text()
    choice = 'sys.platform.startswith("linux")'
    assert text.count(choice) == 1
    table.write_text(text.replace(choice, 'sys.platform == "none"'))
    compileall.compile_file(table, quiet=2, force=True)
    source = Path(psutil.__file__).parent
    shutil.copytree(source, library.parent / "psutil", ignore=NO_BYTECODE)


def not_portable() -> dict[str, str]:
    """Return the tests that cannot hold with that table, and why: docs/portable.md."""
    text = (CHECKOUT / "docs" / "portable.md").read_text()
    rows = re.findall(r"^\| `(test_\w+\.py::\w+)` \| (.+) \|$", text, re.MULTILINE)
    return dict(rows)


def _companions() -> Path:
    if not PSUTIL_TABLE:
        return LIBRARY / "companions"
    place = Path(tempfile.mkdtemp(prefix="viagra-portable."))
    place.chmod(0o755)
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return copy_library(place) / "companions"


COMPANIONS = _companions()
