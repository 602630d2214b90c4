"""Parts: how a run finds and reads its own modules: by 4 system calls, not by 14.

Python looks at each directory anew before it reads a module, and reads it through file
objects. How it keeps and checks bytecode, and makes it anew, stays Python's own; what
is not found here is looked for as ever.
"""

from __future__ import annotations

import os
import sys

# As importlib.machinery has them, which would have to be loaded.
from _frozen_importlib_external import SourceFileLoader, spec_from_file_location

TYPE_CHECKING = False  # typing and collections.abc cost too much
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

_LIBRARY, _ = os.path.split(os.path.dirname(__file__))
_PREFIX = f"{os.path.basename(_LIBRARY)}."
_AT_ONCE = 65_536  # bytes: more than a module has, and no mapping of its own


def use() -> None:
    """Load all modules of this library in this way from now on."""
    sys.meta_path.insert(0, _Finder)


class _Finder:
    @staticmethod
    def find_spec(name: str, path: object, _: object = None) -> ModuleSpec | None:
        """Return where a module of ours is; None: others are to look for it."""
        if not name.startswith(_PREFIX):
            return None
        inner = name.removeprefix(_PREFIX).replace(".", "/")
        place = f"{_LIBRARY}/{inner}"
        files = [f"{place}.py", f"{place}/__init__.py"]
        for file in files if "/" in inner else files[::-1]:
            try:
                status = os.stat(file)
            except OSError:
                continue
            places = [place] if file == files[1] else None
            return spec_from_file_location(
                name,
                file,
                loader=_Loader(name, file, status),
                submodule_search_locations=places,
            )
        return None


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, status: os.stat_result) -> None:
        super().__init__(name, path)
        self._status = status

    def path_stats(self, path: str) -> dict[str, float]:
        """Return the source's time and size, which its bytecode must be of."""
        return {"mtime": self._status.st_mtime, "size": self._status.st_size}

    def get_data(self, path: str) -> bytes:
        """Return what a file holds. Raises OSError."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = part = os.read(descriptor, _AT_ONCE)
            while len(part) == _AT_ONCE:
                part = os.read(descriptor, _AT_ONCE)
                text += part
            return text
        finally:
            os.close(descriptor)
