"""The commands of operation, as processes: what they say of daemons, and end with."""

from __future__ import annotations

import ast
import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from p2pfusion.cli.main import COMMANDS, SUBCOMMANDS
from p2pfusion.store.checksum import file_hash
from tests.end_to_end.programs import (
    PATIENCE_S,
    Program,
    answered_at_a_terminal,
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
"""
WAIT = ("--timeout", "240")
POLLS = 200


def sections(share: int, *, founder: bool = False) -> dict[str, str]:
    data = f'partition = {{ rule = "iid", share = "{share}/2" }}\nlimit = 200'
    return {"data": data} | ({"swarm": SWARM} if founder else {})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, Program]]:
    """Two daemons that train without end."""
    path = tmp_path_factory.mktemp("pair")
    mark = f"{os.getpid()}-{path.name}"
    with ExitStack() as stack:
        stack.callback(end_marked, mark)
        ann, bob = Program(path / "a", mark), Program(path / "b", mark)
        founder = str(profile(path / "a.toml", sections(0, founder=True)))
        assert ann.run("start", founder, "--name", "ann", "--detach").code == 0
        ticket = ann.run("invite", "create").out.strip()
        member = str(profile(path / "b.toml", sections(1)))
        arguments = ("--name", "bob", "--join", ticket, "--detach")
        assert bob.run("start", member, *arguments).code == 0
        for program in (ann, bob):
            assert program.run("wait", "--for", "round=1", *WAIT).code == 0
        yield ann, bob


def test_events_and_logs_tell_what_has_happened(pair: tuple[Program, Program]) -> None:
    ann, bob = pair
    events = ann.run("events", "--since", "0", "--json").data["events"]
    assert isinstance(events, list)
    kinds = [event["kind"] for event in events]
    assert kinds[0] == "daemon-started"
    assert {"joined", "newcomer-admitted", "started", "round-sealed"} <= set(kinds)
    assert "joined the swarm pair" in bob.run("events", "-n", "500").out
    assert "joined the swarm pair" in bob.run("logs", "-n", "5000").out


def test_events_are_followed_as_they_happen(pair: tuple[Program, Program]) -> None:
    with pair[0].open("events", "--follow", "--json", "-n", "0") as process:
        assert process.stdout is not None
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(PATIENCE_S) == 0
    assert second["number"] == first["number"] + 1


def test_a_peer_is_looked_at_and_pinged(pair: tuple[Program, Program]) -> None:
    ann, _ = pair
    shown = ann.run("peer", "show", "bob")
    assert shown.code == 0 and shown.out.startswith("bob  ")
    assert ann.run("peer", "show", "eve").code == 4
    pinged = ann.run("ping", "bob", "-c", "2", "--json")
    assert pinged.code == 0 and pinged.data["answered"] == 2
    assert ann.run("ping", "eve").code == 4


def test_the_doctor_finds_nothing(pair: tuple[Program, Program]) -> None:
    done = pair[0].run("doctor")
    assert done.code == 0, done
    assert "peer: bob: online" in done.out and done.out.endswith("All is well.\n")


def newest_of_both(program: Program) -> dict[str, Any] | None:
    """The newest round in which both took part, and the other's offer came in time. On
    a busy machine there are some in which one goes on without the other, or with its
    values alone."""
    rows = program.run("rounds", "-n", "100", "--json").data["rounds"]
    assert isinstance(rows, list)
    both = [row for row in rows if len(row["contributors"]) == 2 and row["offers"]]
    return max(both, key=lambda row: row["number"], default=None)


def test_rounds_tell_where_their_time_went(pair: tuple[Program, Program]) -> None:
    done = next(filter(None, (newest_of_both(pair[0]) for _ in range(POLLS))))
    assert done["phases"].keys() == {"train", "offers", "exchange"}
    assert done["deadlines"]["maximum_s"] > 0
    shown = pair[0].run("round", "show", str(done["number"])).out
    assert "training" in shown and "OFFERED" in shown


def test_status_is_watched_until_the_keyboard_ends_it(
    pair: tuple[Program, Program],
) -> None:
    with pair[0].open("watch", "--every", "0.1") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Swarm   pair")
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(PATIENCE_S) == 0


def test_a_wait_that_ends_in_vain_names_whom(pair: tuple[Program, Program]) -> None:
    done = pair[0].run("wait", "--for", "peers=3", "--timeout", "0.2")
    assert done.code == 6 and "waiting for: " in done.err


def test_checkpoints_are_made_and_listed(pair: tuple[Program, Program]) -> None:
    ann, _ = pair
    assert ann.run("checkpoint", "create").code == 0
    found = ann.run("checkpoint", "ls", "--json").data["checkpoints"]
    assert isinstance(found, list) and len(found) >= 1


def test_a_peer_that_stops_politely_is_missed_by_name(
    pair: tuple[Program, Program],
) -> None:
    ann, bob = pair
    settings = str(bob.home.parent / "b.toml")
    assert bob.run("stop", "--drain", "20").code == 0
    told = bob.run("events", "-n", "10").out
    assert "daemon-stopped: the daemon stopped: it was told to" in told
    assert "draining: finishes its round" in told
    done = ann.run("ping", "bob", "-c", "1")
    assert done.code == 6 and "nobody listens there" in done.err
    assert ann.run("status", "--check").code == 7
    doctor = ann.run("doctor")
    assert doctor.code == 7 and "bob" in doctor.out
    assert bob.run("start", settings, "--name", "bob", "--detach").code == 0
    assert bob.run("wait", "--for", "peers=2", *WAIT).code == 0


@pytest.mark.parametrize(
    ("command", "told"),
    [("leave", "it has not left"), ("recover", "nobody was declared lost")],
)
def test_who_does_not_type_the_word_does_nothing(
    command: str, told: str, pair: tuple[Program, Program]
) -> None:
    ann, _ = pair
    named = ("bob",) if command == "recover" else ()
    done = answered_at_a_terminal(ann, "yes", command, *named)
    assert done.code == 1 and told in done.err, done
    assert f"Type '{command}' to go on" in done.err
    assert ann.run("status", "--json").data["roster"]["members"] == 2  # type: ignore[index]


def test_a_peer_leaves_and_comes_back(pair: tuple[Program, Program]) -> None:
    ann, bob = pair
    ticket = ann.run("invite", "create").out.strip()
    left = bob.run("leave", "--yes")
    assert left.code == 0 and left.out == "Left the swarm pair.\n", left
    assert bob.run("status", "--json").data["state"]["code"] == "left"  # type: ignore[index]
    assert "left with epoch" in ann.run("peers").out
    assert bob.run("join", ticket).code == 0
    assert bob.run("wait", "--for", "peers=2", *WAIT).code == 0


def test_a_peer_that_will_not_come_back_is_declared_lost(
    pair: tuple[Program, Program],
) -> None:
    ann, bob = pair
    refused = bob.run("recover", "--yes")
    assert refused.code == 5, refused
    assert ann.run("recover", "--yes").code == 10, "everybody is there"
    assert bob.run("stop").code == 0
    done = ann.run("recover", "bob", "--reason", "burnt", "--yes")
    assert done.code == 0 and done.out.startswith("Declared lost: bob."), done
    assert "declared lost: bob" in ann.run("events").out
    assert "declared lost, out since epoch" in ann.run("peers").out


def test_commands_that_need_no_daemon(tmp_path: Path) -> None:
    program = Program(tmp_path / "nobody")
    options = ("--peers", "3", "--rounds", "2", "--faults", "none", "--json")
    assert program.run("sim", *options).data["violations"] == []
    assert program.run("version").out.startswith("p2pfusion ")
    assert program.run("split", "show", "--method", "fedavg", "--peers", "2").code == 0
    file = tmp_path / "begins.safetensors"
    save_file({"w": np.zeros(3, np.float32)}, file)
    added = program.run("pool", "add", str(file))
    assert (added.code, added.out.strip()) == (0, file_hash(file)), added
    (listed,) = program.run("pool", "ls", "--json").data["pool"]  # type: ignore[misc]
    assert listed["hash"] == file_hash(file) and listed["verified"] is True
    refused = program.run("pool", "choose", "--split-fraction", "1/2")
    assert refused.code == 8 and "does not say which model" in refused.err, refused


def is_soak(node: ast.stmt) -> bool:
    """Whether a statement is, or says of its file, what only ``make soak`` runs."""
    if isinstance(node, ast.FunctionDef):
        return any(ast.unparse(d) == "pytest.mark.soak" for d in node.decorator_list)
    return ast.unparse(node).startswith("pytestmark") and "soak" in ast.unparse(node)


def run_by_make_test(path: Path) -> str:
    """The text of a file without the tests that ``make test`` leaves out."""
    text = path.read_text()
    lines, body = text.splitlines(), ast.parse(text).body
    for node in filter(is_soak, body):
        if not isinstance(node, ast.FunctionDef):
            return ""
        assert node.end_lineno is not None
        lines[node.lineno - 1 : node.end_lineno] = [""] * (
            node.end_lineno - node.lineno + 1
        )
    return "\n".join(lines)


def test_every_command_is_run_as_a_process_by_some_test_of_make_test() -> None:
    texts = "\n".join(map(run_by_make_test, Path(__file__).parent.glob("*.py")))
    for name in COMMANDS:
        for rest in SUBCOMMANDS.get(name, ("",)):
            words = f'"{name}", "{rest}"' if rest else f'"{name}"'
            assert words in texts, f"nothing here runs {name} {rest}"


def test_the_first_signal_drains_and_the_second_ends(tmp_path: Path) -> None:
    endless = SWARM.replace("min_peers = 2", "min_peers = 1\nlocal_epochs = 10000")
    founder = profile(tmp_path / "a.toml", {"data": "limit = 200", "swarm": endless})
    mark = f"{os.getpid()}-{tmp_path.name}"
    program = Program(tmp_path / "a", mark)
    with ExitStack() as stack:
        stack.callback(end_marked, mark)
        daemon = stack.enter_context(program.open("start", str(founder)))
        assert daemon.stdout is not None and daemon.stdout.readline()
        assert program.run("wait", "--for", "round=0", *WAIT).code == 0
        daemon.send_signal(signal.SIGTERM)
        status = program.run("status", "--json").data
        assert status["state"]["code"] == "draining"  # type: ignore[index]
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(PATIENCE_S) == 0
