"""Every command as a process: a user's mistake, no daemon, as text, and as JSON.

The table below has a line for each command there is, so that none is added without one.
What a command prints where all is well is tried beside real daemons: as JSON by
``test_json.py``, as text there, too, or by the pages whose lines are run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from p2pfusion.cli.main import COMMANDS, SUBCOMMANDS
from tests.end_to_end.programs import ROOT, Done, Program

pytestmark = pytest.mark.slow

USAGE, NOBODY, MISSING, UNHEALTHY, BAD = 2, 3, 4, 7, 8
FOUNDER = str(ROOT / "peers" / "founder.toml")
ALONE = "no daemon runs in"


@dataclass(frozen=True)
class Try:
    """Words behind a command, how it ends with them, and what it says."""

    words: str
    code: int
    says: str

    @property
    def arguments(self) -> list[str]:
        """The words, one by one."""
        return self.words.split()


@dataclass(frozen=True)
class Case:
    """What is tried of one command."""

    mistake: Try
    stopped: Try | None
    """Without a daemon; None for what starts some, or has nothing to do with them."""


def asks(mistake: Try, words: str = "") -> Case:
    """A command that asks a daemon: with these words, where there is one."""
    return Case(mistake, Try(words, NOBODY, ALONE))


EXTRA = Try("extra", USAGE, "unexpected extra argument (extra)")
LESS = Try("", USAGE, "Missing argument")
UNSURE = Try("", USAGE, "needs --yes")

CASES = {
    "demo": Case(Try("--kill 4", USAGE, "the founder must live"), None),
    "init": Case(Try("--name " + 200 * "x", BAD, "a short printable text"), None),
    "id": Case(EXTRA, Try("", MISSING, "make one with: p2pfusion init")),
    "start": Case(Try("none.toml", BAD, "there is no such file"), None),
    "stop": asks(Try("--drain soon", USAGE, "'soon' is not a valid float")),
    "join": asks(Try("p2fp1abcdefg", BAD, "neither an address nor"), "10.0.0.5:77"),
    "leave": asks(UNSURE, "--yes"),
    "recover": asks(UNSURE, "--yes"),
    "invite create": asks(Try("--expires soon", USAGE, "'soon' is not a duration")),
    "invite ls": asks(EXTRA),
    "invite revoke": asks(LESS, "7kq2m4rx"),
    "pending ls": asks(EXTRA),
    "pending accept": asks(LESS, "7kq2m4"),
    "pending deny": asks(LESS, "7kq2m4"),
    "trust ls": asks(EXTRA),
    "trust revoke": asks(Try("bob", USAGE, "needs --yes"), "bob --yes"),
    "trust pardon": asks(LESS, "bob"),
    "status": asks(Try("--chek", USAGE, "--chek")),
    "watch": asks(Try("--every 0", USAGE, "0.0 is not in the range")),
    "peers": asks(EXTRA),
    "peer show": asks(LESS, "bob"),
    "rounds": asks(Try("-n none", USAGE, "'none' is not a valid integer")),
    "round show": asks(Try("x", USAGE, "'x' is not a valid integer"), "0"),
    "wait": asks(Try("--for peers", USAGE, "'peers' is not one of"), "--for done"),
    "events": Case(
        Try("--since x", USAGE, "'x' is not a valid integer"),
        Try("", NOBODY, "none has left events"),
    ),
    "web": asks(EXTRA),
    "discover": Case(Try("--seconds x", USAGE, "'x' is not a valid float range"), None),
    "ping": asks(LESS, "bob"),
    "bench link": asks(Try("bob --seconds 0", USAGE, "0.0 is not in the range"), "bob"),
    "doctor": Case(
        Try("--profle", USAGE, "--profle"), Try("", UNHEALTHY, "p2pfusion init")
    ),
    "logs": Case(
        Try("-n x", USAGE, "'x' is not a valid integer"),
        Try("", MISSING, "there is no log"),
    ),
    "support-bundle": Case(
        Try("--redcat", USAGE, "--redcat"),
        Try("b.tar.gz", MISSING, "no peer lives in"),
    ),
    "split show": asks(Try("--method nope", BAD, "nope")),
    "export": asks(Try("nowhere/m", BAD, "no directory 'nowhere'"), "m.safetensors"),
    "evaluate": Case(Try("none --data digits", MISSING, "no such file"), None),
    "import": Case(LESS, None),
    "checkpoint ls": Case(Try("one two", USAGE, "extra argument"), Try("", 0, "")),
    "checkpoint create": asks(EXTRA),
    "pool add": Case(Try("none.safetensors", BAD, "no such file"), None),
    "pool ls": Case(EXTRA, Try("", 0, "")),
    "pool choose": Case(Try("", USAGE, "Missing option"), None),
    "profiles ls": Case(Try("nowhere", MISSING, "nowhere"), None),
    "profiles show": Case(Try("none.toml", BAD, "there is no such file"), None),
    "profiles check": Case(LESS, None),
    "sim": Case(Try("--method fedavg", USAGE, "works only with --train"), None),
    "completion": Case(Try("tcsh", USAGE, "'tcsh' is not one of"), None),
    "version": Case(EXTRA, Try("", 0, "p2pfusion ")),
}


def names() -> list[str]:
    """Every command, as it is typed."""
    return [
        f"{name} {rest}".strip()
        for name in COMMANDS
        for rest in SUBCOMMANDS.get(name, ("",))
    ]


def test_every_command_has_a_line() -> None:
    assert list(CASES) == names()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """The commands of a home without a daemon, typed in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return Program(tmp_path / "home")


def tried(program: Program, command: str, given: Try) -> Done:
    """As text and, compared with its schema by ``Program``, as JSON."""
    spoken = program.run(*command.split(), *given.arguments)
    as_data = program.run(*command.split(), *given.arguments, "--json")
    assert (spoken.code, as_data.code) == (given.code, given.code), (spoken, as_data)
    assert given.says in spoken.out + spoken.err, spoken
    assert "Traceback" not in spoken.err + as_data.err
    return spoken


@pytest.mark.parametrize("command", CASES)
def test_a_mistake_is_one_line_that_says_what_to_do(
    command: str, program: Program
) -> None:
    done = tried(program, command, CASES[command].mistake)
    assert done.out == "" and done.err.count("\n") == 1
    assert done.err.startswith("p2pfusion: ") and "; " in done.err


@pytest.mark.parametrize("command", [c for c in CASES if CASES[c].stopped])
def test_without_a_daemon(command: str, program: Program) -> None:
    given = CASES[command].stopped
    assert given is not None
    done = tried(program, command, given)
    if given.code == NOBODY:
        assert done.out == "" and done.err.count("\n") == 1
        assert "start" in done.err, "it says what to do"
