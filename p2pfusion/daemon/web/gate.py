"""Who may read what of the web page. Pure: a question in, a refusal or none out.

The page's own files say nothing about this peer and need no token; what they show
(``/api/``) does. A browser that was led here by a foreign page is refused by two marks
that such a page cannot change: ``Host`` is a foreign name if the foreign page has had
its name point to this machine (DNS rebinding), and ``Origin`` names that page.
"""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass

API = "/api/"
"""Below it, everything needs the token."""

SCHEME = "Bearer "


@dataclass(frozen=True)
class Question:
    """What a browser asks, as far as that matters; "" is a header that is not there."""

    method: str
    path: str
    host: str = ""
    origin: str = ""
    authorization: str = ""


@dataclass(frozen=True)
class Refusal:
    """The status line, and why, in words for whoever asked."""

    status: str
    why: str


def refusal(question: Question, *, token: str, name: str) -> Refusal | None:
    """Why the question is not answered; ``name`` is the host that was served."""
    if not _is_ours(question.host, name):
        return Refusal("403 Forbidden", "this is not an address of this page")
    if question.origin not in ("", f"http://{question.host}"):
        return Refusal("403 Forbidden", "another page asks, and only this one may")
    if question.method != "GET":
        return Refusal("405 Method Not Allowed", "this page can only be read")
    if question.path.startswith(API) and not _knows(question.authorization, token):
        return Refusal("401 Unauthorized", "open what `p2pfusion web` prints")
    return None


def _is_ours(host: str, name: str) -> bool:
    """Whether a browser can only mean this machine: by number, or by its own name.

    The port is left open: a tunnel to this page may begin at another one.
    """
    bare = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if bare.lower() in ("localhost", name.lower()):
        return True
    try:
        ipaddress.ip_address(bare.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _knows(authorization: str, token: str) -> bool:
    """Whether that is the token; the time it takes says nothing about how close."""
    given = authorization.removeprefix(SCHEME)
    is_bearer = authorization.startswith(SCHEME)
    return hmac.compare_digest(given.encode(), token.encode()) and is_bearer
