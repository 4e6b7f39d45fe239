"""``support-bundle``: what somebody needs to see who is to help, in one file.

Never in it: keys, tickets, invitations, data, values of the model.
"""

from __future__ import annotations

import contextlib
import getpass
import io
import json
import os
import platform
import socket
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import click

from p2pfusion import __version__
from p2pfusion.cli.command import command
from p2pfusion.cli.connection import ask
from p2pfusion.cli.output import Data, settings, show
from p2pfusion.cli.redaction import Redaction, documents, without_tickets
from p2pfusion.cli.stories import last_lines
from p2pfusion.cli.text import plural, size
from p2pfusion.daemon.home import Home
from p2pfusion.errors import ConflictError, NotFoundError, P2PFusionError

DEFAULT_FILE = "p2pfusion-support.tar.gz"
LINES = 5_000
"""Of each log, the last so many."""

ROUNDS = 50
QUESTIONS: tuple[tuple[str, Data], ...] = (
    ("status", {}),
    ("peers", {}),
    ("rounds", {"count": ROUNDS}),
)
"""What a running daemon is asked; there need be none."""

TEXTS = ("events.1.jsonl", "events.jsonl", "daemon.log", "trainer.log")
PACKAGES = ("torch", "numpy", "pyzmq", "cryptography", "safetensors", "click")


@command("support-bundle", example="p2pfusion support-bundle --redact")
@click.argument(
    "file",
    required=False,
    default=DEFAULT_FILE,
    type=click.Path(path_type=Path, dir_okay=False),
)
@click.option(
    "--redact", is_flag=True, help="Placeholders for names, ids, addresses and paths."
)
@click.option(
    "--profile",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Put this profile in, too.",
)
def support_bundle(file: Path, redact: bool, profile: Path | None) -> None:
    """Gather what helps others to help: status, rounds, events, logs, versions.

    Works without a daemon, too. Keys, tickets and data are never in it. With --redact,
    neither are names and addresses; words that people typed may still tell something,
    so look into the file before you send it.
    """
    home = settings().chosen_home
    if not home.root.is_dir():
        raise NotFoundError(
            f"no peer lives in {home.root}", hint="choose one with --home"
        )
    texts = dict(gathered(home))
    if profile is not None:
        texts["profile.toml"] = profile.read_text(encoding="utf-8", errors="replace")
    safe = redacted(texts, home) if redact else tickets_removed(texts)
    write(file, safe)
    data = {
        "path": str(file),
        "bytes": file.stat().st_size,
        "redacted": redact,
        "files": list(safe),
    }
    show(data, lambda: _text(data, safe))


def _text(data: Data, texts: dict[str, str]) -> str:
    kept = "" if data["redacted"] else "; names and addresses are in it: --redact"
    count = plural(len(texts), "file")
    return f"Wrote {data['path']}: {count}, {size(float(str(data['bytes'])))}{kept}"


def gathered(home: Home) -> Iterator[tuple[str, str]]:
    """Every text of the bundle, by the name of its file."""
    yield "versions.json", _json(_versions())
    yield "files.json", _json(_files(home))
    for question, arguments in QUESTIONS:
        try:
            yield f"{question}.json", _json(ask(home, question, arguments))
        except P2PFusionError as error:
            yield f"{question}.txt", f"{error.name}: {error.message}\n"
    for name in TEXTS:
        path = home.root / name
        if path.is_file():
            with open(path, "rb") as opened:
                yield name, "\n".join(last_lines(opened, LINES)) + "\n"


def tickets_removed(texts: dict[str, str]) -> dict[str, str]:
    """The same texts without tickets."""
    return {name: without_tickets(text) for name, text in texts.items()}


def redacted(texts: dict[str, str], home: Home) -> dict[str, str]:
    """The same texts with placeholders for what they tell of people and machines."""
    redaction = Redaction(_places(home))
    for name, text in texts.items():
        if name.endswith(".json"):
            redaction.learn(json.loads(text))
        elif name.endswith(".jsonl"):
            for document in documents(text.splitlines()):
                redaction.learn(document)
    return {name: redaction.text(text) for name, text in texts.items()}


def _places(home: Home) -> dict[str, str]:
    """This machine, this user, and where things lie."""
    found = {socket.gethostname(): "<host>", str(Path.home()): "<user's home>"}
    found[str(home.root.absolute())] = "<home>"
    found[str(home.root)] = "<home>"
    with contextlib.suppress(KeyError, OSError):  # a container's may have no name
        found[getpass.getuser()] = "<user>"
    return {word: shown for word, shown in found.items() if len(word) > 1}


def _versions() -> Data:
    return {
        "p2pfusion": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "packages": {name: _installed(name) for name in PACKAGES},
    }


def _installed(name: str) -> str | None:
    """The version of a package, by the directory that its installer has left."""
    for path in sys.path:
        for found in Path(path).glob(f"{name}-*.dist-info"):
            return found.name.removesuffix(".dist-info").partition("-")[2]
    return None


def _files(home: Home) -> Data:
    """Names and sizes of what lies in the home, not its content."""
    sizes: Data = {}
    for path in sorted(path for path in home.root.rglob("*") if path.is_file()):
        # A running daemon's temporary files may be gone by now.
        with contextlib.suppress(FileNotFoundError):
            sizes[path.relative_to(home.root).as_posix()] = path.stat().st_size
    return sizes


def _json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write(file: Path, texts: dict[str, str]) -> None:
    """The archive, readable by its owner alone; ``ConflictError`` if FILE exists."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConflictError(f"{file} exists", hint="name another file") from None
    folder = Path(DEFAULT_FILE).name.partition(".")[0]
    with (
        open(descriptor, "wb") as raw,
        tarfile.open(fileobj=raw, mode="w:gz") as archive,
    ):
        for name, text in texts.items():
            content = text.encode()
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size, member.mtime = len(content), int(time.time())
            archive.addfile(member, io.BytesIO(content))
