"""The page of a running swarm: for programs, a real browser, and nobody else."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.chromium import EXECUTABLE, Chromium, browser
from tests.end_to_end.programs import PATIENCE_S, Program, end_marked, profile

pytestmark = pytest.mark.slow

needs_browser = pytest.mark.skipif(
    EXECUTABLE is None, reason="no Chromium on this machine: apt-get install chromium"
)

SWARM = """
name = "<b>workshop</b>"
model = "mlp"
model_arguments = { hidden = [64, 32] }
rounds = 5000
min_peers = 3
learning_rate = 0.1
"""
MARKUP = "<img/src=x/onerror=alert(1)>"
"""A name that a peer may have."""

WAIT = ("--timeout", "240")


@dataclass
class Swarm:
    """Three daemons that train without end; the first serves a page."""

    ann: Program
    founder: str
    port: int

    def start(self) -> None:
        """Starts the first daemon, at the same port every time."""
        arguments = (self.founder, "--name", "ann", "--web", str(self.port))
        done = self.ann.run("start", *arguments, "--detach")
        assert done.code == 0, done
        assert f"web http://127.0.0.1:{self.port}/" in done.out

    @property
    def link(self) -> str:
        """What opens the page."""
        return self.ann.run("web").out.strip()

    @property
    def token(self) -> str:
        """Of the page."""
        return self.link.partition("#token=")[2]

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Status and text of one answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, PATIENCE_S)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    path = tmp_path_factory.mktemp("web")
    mark = f"{os.getpid()}-{path.name}"
    with ExitStack() as stack:
        stack.callback(end_marked, mark)
        programs = [Program(path / name, mark) for name in ("a", "b", "c")]
        founder = profile(path / "0.toml", _sections(0, founder=True))
        found = Swarm(programs[0], str(founder), _free_port())
        found.start()
        ticket = found.ann.run("invite", "create", "--uses", "2").out.strip()
        for rank, name in ((1, "bob"), (2, MARKUP)):
            member = str(profile(path / f"{rank}.toml", _sections(rank)))
            arguments = ("--name", name, "--join", ticket, "--detach")
            assert programs[rank].run("start", member, *arguments).code == 0
        for program in programs:
            assert program.run("wait", "--for", "round=2", *WAIT).code == 0
        yield found


def _sections(rank: int, *, founder: bool = False) -> dict[str, str]:
    data = f'partition = {{ rule = "iid", share = "{rank}/3" }}\nvalidation = 0.2'
    return {"data": data} | ({"swarm": SWARM} if founder else {})


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# --- For programs --------------------------------------------------------------------


def test_the_view_is_read_with_the_token_and_not_without(swarm: Swarm) -> None:
    bearer = f"Bearer {swarm.token}"
    code, text = swarm.get("/api/view", Authorization=bearer)
    view = json.loads(text)
    assert code == 200 and view["status"]["self"]["name"] == "ann"
    assert {peer["name"] for peer in view["peers"]} == {"ann", "bob", MARKUP}
    assert [axis["name"] for axis in view["axes"]] == ["h1", "h2"]
    masks = view["windows"][0]["masks"]
    assert masks.keys() == {peer["id"] for peer in view["peers"]}
    for refused in ({}, {"Authorization": "Bearer wrong"}):
        code, text = swarm.get("/api/view", **refused)
        assert code == 401 and "p2pfusion web" in text and swarm.token not in text
    for name, value in (("Origin", "https://evil.example"), ("Host", "evil.example")):
        assert (
            swarm.get("/api/view", **{"Authorization": bearer, name: value})[0] == 403
        )


def test_the_token_is_where_only_its_owner_reads(swarm: Swarm) -> None:
    home = swarm.ann.home
    assert (home / "web.json").stat().st_mode & 0o777 == 0o600
    others = [p for p in home.iterdir() if p.is_file() and p.name != "web.json"]
    assert others
    assert not [p for p in others if swarm.token.encode() in p.read_bytes()]
    assert swarm.token not in swarm.ann.run("status", "--json").out


def test_a_daemon_without_a_page_says_how_to_have_one(
    swarm: Swarm, tmp_path: Path
) -> None:
    bob = Program(swarm.ann.home.parent / "b")
    done = bob.run("web")
    assert done.code == 4 and "start --web" in done.err
    nobody = Program(tmp_path / "nobody").run("web")
    assert nobody.code == 3 and "start --web" in nobody.err


def test_a_port_that_is_taken_is_a_conflict(swarm: Swarm, tmp_path: Path) -> None:
    other = Program(tmp_path / "other").run("start", "--web", str(swarm.port))
    assert other.code == 10 and f"--web: 127.0.0.1:{swarm.port} is in use" in other.err


def test_stop_does_not_wait_for_those_who_look_on(swarm: Swarm) -> None:
    bearer = f"Authorization: Bearer {swarm.token}\r\n".encode()
    ask = b"GET /api/view HTTP/1.1\r\nHost: localhost\r\n" + bearer + b"\r\n"
    with ExitStack() as stack:
        for sent in (b"", b"GET / HT", ask):
            address = ("127.0.0.1", swarm.port)
            channel = stack.enter_context(socket.create_connection(address, PATIENCE_S))
            channel.sendall(sent)
        assert swarm.ann.run("stop").code == 0  # fails after a time limit of its own
    link_before = swarm.ann.home / "web.json"
    token = json.loads(link_before.read_text())["token"]
    swarm.start()
    assert swarm.token == token


# --- For a browser -------------------------------------------------------------------

ROUND = "Number(document.querySelector('.progress .number').textContent.match(/\\d+/))"
SEALED = """document.querySelectorAll('#rounds tbody tr').length > 2
    && document.querySelector('#accuracy path.own')"""
"""A daemon that was started again sees rounds before its trainer is ready for one."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with browser() as found:
        yield found


def watched(chromium: Chromium, swarm: Swarm) -> None:
    """The page, as soon as it shows some rounds, and what its own peer made of one."""
    chromium.window(1280)
    chromium.go(swarm.link)
    chromium.until(SEALED)


def count(chromium: Chromium, selector: str) -> int:
    found = chromium.read(f"document.querySelectorAll({json.dumps(selector)}).length")
    assert isinstance(found, int)
    return found


def text(chromium: Chromium, selector: str) -> str:
    return str(
        chromium.read(f"document.querySelector({json.dumps(selector)}).textContent")
    )


@needs_browser
def test_the_page_shows_the_swarm(swarm: Swarm, chromium: Chromium) -> None:
    watched(chromium, swarm)
    assert text(chromium, "h1") == "<b>workshop</b>"
    assert "Round" in text(chromium, ".sentence")
    assert count(chromium, "#map svg g .node") == 3
    assert count(chromium, "#map svg .link") == 2
    assert count(chromium, "#members tbody tr") == 3
    assert count(chromium, "#windows canvas") == 1 + 3
    assert count(chromium, "#axis option") == 2
    assert count(chromium, "#timeline .phase.train") > 2
    assert count(chromium, "#loss path.own") == 1
    assert count(chromium, "#accuracy path.own") == 1
    assert count(chromium, "#traffic rect.sent") > 2
    assert count(chromium, "#events li") > 3
    assert text(chromium, "#state h3") == "Health"
    rows = text(chromium, "#members tbody")
    assert "ann" in rows and "this peer" in rows and "bob" in rows


@needs_browser
def test_it_lives(swarm: Swarm, chromium: Chromium) -> None:
    watched(chromium, swarm)
    chromium.until(f"{ROUND} > {chromium.read(ROUND)}")


@needs_browser
def test_windows_are_painted_and_can_be_read(swarm: Swarm, chromium: Chromium) -> None:
    watched(chromium, swarm)
    colours = """[...document.querySelectorAll('#windows canvas')].map((canvas) => {
        const { width, height } = canvas;
        const data = canvas.getContext('2d').getImageData(0, 0, width, height).data;
        const found = new Set();
        for (let at = 0; at < data.length; at += 4) {
            found.add(data.slice(at, at + 3).join());
        }
        return found.size;
    })"""
    everybody, *each = chromium.read(colours)  # type: ignore[misc]
    assert everybody >= 2  # more or fewer peers
    assert all(found >= 2 for found in each)  # trained, or not
    chromium.read("document.querySelector('#windows').focus()")
    for key in ("ArrowLeft", "ArrowLeft", "ArrowDown"):
        for kind in ("keyDown", "keyUp"):
            chromium.ask("Input.dispatchKeyEvent", type=kind, key=key)
    told = text(chromium, "#windows-readout")
    assert told.startswith("Round ") and "indices 2\u20133: " in told, told


STORY = """import('/story.js').then(({ Story }) => {
    const view = (changes) => ({
        status: { self: { id: 'a' }, swarm: { id: 's' } }, at_once: 2, events: [],
        peers: [{ id: 'b', name: 'bob' }, { id: 'a', name: 'ann' }], rounds: [],
        windows: [], ...changes,
        axes: [{ name: 'h', size: 5, cell_size: 2 },
            ...[0, 1].map((n) => ({ name: `layer ${n}`, size: 1, cell_size: 1 }))] });
    const masks = { a: [7, 1, 0] };
    const rows = (...numbers) => numbers.map((number) => ({ number, masks }));
    const seen = [], story = new Story();
    seen.push(story.take(view({ rounds: rows(0, 1), windows: rows(0) })));
    seen.push(story.take(view({ rounds: rows(2), events: rows(4, 5) })));
    story.take(view({ events: rows(5, 6) }));  // an answer that crossed another
    seen.push(story.cursors());
    seen.push(story.lastRounds(2).map(({ number }) => number));
    seen.push(story.events.length, story.colourOf('a'), story.colourOf('b'));
    const told = ({ name, cells }) => [name, ...cells.map((cell) => cell.label)];
    seen.push(story.pictures().map(told));
    story.take(view({}));  // the same peer after a restart has forgotten its rounds
    seen.push(story.rounds.size);
    story.take(view({ status: { self: { id: 'a' }, swarm: { id: 'other' } } }));
    seen.push(story.rounds.size);
    return seen; })"""


@needs_browser
def test_what_was_told_is_kept_and_each_part_once(
    swarm: Swarm, chromium: Chromium
) -> None:
    watched(chromium, swarm)
    assert chromium.read(STORY) == [
        *(True, False),  # whether there may be more to ask for at once
        {"round": 2, "window": 0, "event": 6},
        *([1, 2], 3, "--peer-0", "--peer-1"),
        [
            ["h (5)", "indices 0\u20131", "indices 2\u20133", "index 4"],
            ["layers", "layer 0", "layer 1"],
        ],
        *(3, 0),
    ]


@needs_browser
def test_numbers_are_told_as_people_read_them(swarm: Swarm, chromium: Chromium) -> None:
    watched(chromium, swarm)
    for called, told in (
        ("size(999)", "999 B"),
        ("size(1000)", "1.0 kB"),
        ("size(99960)", "100 kB"),
        ("size(999600)", "1.0 MB"),
        ("size(null)", "\u2013"),
        ("duration(0)", "0 s"),
        ("duration(0.0321)", "32 ms"),
        ("duration(0.5)", "0.5 s"),
        ("duration(75)", "75 s"),
        ("duration(3600)", "60 min"),
        ("percent(0.5)", "50%"),
        ("percent(0.9178)", "91.8%"),
        ("number(0.000331)", "3.3e-4"),
        ("number(0.12345)", "0.123"),
        ("number(1234.5)", "1235"),
        ("plural(1, 'peer')", "1 peer"),
    ):
        assert chromium.read(f"import('/words.js').then((w) => w.{called})") == told


@needs_browser
def test_words_of_others_are_text(swarm: Swarm, chromium: Chromium) -> None:
    watched(chromium, swarm)
    assert MARKUP in text(chromium, "#members tbody")
    assert count(chromium, "main img, main b, main script") == 0
    assert not chromium.told("Page.javascriptDialogOpening")
    # And where a script would make markup of it, the browser refuses.
    tried = "try { document.body.innerHTML = '<b>x</b>'; 'made' } catch { 'refused' }"
    assert chromium.read(tried) == "refused"


@needs_browser
def test_nothing_comes_from_elsewhere_and_nothing_fails(
    swarm: Swarm, chromium: Chromium
) -> None:
    chromium.events.clear()
    watched(chromium, swarm)
    assert not chromium.told("Runtime.exceptionThrown", "Log.entryAdded")
    requests = [event["params"] for event in chromium.told("Network.requestWillBeSent")]
    urls = [request["request"]["url"] for request in requests]  # type: ignore[index]
    ours = (f"http://127.0.0.1:{swarm.port}/", "about:", "data:")
    assert urls and all(url.startswith(ours) for url in urls)
    assert not [url for url in urls if swarm.token in url]
    assert chromium.read("location.href") == f"http://127.0.0.1:{swarm.port}/"


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_everything_has_its_place(
    width: int, scheme: str, swarm: Swarm, chromium: Chromium
) -> None:
    watched(chromium, swarm)
    chromium.window(width, scheme=scheme)
    chromium.until(f"document.querySelector('#map svg').clientWidth < {width}")
    boxes = chromium.read(
        "[...document.querySelectorAll('.card')].map((card) => {"
        " const { x, y, width, height } = card.getBoundingClientRect();"
        " return [x, y, width, height]; })"
    )
    assert isinstance(boxes, list) and len(boxes) == 10
    for index, (x, y, wide, high) in enumerate(boxes):
        assert x >= 0 and x + wide <= width and high > 60
        for x2, y2, wide2, high2 in boxes[:index]:
            beside = x + wide <= x2 + 1 or x2 + wide2 <= x + 1
            assert beside or y + high <= y2 + 1 or y2 + high2 <= y + 1
    assert chromium.read("document.documentElement.scrollWidth") <= width  # type: ignore[operator]
    ground = chromium.read("getComputedStyle(document.body).backgroundColor")
    shades = [int(n) for n in str(ground).strip("rgb()").split(",")]
    assert (sum(shades) > 3 * 128) is (scheme == "light")


@needs_browser
def test_without_the_token_it_shows_nothing_and_says_what_to_do(
    swarm: Swarm, chromium: Chromium
) -> None:
    chromium.go(f"http://127.0.0.1:{swarm.port}/")
    chromium.read("sessionStorage.clear()")
    chromium.go(f"http://127.0.0.1:{swarm.port}/#token=wrong")
    chromium.until(
        "document.querySelector('#notice').innerText.includes('p2pfusion web')"
    )
    assert chromium.read("document.querySelector('#main').hidden") is True
    assert "workshop" not in str(chromium.read("document.body.innerText"))


@contextmanager
def another_page() -> Iterator[str]:
    """A page of somebody else, on this machine too."""
    kind = http.server.BaseHTTPRequestHandler  # which answers everything with an error
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@needs_browser
def test_another_page_learns_nothing(swarm: Swarm, chromium: Chromium) -> None:
    url = f"http://127.0.0.1:{swarm.port}"
    with another_page() as page:
        chromium.go(page)
        chromium.until(f"location.href === {page!r}")
        for path, headers in (
            ("/api/view", {"Authorization": f"Bearer {swarm.token}"}),
            ("/api/view", {}),
            ("/main.js", {}),
        ):
            tried = f"fetch({url + path!r}, {{ headers: {json.dumps(headers)} }})"
            asked = f"{tried}.then(() => 'told', () => 'refused')"
            assert chromium.read(asked) == "refused", path
        framed = f"""new Promise((done) => {{
            const frame = document.createElement('iframe');
            frame.onload = () => done(frame.contentDocument === null);
            frame.src = {url!r}; document.body.append(frame); }})"""
        assert chromium.read(framed) is True  # an error page of the browser's own
    refused = [e for e in chromium.told("Log.entryAdded") if "frame" in json.dumps(e)]
    assert refused


@needs_browser
def test_it_survives_the_daemons_restart(swarm: Swarm, chromium: Chromium) -> None:
    watched(chromium, swarm)
    before = chromium.read(ROUND)
    assert swarm.ann.run("stop").code == 0
    chromium.until("document.querySelector('#notice').innerText.includes('lost')")
    assert "Trying again" in text(chromium, "#notice")
    assert count(chromium, "#members tbody tr") == 3  # what was said last
    swarm.start()
    chromium.until("document.querySelector('#notice').hidden")
    chromium.until(f"{ROUND} > {before}")
    chromium.read("location.reload()")
    chromium.until(SEALED)
