"""Which engine a URL means. Another one needs a class (`engine`) and a line here."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from viagralib.engine import Card, Engine
from viagralib.messages import Fault, shown


def open_engine(url: str, name: str, ttl: float, card: Card) -> Engine:
    """Return the engine for a resource, not connected yet. Raises Fault."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/"):
            raise Fault("--engine", f"{shown(url)} is not like file:///directory")
        from viagralib.flocked import FileEngine

        return FileEngine(unquote(parts.path), name, ttl, card)
    if parts.scheme in ("etcd", "etcds"):
        from viagralib import etcdwire
        from viagralib.etcd import EtcdEngine

        return EtcdEngine(etcdwire.parse(url), name, ttl, card)
    raise Fault("--engine", f"{shown(url)} begins with none of file, etcd, etcds")
