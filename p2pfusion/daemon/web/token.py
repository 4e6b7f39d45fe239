"""The token of a home's web page, and the address at which it was served last.

Both are in ``web.json``, readable by its owner alone. The token is made at the first
start and stays, so that an open page goes on after the daemon's restart; who removes
the file gets another one at the next start.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass

from p2pfusion.daemon.home import Home
from p2pfusion.errors import VerificationError

TOKEN_BYTES = 32


@dataclass(frozen=True)
class WebAccess:
    """What opens the page."""

    token: str
    url: str = ""
    pid: int = 0
    """The daemon that serves it, or did: it may have ended meanwhile."""

    @property
    def link(self) -> str:
        """For a browser. What follows ``#`` stays there: no server is told, no log
        has it, and no other page sees it as where somebody came from."""
        return f"{self.url}#token={self.token}"


def read_access(home: Home) -> WebAccess | None:
    """What the file says; None if no page was ever served."""
    try:
        found = json.loads(home.web.read_text(encoding="utf-8"))
        token, url, pid = found["token"], found["url"], found["pid"]
        if not (isinstance(token, str) and token and isinstance(url, str)):
            raise ValueError("a token and a url are texts")
        return WebAccess(token, url, int(pid))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise VerificationError(
            f"{home.web} is damaged: {error}",
            hint="remove it: the next start makes a new token",
        ) from None


def chosen_token(home: Home) -> str:
    """The token of this home, as it is or new."""
    known = read_access(home)
    return secrets.token_urlsafe(TOKEN_BYTES) if known is None else known.token


def save_access(home: Home, token: str, url: str) -> None:
    """This process serves the page there."""
    # Imported here: who only reads the file needs no ciphers.
    from p2pfusion.daemon.identity import write_private

    access = WebAccess(token, url, os.getpid())
    write_private(home.web, json.dumps(asdict(access)).encode() + b"\n")
