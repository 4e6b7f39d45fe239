"""The command line as a whole: options, help, envelope, exit codes, start-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from p2pfusion.cli.main import COMMANDS, SUBCOMMANDS, cli, main
from tests.cli.samples import JOINED, PEERS
from tests.cli.stub import answering

ROOT = Path(__file__).resolve().parents[2]

OPTIONS = {
    "demo": "--peers --rounds --method --model --data --split-fraction --seed --kill "
    "--keep --insecure-loopback",
    "init": "--name",
    "id": "",
    "start": "PROFILE --swarm --join --listen --advertise --lan --name --metrics "
    "--web --tensorboard --detach --insecure-loopback",
    "stop": "--drain",
    "watch": "--every",
    "join": "ADDRESS --timeout",
    "leave": "--yes --timeout",
    "recover": "PEERS --reason --yes",
    "invite create": "--uses --expires --role --qr",
    "invite ls": "",
    "invite revoke": "INVITE",
    "pending ls": "",
    "pending accept": "PEER",
    "pending deny": "PEER",
    "trust ls": "",
    "trust revoke": "PEER --reason --yes",
    "trust pardon": "PEER",
    "status": "--check",
    "peers": "",
    "peer show": "PEER",
    "rounds": "-n",
    "round show": "NUMBER",
    "wait": "--for --timeout",
    "events": "--follow --since -n",
    "web": "",
    "discover": "--seconds",
    "ping": "PEER -c",
    "bench link": "PEER --seconds",
    "doctor": "PROFILE",
    "logs": "--follow -n --trainer",
    "support-bundle": "FILE --redact --profile",
    "split show": "--method --model --model-arguments --peers --split-fraction "
    "--memory --data --batch --rounds --seed --round --peer --plot",
    "export": "FILE",
    "checkpoint ls": "DIRECTORY --no-verify",
    "checkpoint create": "",
    "pool add": "FILE",
    "pool ls": "",
    "pool choose": "--split-fraction --limit",
    "import": "FILE --profile --model --model-arguments --data --ignore",
    "evaluate": "FILE --data --model --model-arguments",
    "sim": "--train --peers --rounds --seed --split-fraction --faults --network "
    "--policy --method --method-arguments --objective --objective-arguments --preset "
    "--model --model-arguments --data --limit "
    "--limit-test --vocabulary --augment --partition --alpha "
    "--batch --local-epochs --local-steps --learning-rate --optimiser --momentum "
    "--outer-momentum --clip-relative --proximal --delay --wire-dtype "
    "--secure-aggregation --privacy-noise --privacy-clip --weighting "
    "--fusion --attack --attackers --quarantine --second-opinions "
    "--label-mask "
    "--logit-adjustment --eval-every "
    "--shares --participants --ensemble --full-forward --slowness --quorum "
    "--max-staleness "
    "--probe-labels --fine-tune-labels --pretrained --save",
    "profiles ls": "DIRECTORY",
    "profiles show": "PROFILE",
    "profiles check": "PROFILES --measure --model --model-arguments",
    "completion": "SHELL",
    "version": "",
}
"""Every option there is, besides those of COMMON and --help. What does not change from
one launch to the next belongs in a profile: think twice before you add a line."""

COMMON = {"--home", "--json", "--schema"}
"""What every command has."""

HEAVY = {"torch", "numpy", "zmq", "msgpack", "rich", "cryptography", "matplotlib"}
HEAVY |= {"segno"}


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from commands(found, f"{path}{name} ")
        else:
            yield path + name, found


ALL = dict(commands(cli))


def test_the_list_of_options_is_frozen() -> None:
    found = {}
    for path, command in ALL.items():
        names = [
            p.opts[0] if isinstance(p, click.Option) else p.name.upper()  # type: ignore[union-attr]
            for p in command.params
        ]
        assert set(names) >= COMMON
        found[path] = sorted(set(names) - COMMON)
    assert found == {path: sorted(text.split()) for path, text in OPTIONS.items()}


def test_the_groups_and_their_commands_are_known_without_importing_them() -> None:
    found: dict[str, list[str]] = {}
    for path in ALL:
        group, _, name = path.partition(" ")
        if name:
            found.setdefault(group, []).append(name)
    assert {group: list(names) for group, names in SUBCOMMANDS.items()} == found


@pytest.mark.parametrize("path", ["", *SUBCOMMANDS, *ALL])
def test_help_ends_with_an_example(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*path.split(), "--help"]) == 0
    last = capsys.readouterr().out.rstrip().split("\n")[-1].strip()
    assert last.startswith(f"p2pfusion {path}".strip())


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in COMMANDS)


def run(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["sttus"], 2, "Did you mean"),
        (["status", "--chek"], 2, "--chek"),
        (["round", "show", "x"], 2, "'x' is not a valid integer"),
        (["wait"], 2, "Missing option '--for'"),
        (["wait", "--for", "peers"], 2, "'peers' is not one of"),
        (["demo", "--kill", "4"], 2, "the founder must live"),
        (["sim", "--method", "fedavg"], 2, "'--method' works only with --train"),
        (["sim", "--train", "--network", "lan"], 2, "only beside --faults"),
        (["sim", "--faults", "nowhere.toml"], 8, "there is no such file"),
        (["invite", "create", "--uses", "-1"], 2, "-1 is not in the range"),
        (["invite", "create", "--expires", "soon"], 2, "'soon' is not a duration"),
        (["invite", "create", "--expires", "0h"], 2, "'0h' is not a duration"),
        (["invite", "create", "--expires", "-1h"], 2, "'-1h' is not a duration"),
        (["invite", "create", "--role", "king"], 2, "'king' is not one of"),
        (["invite", "revoke"], 2, "Missing argument 'ID'"),
        (["trust", "revoke", "bob"], 2, "needs --yes"),
        (["status"], 3, "no daemon runs"),
        (["join", "10.0.0.5:7788"], 3, "no daemon runs"),
        (["invite", "create"], 3, "no daemon runs"),
        (["invite", "ls"], 3, "no daemon runs"),
        (["invite", "revoke", "7kq2m4rx"], 3, "no daemon runs"),
        (["pending", "ls"], 3, "no daemon runs"),
        (["pending", "accept", "7kq2m4"], 3, "no daemon runs"),
        (["pending", "deny", "7kq2m4"], 3, "no daemon runs"),
        (["trust", "ls"], 3, "no daemon runs"),
        (["trust", "revoke", "bob", "--yes"], 3, "no daemon runs"),
        (["peer", "show", "bob"], 3, "no daemon runs"),
        (["leave"], 2, "needs --yes"),
        (["recover"], 2, "needs --yes"),
        (["leave", "--yes"], 3, "no daemon runs"),
        (["recover", "--yes"], 3, "no daemon runs"),
        (["watch"], 3, "no daemon runs"),
        (["ping", "bob"], 3, "no daemon runs"),
        (["events"], 3, "none has left events"),
        (["events", "--follow"], 3, "no daemon runs"),
        (["logs"], 4, "there is no log"),
        (["id"], 4, "no peer lives in"),
        (["evaluate", "none.safetensors", "--data", "digits"], 4, "no such file"),
        (["start", "none.toml"], 8, "none.toml: there is no such file"),
        (["start", "--join", "nowhere"], 8, "--join is 'nowhere'"),
        (["start", "--metrics", "here"], 8, "--metrics is 'here'"),
        (["start", "--web", "here"], 8, "--web is 'here'"),
        (["join", ""], 8, "the way in is ''"),
        (["join", "p2fp1abcdefg"], 8, "neither an address nor a ticket"),
        (["join", "p2pf1abcdefg"], 5, "mistyped or cut off"),
        (["join", "p2pf2abcdefg"], 5, "made by a newer version"),
        (["start", "--join", "P2PF1ABCDEFG"], 5, "mistyped or cut off"),
        (["split", "show", "--method", "nope"], 8, "nope"),
        (
            ["split", "show", "--method", "msfusion", "--split-fraction", "2"],
            8,
            "(0, 1]",
        ),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    arguments: list[str],
    code: int,
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found, out, err = run(["--home", str(tmp_path), *arguments], capsys)
    assert (found, out) == (code, "")
    assert err.count("\n") == 1 and err.startswith("p2pfusion: ") and told in err
    assert "; " in err, "says what to do"


@pytest.mark.parametrize(
    ("arguments", "schema", "code", "name"),
    [
        (["status", "--json"], "p2pfusion.status/v1", 3, "not-running"),
        (["--json", "round", "show", "3"], "p2pfusion.round-show/v1", 3, "not-running"),
        (["wait", "--json"], "p2pfusion.wait/v1", 2, "usage"),
        (["--json", "sttus"], "p2pfusion.p2pfusion/v1", 2, "usage"),
        (["start", "x.toml", "--json"], "p2pfusion.start/v1", 8, "bad-configuration"),
        (["invite", "ls", "--json"], "p2pfusion.invite-ls/v1", 3, "not-running"),
        (
            ["--json", "trust", "revoke", "x", "--yes"],
            "p2pfusion.trust-revoke/v1",
            3,
            "not-running",
        ),
        (["invite", "make", "--json"], "p2pfusion.invite/v1", 2, "usage"),
        (["join", "p2pf1x", "--json"], "p2pfusion.join/v1", 5, "denied"),
        (["id", "--json"], "p2pfusion.id/v1", 4, "not-found"),
    ],
)
def test_with_json_a_mistake_is_an_envelope(
    arguments: list[str],
    schema: str,
    code: int,
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found, out, err = run(["--home", str(tmp_path), *arguments], capsys)
    document = json.loads(out)
    assert (found, err) == (code, "")
    assert list(document) == ["schema", "ok", "error", "generated_at", "data"]
    assert document["schema"] == schema
    assert (document["ok"], document["data"]) == (False, None)
    assert (document["error"]["code"], document["error"]["name"]) == (code, name)
    assert document["error"]["message"] and document["error"]["hint"]


def test_home_and_json_stand_before_the_command_or_after(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = ["--home", str(tmp_path)]
    with answering(tmp_path, {"status": JOINED, "peers": PEERS}):
        for arguments in (
            [*home, "--json", "status"],
            ["status", *home, "--json"],
            [*home, "status", "--json"],
            ["--json", "status", *home],
        ):
            code, out, _ = run(arguments, capsys)
            document = json.loads(out)
            assert (code, document["ok"], document["error"]) == (0, True, None)
            assert document["data"] == JOINED
        monkeypatch.setenv("P2PFUSION_HOME", str(tmp_path))
        assert run(["status"], capsys)[0] == 0
        assert run(["--home", str(tmp_path / "x"), "status"], capsys)[0] == 3


def test_times_are_rfc_3339_in_utc(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = datetime.now(UTC)
    _, out, _ = run(["version", "--json"], capsys)
    text = json.loads(out)["generated_at"]
    assert text.endswith("Z")
    assert abs((datetime.fromisoformat(text) - before).total_seconds()) < 60


def modules_after(arguments: list[str]) -> set[str]:
    """What the interpreter has imported once a command has run."""
    script = (
        "import sys\n"
        "from p2pfusion.cli.main import main\n"
        f"main({arguments!r})\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {line.partition(".")[0] for line in done.stderr.splitlines()}


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            ["status"],
            ["peers"],
            ["rounds"],
            ["stop"],
            ["events"],
            ["wait", "--for", "done"],
            ["web"],
        ),
        *(["invite", "create"], ["invite", "ls"], ["pending", "ls"], ["trust", "ls"]),
    ],
    ids=" ".join,
)
def test_asking_a_daemon_imports_nothing_slow(
    arguments: list[str], tmp_path: Path
) -> None:
    answers = {
        "status": JOINED,
        "peers": PEERS,
        "rounds": {"rounds": []},
        "events": {"events": [], "newest": 0},
        "wait": {"reached": "done", "round": 20},
        "invite-create": {"ticket": "p2pf1x"},
        "invite-ls": {"invites": []},
        "pending-ls": {"admission": "ticket", "pending": []},
        "trust-ls": {"peers": [], "first_contacts": {}},
    }
    with answering(tmp_path, answers):
        # ``stop`` would end this very process's stand-in: here it finds nobody.
        home = tmp_path / "nobody" if arguments == ["stop"] else tmp_path
        modules = modules_after(["--home", str(home), *arguments])
    assert "p2pfusion" in modules
    assert not modules & HEAVY


def test_joining_imports_nothing_slow(tmp_path: Path) -> None:
    assert not modules_after(["--home", str(tmp_path), "join", "a:1"]) & HEAVY


@pytest.mark.parametrize("arguments", [["split", "show"], ["start", "no.toml"]])
def test_the_command_line_never_imports_torch(
    arguments: list[str], tmp_path: Path
) -> None:
    modules = modules_after(["--home", str(tmp_path), *arguments])
    assert "p2pfusion" in modules
    assert "torch" not in modules


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} cli.py --help | true"
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_a_python_without_the_packages_is_told_how_to_get_them() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "cli.py", "version"],  # -S: nothing installed is found
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("p2pfusion: this Python has no module ")
    assert "make .venv" in done.stderr and done.stderr.count("\n") == 1
