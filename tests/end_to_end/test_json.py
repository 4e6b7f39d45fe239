"""Every command with ``--json``, as a process, beside daemons that run.

``Program.run`` compares each document with the schema that ``--schema`` prints; here it
is made sure that no command is left out.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from p2pfusion.cli.daemon_shapes import EVENT
from p2pfusion.cli.main import SUBCOMMANDS
from p2pfusion.cli.shapes import LINES, SHAPES
from tests.documents import check_document, differences
from tests.end_to_end.pages import Page
from tests.end_to_end.programs import (
    PATIENCE_S,
    ROOT,
    Program,
    end_marked,
    profile,
)

pytestmark = pytest.mark.slow

SWARM = """
name = "pair"
model = "mlp"
model_arguments = { hidden = [32] }
rounds = 5000
min_peers = 2
learning_rate = 0.1
admission = "pending"
"""
WAIT = ("--timeout", "240")
TINY = (
    *("sim", "--train", "--peers", "1", "--rounds", "1", "--method", "fedavg"),
    *("--split-fraction", "1", "--model", "vit", "--data", "digits"),
    *("--limit", "100", "--limit-test", "50"),
    "--model-arguments",
    '{"in_channels": 1, "image_size": 8, "patch": 4, "width": 16, "heads": 4, '
    '"layers": 2, "inner": 16, "group": 4, "classes": 10}',
)


TORCH = re.compile(r"\| +torch$", re.MULTILINE)
TRAINS = ("sim", "profiles-check", "pool-choose")
"""Commands that start a trainer process, whose complaints are theirs."""


@dataclass
class Asked:
    """Commands that were run with ``--json``, and what their data was."""

    seen: dict[str, dict[str, object]] = field(default_factory=dict)
    spoken: set[str] = field(default_factory=set)
    """Commands that were run without it as well, and said something."""

    def run(self, program: Program, *arguments: str, code: int = 0) -> str:
        """Runs one to its end, and gives its name; what it prints has been compared
        with its schema."""
        done = program.run(*arguments, "--json")
        assert done.code == code, (arguments, done)
        name = check_document(done.out)
        self.seen[name] = done.data
        return name

    def look(self, program: Program, *arguments: str) -> None:
        """Runs one that changes nothing as text, and then with ``--json``."""
        watched = Program(program.home)
        watched.environment |= program.environment | {"PYTHONPROFILEIMPORTTIME": "1"}
        done = watched.run(*arguments)
        assert done.code == 0 and done.out.strip(), (arguments, done)
        name = self.run(program, *arguments)
        self.spoken.add(name)
        if name not in TRAINS:
            assert not TORCH.search(done.err), f"{name} imports torch"


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory for homes; whatever still runs in them afterwards is ended."""
    path = tmp_path_factory.mktemp("json")
    with ExitStack() as stack:
        stack.callback(end_marked, f"{os.getpid()}-{path.name}")
        yield path


@pytest.fixture(scope="module")
def asked(homes: Path) -> Asked:
    """All of them, in an order that a swarm's life could have."""
    found = Asked()
    ann, bob = (_program(homes, name) for name in ("ann", "bob"))
    _begin(found, homes, ann, bob)
    _look(found, ann)
    _strangers(found, homes, ann)
    _model(found, homes, ann)
    found.run(bob, "leave", "--yes")
    found.run(bob, "stop")
    _lose(found, homes, ann)
    _without_daemon(found, homes)
    return found


def _program(homes: Path, name: str) -> Program:
    return Program(homes / name, f"{os.getpid()}-{homes.name}")


def _profile(homes: Path, share: int, swarm: str = "") -> str:
    data = f'partition = {{ rule = "iid", share = "{share}/2" }}\nlimit = 200'
    sections = {"data": data} | ({"swarm": swarm} if swarm else {})
    return str(profile(homes / f"{share}.toml", sections))


def _begin(found: Asked, homes: Path, ann: Program, bob: Program) -> None:
    found.run(ann, "init", "--name", "ann")
    found.look(ann, "id")
    found.run(ann, "start", _profile(homes, 0, SWARM), "--web", "0", "--detach")
    found.look(ann, "web")
    found.run(ann, "invite", "create")
    found.run(bob, "start", _profile(homes, 1), "--name", "bob", "--detach")
    found.run(bob, "join", str(found.seen["invite-create"]["ticket"]))
    found.run(ann, "wait", "--for", "round=1", *WAIT)


def _look(found: Asked, ann: Program) -> None:
    found.look(ann, "status")
    found.look(ann, "peers")
    found.look(ann, "peer", "show", "bob")
    found.look(ann, "rounds")
    found.look(ann, "round", "show", "0")
    found.look(ann, "events")
    found.look(ann, "logs")
    found.look(ann, "ping", "bob", "-c", "1")
    found.look(ann, "bench", "link", "bob", "--seconds", "0.2")
    found.look(ann, "doctor")
    found.run(ann, "support-bundle", str(ann.home.parent / "ann.tar.gz"), "--redact")
    found.look(ann, "invite", "ls")
    found.run(ann, "invite", "revoke", str(found.seen["invite-create"]["id"]))
    found.look(ann, "trust", "ls")


def _strangers(found: Asked, homes: Path, ann: Program) -> None:
    """Two knock: one is let in, and put out again."""
    (address,) = ann.run("status", "--json").data["self"]["addresses"]  # type: ignore[index]
    for name in ("cat", "dan"):
        stranger = ("--name", name, "--join", str(address), "--detach")
        assert _program(homes, name).run("start", *stranger).code == 0
    waiting: list[dict[str, str]] = []
    while len(waiting) < 2:
        found.run(ann, "pending", "ls")
        waiting = found.seen["pending-ls"]["pending"]  # type: ignore[assignment]
    ids = {each["name"]: each["id"] for each in waiting}
    found.run(ann, "pending", "accept", ids["cat"])
    found.run(ann, "pending", "deny", ids["dan"])
    found.look(ann, "trust", "pardon", "cat")
    found.run(ann, "trust", "revoke", "cat", "--yes")


def _model(found: Asked, homes: Path, ann: Program) -> None:
    file = homes / "model.safetensors"
    found.look(ann, "split", "show")
    # On a busy machine bob may have been out of sight for a moment.
    assert ann.run("wait", "--for", "peers=2", *WAIT).code == 0
    found.run(ann, "export", str(file))
    found.run(ann, "evaluate", str(file), "--data", "digits")
    found.look(ann, "checkpoint", "create")
    found.look(ann, "checkpoint", "ls")


def _lose(found: Asked, homes: Path, ann: Program) -> None:
    """A member that does not come back."""
    ticket = ann.run("invite", "create").out.strip()
    eve, member = _program(homes, "eve"), _profile(homes, 1)
    arguments = ("--name", "eve", "--join", ticket, "--detach")
    assert eve.run("start", member, *arguments).code == 0
    assert ann.run("wait", "--for", "peers=2", *WAIT).code == 0
    assert eve.run("stop").code == 0
    found.run(ann, "recover", "eve", "--yes")


def _without_daemon(found: Asked, homes: Path) -> None:
    program = _program(homes, "nobody")
    found.look(program, "version")
    found.look(program, "discover", "--seconds", "0.1")
    found.look(program, "completion", "bash")
    found.look(program, "profiles", "ls")
    found.look(program, "profiles", "show", str(ROOT / "peers" / "founder.toml"))
    found.look(program, "profiles", "check", str(ROOT / "peers" / "founder.toml"))
    file = homes / "pretrained.safetensors"
    found.run(program, *TINY, "--save", str(file))
    assert "curve" in found.seen["sim"]
    found.look(program, "sim", "--peers", "3", "--rounds", "2", "--faults", "none")
    found.look(program, "pool", "add", str(file))
    found.run(program, "import", str(file), "--model", "vit", *TINY[-2:])
    found.look(program, "pool", "ls")
    found.look(program, "pool", "choose", "--split-fraction", "1/2")


def test_every_command_has_printed_what_its_schema_says(asked: Asked) -> None:
    elsewhere = (Path(__file__).parent / "test_demo.py").read_text()
    assert 'program.run("demo", "--json"' in elsewhere
    assert asked.seen.keys() | {"demo"} == SHAPES.keys()


TEXTS = {
    "demo": ("test_access_commands.py", 'run("demo", *arguments)'),
    "import": ("test_model_files.py", 'run("import", str(begin), "--profile"'),
    "join": ("test_access_commands.py", 'run("join", once.upper(), *WAIT).code == 0'),
    "pending-deny": ("test_access_commands.py", '"deny", ids["cat"]).out'),
    "recover": ("test_operations.py", 'ann.run("recover", "bob"'),
}
"""Commands that change something and are in no page: where they are run as text."""


def test_every_command_is_run_as_text(asked: Asked) -> None:
    """Here, in the pages whose every line is run, or where the table says."""
    pages = [Page.read(ROOT / name) for name in ("README.md", "docs/tutorial.md")]
    lines = "\n".join(line for page in pages for block in page.blocks for line in block)
    for command, (file, words) in TEXTS.items():
        assert words in (Path(__file__).parent / file).read_text(), command
    left = (SHAPES.keys() | LINES.keys()) - asked.spoken - TEXTS.keys()
    assert not {each for each in left if f"p2pfusion {_typed(each)}" not in lines}


def _typed(command: str) -> str:
    """As it is typed, by the name that schemas have for it."""
    group, _, rest = command.partition("-")
    return f"{group} {rest}" if group in SUBCOMMANDS else command


def test_lines_that_go_on_have_their_shape_too(asked: Asked, homes: Path) -> None:
    ann = _program(homes, "ann")
    following = ("events", "--follow", "--since", "0")
    for typed, shape in ((("watch",), LINES["watch"]), (following, EVENT)):
        with ann.open(*typed, "--json") as process:
            assert process.stdout is not None
            document = json.loads(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            assert process.wait(PATIENCE_S) == 0
        assert not differences(document, shape), typed
    assert {"watch"} == LINES.keys()


def test_what_is_wrong_is_told_in_the_same_document(asked: Asked, homes: Path) -> None:
    done = _program(homes, "ann").run("status", "--check", "--json")
    assert done.code == 7 and check_document(done.out) == "status"
    done = _program(homes, "nobody").run("status", "--json")
    assert done.code == 3 and check_document(done.out) == "status"
