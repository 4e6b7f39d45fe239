"""Serves the web page of a daemon: a few threads that only read.

The page asks once a second for what is new; this server asks the daemon over the local
socket, as the command line does, one question at a time. So it shares nothing with the
daemon's loop, and nothing here lasts: no stream is held open, and a stop waits for
nobody. Whoever is slow, says nothing or too much is hung up on by waitress. The only
file that imports it, and itself imported only if somebody wants the page.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import parse_qs

from waitress import create_server, wasyncore

from p2pfusion.daemon.address import listening, write_address
from p2pfusion.daemon.web.gate import Question, refusal
from p2pfusion.errors import P2PFusionError

Table = Mapping[str, object]
Ask = Callable[[dict[str, int]], Table]
"""Asks the daemon for its view, after a round, a window and an event."""

VIEW = "/api/view"
CURSORS = ("round", "window", "event")

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""The files of the page, by their ends."""

HEADERS = {
    "Cache-Control": "no-store",
    # Nothing from elsewhere, nothing inline; and with trusted types the browser itself
    # refuses to make markup of a text, such as the name of a peer.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

LIMITS = {
    "threads": 4,
    "connection_limit": 64,
    "channel_timeout": 10,  # seconds: who says nothing for so long is hung up on
    "cleanup_interval": 2,
    "max_request_header_size": 16 << 10,
    "max_request_body_size": 1 << 10,  # nothing here is asked with a body
    # In memory and not in a file: of one reading come so many questions that their
    # answers stay far below it, and no more are read before these have left.
    "outbuf_overflow": 16 << 20,
}

# It warns when two tabs ask at the same moment, which is nothing.
logging.getLogger("waitress.queue").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Answer:
    """What goes back."""

    status: str
    kind: str
    body: bytes


class WebServer:
    """Answers browsers at an address until it is closed."""

    def __init__(self, host: str, port: int, token: str, ask: Ask) -> None:
        """``ConflictError`` if the port is taken, ``ConfigError`` for an address that
        is not this machine's."""
        listener = _listen(host, port)
        self._host, self._port = host, listener.getsockname()[1]
        self._map: dict[int, object] = {}
        self._server = create_server(
            _Site(host, token, ask),
            map=self._map,
            sockets=[listener],
            ident=None,
            asyncore_use_poll=True,
            log_socket_errors=False,
            **LIMITS,
        )
        self._thread = threading.Thread(
            target=self._server.run, name="web", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{write_address(self._host, self._port)}/"

    def close(self) -> None:
        """Ends it: what is being answered is finished, everybody else hung up on."""
        # First those who answer: they still wake the loop, which then closes its way
        # of being woken.
        self._server.task_dispatcher.shutdown()
        woken = threading.Event()

        def end() -> None:
            # A call of before may have woken the loop already: it must not close what
            # this thread is about to write to.
            woken.wait()
            wasyncore.close_all(self._map)

        self._server.trigger.pull_trigger(end)
        woken.set()
        self._thread.join()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with listening("--web", host, port, example="127.0.0.1:8477"):
        return socket.create_server((host, port), family=family)


class _Site:
    """The page's files and its one question, as a WSGI application (PEP 3333)."""

    def __init__(self, host: str, token: str, ask: Ask) -> None:
        self._host = host
        self._token = token
        self._ask = ask
        self._files = _read_page()
        self._turn = threading.Lock()

    def __call__(
        self,
        environ: Mapping[str, object],
        start: Callable[[str, list[tuple[str, str]]], object],
    ) -> Iterable[bytes]:
        answer = self._answer(_question(environ), str(environ["QUERY_STRING"]))
        headers = {**HEADERS, "Content-Type": answer.kind}
        headers["Content-Length"] = str(len(answer.body))
        if answer.status.startswith("405"):
            headers["Allow"] = "GET"
        if answer.status.startswith("401"):
            headers["WWW-Authenticate"] = "Bearer"
        start(answer.status, list(headers.items()))
        return [answer.body]

    def _answer(self, question: Question, query: str) -> Answer:
        refused = refusal(question, token=self._token, name=self._host)
        if refused is not None:
            return _error(refused.status, refused.why)
        if question.path == VIEW:
            return self._view(query)
        return self._files.get(question.path) or _error("404 Not Found", "no such page")

    def _view(self, query: str) -> Answer:
        try:
            cursors = _cursors(query)
        except ValueError:
            return _error("400 Bad Request", "round, window and event are numbers")
        try:
            with self._turn:
                told = self._ask(cursors)
        except P2PFusionError as error:
            return _error("503 Service Unavailable", str(error))
        return _json("200 OK", told)


def _read_page() -> dict[str, Answer]:
    """Every file of the page, by its path; the page itself is at ``/``."""
    found = {}
    for file in files("p2pfusion.daemon.web").joinpath("page").iterdir():
        kind = KINDS.get(file.name[file.name.rfind(".") :])
        if kind is not None:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            found[path] = Answer("200 OK", kind, file.read_bytes())
    return found


def _question(environ: Mapping[str, object]) -> Question:
    """What WSGI says of the request, where there is nothing else than text."""

    def header(name: str) -> str:
        value = environ.get(name, "")
        return value if isinstance(value, str) else ""

    return Question(
        method=header("REQUEST_METHOD"),
        path=header("PATH_INFO"),
        host=header("HTTP_HOST"),
        origin=header("HTTP_ORIGIN"),
        authorization=header("HTTP_AUTHORIZATION"),
    )


def _cursors(query: str) -> dict[str, int]:
    """The numbers of a query; ``ValueError`` for one that is none."""
    given = parse_qs(query, max_num_fields=len(CURSORS))
    return {key: int(given[key][0]) for key in CURSORS if key in given}


def _json(status: str, data: Table) -> Answer:
    body = json.dumps(data, allow_nan=False).encode()
    return Answer(status, "application/json", body)


def _error(status: str, why: str) -> Answer:
    return _json(status, {"error": why})
