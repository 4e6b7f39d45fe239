"""The small server: what it answers, whom it refuses, and that nobody holds it up."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from p2pfusion.daemon.web import server as web_server
from p2pfusion.daemon.web.server import HEADERS, WebServer
from p2pfusion.errors import ConfigError, ConflictError, NotRunningError

TOKEN = "a-token"
PATIENCE_S = 60.0


class Site:
    """A server whose daemon says what it was asked."""

    def __init__(self) -> None:
        self.server = WebServer("127.0.0.1", 0, TOKEN, lambda after: {"after": after})
        self.port = int(self.server.url.rstrip("/").rpartition(":")[2])

    def get(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> http.client.HTTPResponse:
        """One answer, read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, PATIENCE_S)
        given = {"Authorization": f"Bearer {TOKEN}"}
        given |= {key.replace("_", "-"): value for key, value in headers.items()}
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        answer.text = answer.read().decode()  # type: ignore[attr-defined]
        connection.close()
        return answer

    def open(self, sent: bytes = b"") -> socket.socket:
        """A connection on which this was sent."""
        channel = socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)
        channel.sendall(sent)
        return channel


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    with contextlib.closing(found.server):
        yield found


def text(answer: http.client.HTTPResponse) -> str:
    return str(answer.text)  # type: ignore[attr-defined]


def test_the_view_is_what_the_daemon_says_after_what_is_known(site: Site) -> None:
    answer = site.get("/api/view?round=7&event=12")
    assert (answer.status, json.loads(text(answer))) == (
        200,
        {"after": {"round": 7, "event": 12}},
    )
    assert json.loads(text(site.get("/api/view?window=3&other=1"))) == {
        "after": {"window": 3}
    }


@pytest.mark.parametrize("query", ["round=x", "round=1e3", "a=1&b=2&c=3&d=4"])
def test_what_is_no_number_is_refused(query: str, site: Site) -> None:
    assert site.get(f"/api/view?{query}").status == 400


def test_every_answer_forbids_what_the_page_does_not_need(site: Site) -> None:
    for path in ("/", "/main.js", "/style.css", "/icon.svg", "/api/view", "/nothing"):
        headers = dict(site.get(path).getheaders())
        assert headers.items() >= HEADERS.items(), path
        assert not [name for name in headers if name.startswith("Access-Control")]
        assert "Server" not in headers
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy


def test_without_the_token_nothing_is_told(site: Site) -> None:
    answer = site.get("/api/view", Authorization="")
    assert (answer.status, answer.getheader("WWW-Authenticate")) == (401, "Bearer")
    assert site.get("/api/view", Authorization="Bearer other").status == 401
    assert site.get("/api/other", Authorization="").status == 401
    assert site.get("/", Authorization="").status == 200


def test_other_pages_and_other_methods_are_refused(site: Site) -> None:
    assert site.get("/api/view", Host="evil.example").status == 403
    assert site.get("/api/view", Origin="https://evil.example").status == 403
    for method in ("POST", "HEAD", "OPTIONS", "PUT", "DELETE"):
        answer = site.get("/api/view", method)
        assert (answer.status, answer.getheader("Allow")) == (405, "GET"), method
    with site.open(b"GET /api/view HTTP/1.0\r\n\r\n") as channel:  # names no host
        assert channel.recv(1024).startswith(b"HTTP/1.0 403")


@pytest.mark.parametrize(
    "path", ["/nothing", "/../server.py", "/%2e%2e/server.py", "//x", "/page/main.js"]
)
def test_there_is_nothing_but_the_page(path: str, site: Site) -> None:
    assert site.get(path).status == 404


def test_a_daemon_that_does_not_answer_says_so_on_the_page() -> None:
    def nobody(after: dict[str, int]) -> dict[str, object]:
        raise NotRunningError("no daemon runs in <here>")

    site = Site()
    site.server.close()
    site.server = WebServer("127.0.0.1", site.port, TOKEN, nobody)
    with contextlib.closing(site.server):
        answer = site.get("/api/view")
    assert (answer.status, json.loads(text(answer))) == (
        503,
        {"error": "no daemon runs in <here>"},
    )


def test_too_much_is_refused_and_garbage_ends_nothing(site: Site) -> None:
    assert site.get("/", X="x" * (64 << 10)).status == 431
    assert site.get("/", body=b"x" * 2000).status == 413
    for garbage in (b"\x00\xff\n\n", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b""):
        with site.open(garbage) as channel:
            channel.shutdown(socket.SHUT_WR)
            while channel.recv(4096):
                pass
    assert site.get("/").status == 200


def test_who_says_nothing_or_half_is_hung_up_on_and_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for key in ("channel_timeout", "cleanup_interval"):
        monkeypatch.setitem(web_server.LIMITS, key, 1)
    site = Site()
    with contextlib.closing(site.server), contextlib.ExitStack() as stack:
        silent = [stack.enter_context(site.open()) for _ in range(20)]
        half = [stack.enter_context(site.open(b"GET / HT")) for _ in range(20)]
        assert site.get("/api/view").status == 200
        for channel in (*silent, *half):
            assert channel.recv(1) == b""


def test_who_asks_and_never_reads_keeps_nobody_waiting() -> None:
    site = Site()
    ask = b"GET /windows.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            channel = stack.enter_context(site.open())
            channel.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    channel.send(ask)
        assert site.get("/api/view").status == 200
        site.server.close()


def test_closing_waits_for_nobody_and_frees_the_port() -> None:
    asked, answer = threading.Event(), threading.Event()

    def slow(after: dict[str, int]) -> dict[str, object]:
        asked.set()
        assert answer.wait(PATIENCE_S)
        raise NotRunningError("it ends")

    site = Site()
    site.server.close()
    server = WebServer("127.0.0.1", site.port, TOKEN, slow)
    with contextlib.ExitStack() as stack:
        for sent in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            stack.enter_context(site.open(sent))
        getting = threading.Thread(
            target=lambda: (
                stack.enter_context(
                    contextlib.suppress(OSError, http.client.HTTPException)
                )
                or site.get("/api/view")
            )
        )
        getting.start()
        assert asked.wait(PATIENCE_S)
        answer.set()
        server.close()
        getting.join(PATIENCE_S)
        assert not getting.is_alive()
        WebServer("127.0.0.1", site.port, TOKEN, slow).close()
    names = {thread.name.split("-")[0] for thread in threading.enumerate()}
    assert not names & {"web", "waitress"}


def test_a_loop_that_is_awake_already_closes_nothing_under_who_wakes_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A call of before is still on its way when close() leaves its own behind.
    trigger = site.server._server.trigger
    pull = trigger._physical_pull

    def pull_twice() -> None:
        pull()
        site.server._thread.join(0.5)
        pull()  # OSError if the loop has closed it

    monkeypatch.setattr(trigger, "_physical_pull", pull_twice)
    site.server.close()
    monkeypatch.undo()
    site.server = WebServer("127.0.0.1", 0, TOKEN, lambda after: {})


def test_a_port_that_is_taken_and_an_address_that_is_not_ours(site: Site) -> None:
    def ask(after: dict[str, int]) -> dict[str, object]:
        return {}

    with pytest.raises(ConflictError, match=r"--web: 127\.0\.0\.1:\d+ is in use"):
        WebServer("127.0.0.1", site.port, TOKEN, ask)
    with pytest.raises(ConfigError, match="--web: cannot listen"):
        WebServer("192.0.2.1", 0, TOKEN, ask)


def test_the_newer_protocol_of_addresses() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with contextlib.closing(WebServer("::1", 0, TOKEN, lambda after: {})) as server:
        assert server.url.startswith("http://[::1]:")
        port = int(server.url.rstrip("/").rpartition(":")[2])
        connection = http.client.HTTPConnection("::1", port, PATIENCE_S)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()
