"""What a URL answers. Redirects are not followed, and no proxy is asked."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

from viagralib.base.messages import safe


class StrangerError(Exception):
    """Who answers is not who was to be asked; it says who."""


def parse(url: str) -> SplitResult:
    """Return the parts of an http or https URL; raises ValueError for others."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no http:// or https:// URL")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"{url!r} has characters that must be written as %XX")
    _ = parts.port  # raises ValueError when it is none
    return parts


def why_not(
    address: SplitResult,
    seconds: float,
    why_stranger: Callable[[socket.socket], str] | None = None,
) -> str | None:
    """Return None for a 2xx answer, else what came, or that nothing did.

    Raises OSError where it could not be asked, as for a name that is not known, and
    StrangerError with what `why_stranger` says of the connection, unless that is "".
    """
    secure = address.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(address.hostname or "", address.port, timeout=seconds)
    target = (address.path or "/") + ("?" + address.query if address.query else "")
    try:
        connection.connect()
        if why_stranger and (why := why_stranger(connection.sock)):
            raise StrangerError(why)
        connection.request("GET", target, headers={"User-Agent": "viagra"})
        status = connection.getresponse().status
    except TimeoutError:
        return "no answer in time"
    except ConnectionError as error:
        return safe(error.strerror or str(error) or type(error).__name__)
    except http.client.HTTPException as error:
        return f"no HTTP answer: {safe(str(error) or type(error).__name__)}"
    except UnicodeError as error:  # of a host that can be no name
        raise OSError(str(error)) from None
    finally:
        connection.close()
    return None if 200 <= status <= 299 else f"status {status}"
