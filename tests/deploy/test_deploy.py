"""The files of deploy/: read by their own tools where there are any, and their commands
parsed by the program that they call."""

from __future__ import annotations

import os
import plistlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from p2pfusion import errors
from p2pfusion.cli.main import COMMANDS, cli
from p2pfusion.daemon.config import load_profile, parse_profile
from p2pfusion.daemon.ending import DRAIN_S

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "p2pfusion.service"
COMPOSE = DEPLOY / "container" / "compose.yaml"
CONTAINERFILE = DEPLOY / "container" / "Containerfile"
KUBERNETES = DEPLOY / "kubernetes" / "swarm.yaml"
PLIST = DEPLOY / "launchd" / "org.p2pfusion.peer.plist"
SLURM = DEPLOY / "slurm"
DRAIN_MARGIN_S = 15
"""Beyond the drain: the trainer ends, the store is flushed."""

Table = dict[str, object]


def parsed(words: list[str]) -> dict[str, object]:
    """What the program understands of a command line, without doing it."""
    rest = words[2:] if words[0] == "--home" else list(words)
    command: click.Command = cli
    context = click.Context(cli, info_name="p2pfusion")
    while isinstance(command, click.Group):
        name, command, rest = command.resolve_command(context, rest)
        assert command is not None, words
        context = click.Context(command, info_name=name, parent=context)
    return command.make_context(name, rest, parent=context.parent).params


def documents(path: Path) -> list[dict]:  # type: ignore[type-arg]
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def seconds(text: str) -> int:
    """``45s`` or ``45``."""
    return int(text.removesuffix("s"))


# --- The commands that stand in them -------------------------------------------------


def commands_in(path: Path) -> list[list[str]]:
    """Every command of this program in comments or lines of a file, ``\\`` joined."""
    text = re.sub(r"\\\n#?\s*", " ", path.read_text())
    found = re.findall(r"(?:^|\s)p2pfusion ((?:--home \S+ )?[a-z][^\n`]*)", text, re.M)
    split = [shlex.split(each.rstrip(".,")) for each in found]
    names = [words[2] if words[0] == "--home" else words[0] for words in split]
    return [w for w, name in zip(split, names, strict=True) if name in COMMANDS]


TEXTS = [path for path in sorted(DEPLOY.rglob("*")) if path.suffix != ".json"]


@pytest.mark.parametrize(
    ("path", "words"),
    [(p, words) for p in TEXTS if p.is_file() for words in commands_in(p)],
    ids=lambda v: v.name if isinstance(v, Path) else " ".join(v)[:40],
)
def test_every_command_that_is_named_exists(path: Path, words: list[str]) -> None:
    parsed([word for word in words if word != "$@"])


def test_a_command_that_does_not_exist_is_found() -> None:
    with pytest.raises(click.UsageError):
        parsed(["start", "--metric", "9464"])
    with pytest.raises(click.UsageError):
        parsed(["peer", "list"])
    assert commands_in(UNIT) and commands_in(COMPOSE) and commands_in(KUBERNETES)


# --- systemd -------------------------------------------------------------------------


def unit_values(key: str) -> list[str]:
    """Every value of a key in the unit."""
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)


def local_unit(tmp_path: Path) -> Path:
    """The unit with a program that exists on this machine."""
    (start,) = unit_values("ExecStart")
    program = start.split()[0]
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace(program, sys.executable))
    return path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("there is no systemd-analyze on this machine")
    return subprocess.run([tool, *arguments], capture_output=True, text=True)


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    path = local_unit(tmp_path)
    done = analyze("verify", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    path.write_text(path.read_text().replace("WatchdogSec=120", "WatchdogSec=often"))
    assert "Failed to parse" in analyze("verify", str(path)).stderr, "it can say no"


def test_systemd_calls_the_unit_well_confined(tmp_path: Path) -> None:
    done = analyze("security", "--offline=true", str(local_unit(tmp_path)))
    found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done
    assert float(found[1]) < 2.0, done.stdout


def test_the_unit_calls_the_program_as_it_is() -> None:
    (start,) = unit_values("ExecStart")
    assert parsed(start.split()[1:])["metrics"] == ("127.0.0.1", 9464)
    assert unit_values("Type") == ["notify"]
    assert seconds(unit_values("TimeoutStopSec")[0]) >= DRAIN_S + DRAIN_MARGIN_S
    # What the trainer and the daemon do to themselves must stay allowed.
    filters = " ".join(unit_values("SystemCallFilter"))
    assert "@system-service" in filters and "~@resources" not in filters


def test_no_restart_where_it_cannot_help() -> None:
    (prevented,) = unit_values("RestartPreventExitStatus")
    codes = {
        kind.exit_code
        for kind in (
            errors.DeniedError,
            errors.ConfigError,
            errors.DataError,
            errors.IncompatibleError,
            errors.ConflictError,
            errors.VerificationError,
        )
    }
    assert set(map(int, prevented.split())) == codes | {2}


# --- Containers ----------------------------------------------------------------------


def services() -> dict[str, dict]:  # type: ignore[type-arg]
    (compose,) = documents(COMPOSE)
    found: dict[str, dict] = compose["services"]  # type: ignore[type-arg]
    return found


def test_the_swarm_of_the_compose_file_is_whole() -> None:
    profiles = {}
    for name, service in services().items():
        params = parsed(shlex.split(service["command"]))
        assert params["name"] == name
        path = DEPLOY / "container" / str(params["profile"]).lstrip("/")
        profiles[name] = load_profile(path)
        assert params["join"] == (() if name == "peer-0" else ("peer-0:7788",))
        assert f"{name}:/var/lib/p2pfusion" in service["volumes"]
        assert seconds(service["stop_grace_period"]) >= DRAIN_S + DRAIN_MARGIN_S
    founders = [name for name, found in profiles.items() if found.swarm is not None]
    assert founders == ["peer-0"]
    swarm = profiles["peer-0"].swarm
    assert swarm is not None and swarm.values["min_peers"] == len(profiles) == 4
    shares = [found.data.partition for found in profiles.values()]
    assert [each.share for each in shares if each] == [f"{i}/4" for i in range(4)]


def test_the_image_has_what_it_names() -> None:
    text = CONTAINERFILE.read_text()
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
    for words in re.findall(r"^(?:CMD|  CMD) (\[.*\])$", text, re.MULTILINE):
        given = [word for word in yaml.safe_load(words) if word != "p2pfusion"]
        params = parsed(given)
        profile = params.get("profile")
        assert profile is None or (ROOT / "peers" / Path(str(profile)).name).is_file()
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert not {"p2pfusion", "peers", "requirements.lock", "README.md"} & set(ignored)


# --- Kubernetes ----------------------------------------------------------------------


def kinds() -> dict[str, dict]:  # type: ignore[type-arg]
    return {document["kind"]: document for document in documents(KUBERNETES)}


def test_kubernetes_reads_the_file(tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl on this machine")
    (tmp_path / KUBERNETES.name).write_text(KUBERNETES.read_text())
    resources = f"resources: [{KUBERNETES.name}]\n"
    (tmp_path / "kustomization.yaml").write_text(resources)
    done = subprocess.run(
        [kubectl, "kustomize", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = {each["kind"] for each in yaml.safe_load_all(done.stdout)}
    assert found == kinds().keys()


def test_the_parts_of_the_stateful_set_name_each_other() -> None:
    found = kinds()
    stateful, service = found["StatefulSet"]["spec"], found["Service"]
    pod = stateful["template"]["spec"]
    (container,) = pod["containers"]
    assert stateful["serviceName"] == service["metadata"]["name"]
    labels = stateful["template"]["metadata"]["labels"]
    assert labels == stateful["selector"]["matchLabels"] == service["spec"]["selector"]
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"] for volume in pod["volumes"]}
    claims = {each["metadata"]["name"] for each in stateful["volumeClaimTemplates"]}
    assert mounts == volumes | claims
    assert pod["terminationGracePeriodSeconds"] >= DRAIN_S + DRAIN_MARGIN_S
    for probe in ("startupProbe", "livenessProbe"):
        words = container[probe]["exec"]["command"]
        assert words[0] == "p2pfusion"
        parsed(words[1:])
    files = found["ConfigMap"]["data"]
    assert container["command"] == ["sh", "/etc/p2pfusion/start.sh"]
    swarm = parse_profile(files["founder.toml"], "founder.toml").swarm
    assert swarm is not None and swarm.values["min_peers"] == stateful["replicas"]


@pytest.mark.parametrize("number", range(4))
def test_each_pod_starts_as_the_peer_that_it_is(number: int, tmp_path: Path) -> None:
    files = kinds()["ConfigMap"]["data"]
    for name, text in files.items():
        moved = text.replace("/tmp/", f"{tmp_path}/")
        (tmp_path / name).write_text(moved.replace("/etc/p2pfusion", str(tmp_path)))
    teller = tmp_path / "p2pfusion"
    teller.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    teller.chmod(0o755)
    done = subprocess.run(
        ["sh", str(tmp_path / "start.sh")],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOSTNAME": f"swarm-{number}"},
        capture_output=True,
        text=True,
        check=True,
    )
    params = parsed(done.stdout.splitlines())
    assert params["name"] == f"swarm-{number}"
    assert params["advertise"] == f"swarm-{number}.swarm:7788"
    assert params["join"] == (("swarm-0.swarm:7788",) if number else ())
    assert (params["swarm"] is None) == bool(number)
    partition = load_profile(Path(str(params["profile"]))).data.partition
    assert partition is not None and partition.share == f"{number}/4"


# --- launchd and Slurm ---------------------------------------------------------------


def test_the_property_list_is_one() -> None:
    found = plistlib.loads(PLIST.read_bytes())
    assert found["Label"] == PLIST.stem
    assert found["ExitTimeOut"] >= DRAIN_S + DRAIN_MARGIN_S
    program, *words = found["ProgramArguments"]
    assert program.endswith("/bin/p2pfusion")
    assert parsed(words)["detach"] is False


@pytest.mark.parametrize("name", ["peer.sh", "swarm.sbatch"])
def test_the_scripts_are_bash(name: str) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash on this machine")
    done = subprocess.run([bash, "-n", str(SLURM / name)], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert os.access(SLURM / "peer.sh", os.X_OK)
