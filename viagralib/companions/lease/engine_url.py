"""Which engine a URL means. Another one needs a class (`engine`) and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from viagralib.base.messages import Fault, shown
from viagralib.companions.lease.engine import Engine, Entry

_PORT = 2379
_FILES = ("ca", "cert", "key", "password")


@dataclass(frozen=True)
class Address:
    """Where an etcd cluster is, and what it wants to know of us; files are paths."""

    secure: bool
    members: tuple[tuple[str, int], ...]
    prefix: str
    user: str
    password: str
    files: Mapping[str, str]


def open_engine(url: str, name: str, ttl: float, entry: Entry) -> Engine:
    """Return the engine for a resource, not connected yet. Raises Fault."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/"):
            raise Fault("--engine", f"{shown(url)} is not like file:///directory")
        from viagralib.companions.lease.file_engine import FileEngine

        path = unquote(parts.path, errors="surrogateescape")
        return FileEngine(path, name, ttl, entry)
    if parts.scheme in ("etcd", "etcds"):
        from viagralib.companions.lease.etcd_engine import EtcdEngine

        return EtcdEngine(etcd_address(url), name, ttl, entry)
    raise Fault("--engine", f"{shown(url)} begins with none of file, etcd, etcds")


def etcd_address(url: str) -> Address:
    """Return what an etcd:// or etcds:// URL says. Raises Fault.

    etcds://USER:PASSWORD@HOST:PORT,HOST:PORT/PREFIX?ca=FILE&cert=FILE&key=FILE
    and password=FILE, so that the password stands in no command line.
    """
    parts = urlsplit(url)
    login, _, places = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    files = dict(parse_qsl(parts.query, keep_blank_values=True))
    for key in files:
        if key not in _FILES:
            raise Fault(
                "--engine", f"unknown {shown(key)}: known are {', '.join(_FILES)}"
            )
    if ("cert" in files) != ("key" in files):
        raise Fault("--engine", "cert and key go together")
    secure = parts.scheme == "etcds"
    if not secure and files.keys() & {"ca", "cert", "key"}:
        raise Fault("--engine", "ca, cert and key need etcds://")
    prefix = parts.path.strip("/") or "viagra"
    members = tuple(_member(place) for place in places.split(","))
    return Address(
        secure, members, f"{prefix}/", unquote(user), unquote(password), files
    )


def _member(place: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{place}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.path or port == 0:
        raise Fault("--engine", f"{shown(place)} is not like HOST:{_PORT}")
    return host, port or _PORT
