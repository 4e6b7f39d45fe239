"""Every command with ``--json``, as a process, beside daemons that run.

``Program.run`` compares each document with the schema that ``--schema`` prints; here it
is made sure that no command is left out.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from p2pfusion.cli.daemon_shapes import EVENT
from p2pfusion.cli.shapes import LINES, SHAPES
from tests.documents import check_document, differences
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


@dataclass
class Asked:
    """Commands that were run with ``--json``, and what their data was."""

    seen: dict[str, dict[str, object]] = field(default_factory=dict)

    def run(self, program: Program, *arguments: str, code: int = 0) -> None:
        """Runs one to its end; what it prints has been compared with its schema."""
        done = program.run(*arguments, "--json")
        assert done.code == code, (arguments, done)
        self.seen[check_document(done.out)] = done.data


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
    found.run(ann, "id")
    found.run(ann, "start", _profile(homes, 0, SWARM), "--detach")
    found.run(ann, "invite", "create")
    found.run(bob, "start", _profile(homes, 1), "--name", "bob", "--detach")
    found.run(bob, "join", str(found.seen["invite-create"]["ticket"]))
    found.run(ann, "wait", "--for", "round=1", *WAIT)


def _look(found: Asked, ann: Program) -> None:
    found.run(ann, "status")
    found.run(ann, "peers")
    found.run(ann, "peer", "show", "bob")
    found.run(ann, "rounds")
    found.run(ann, "round", "show", "0")
    found.run(ann, "events")
    found.run(ann, "logs")
    found.run(ann, "ping", "bob", "-c", "1")
    found.run(ann, "doctor")
    found.run(ann, "support-bundle", str(ann.home.parent / "ann.tar.gz"), "--redact")
    found.run(ann, "invite", "ls")
    found.run(ann, "invite", "revoke", str(found.seen["invite-create"]["id"]))
    found.run(ann, "trust", "ls")


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
    found.run(ann, "trust", "revoke", "cat", "--yes")


def _model(found: Asked, homes: Path, ann: Program) -> None:
    file = homes / "model.safetensors"
    found.run(ann, "split", "show")
    found.run(ann, "export", str(file))
    found.run(ann, "evaluate", str(file), "--data", "digits")
    found.run(ann, "checkpoint", "create")
    found.run(ann, "checkpoint", "ls")


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
    found.run(program, "version")
    found.run(program, "discover", "--seconds", "0.1")
    found.run(program, "completion", "bash")
    found.run(program, "profiles", "ls")
    found.run(program, "profiles", "show", str(ROOT / "peers" / "founder.toml"))
    found.run(program, "profiles", "check", str(ROOT / "peers" / "founder.toml"))
    file = homes / "pretrained.safetensors"
    found.run(program, *TINY, "--save", str(file))
    assert "curve" in found.seen["sim"]
    found.run(program, "sim", "--peers", "3", "--rounds", "2", "--faults", "none")
    found.run(program, "pool", "add", str(file))
    found.run(program, "pool", "ls")
    found.run(program, "pool", "choose", "--split-fraction", "1/2")


def test_every_command_has_printed_what_its_schema_says(asked: Asked) -> None:
    elsewhere = (Path(__file__).parent / "test_demo.py").read_text()
    assert 'program.run("demo", "--json"' in elsewhere
    assert asked.seen.keys() | {"demo"} == SHAPES.keys()


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
