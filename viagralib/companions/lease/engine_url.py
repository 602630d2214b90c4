"""Which engine a URL means. Another one needs a class (`engine`) and a line here."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from viagralib.base.messages import Fault, shown
from viagralib.companions.lease.engine import Card, Engine


def open_engine(url: str, name: str, ttl: float, card: Card) -> Engine:
    """Return the engine for a resource, not connected yet. Raises Fault."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/"):
            raise Fault("--engine", f"{shown(url)} is not like file:///directory")
        from viagralib.companions.lease.file_engine import FileEngine

        return FileEngine(unquote(parts.path), name, ttl, card)
    if parts.scheme in ("etcd", "etcds"):
        from viagralib.companions.lease import etcd_client
        from viagralib.companions.lease.etcd_engine import EtcdEngine

        return EtcdEngine(etcd_client.parse(url), name, ttl, card)
    raise Fault("--engine", f"{shown(url)} begins with none of file, etcd, etcds")
