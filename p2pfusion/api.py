"""Python's way in: try a swarm in one process, run a peer, ask one that runs.

``simulate`` is ``p2pfusion sim --train``, ``Peer`` is ``p2pfusion start``, and
``connect`` asks what the commands ask. Nothing here computes: torch is in processes of
their own, as everywhere, so a notebook stays small and a trainer can die alone.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from p2pfusion.daemon.client import LocalClient
from p2pfusion.daemon.home import Home
from p2pfusion.errors import ConfigError, P2PFusionError, TrainerError, reported

STOP_TIMEOUT_S = 10.0
"""Between the request to stop and a signal; a trainer in mid-step needs a moment."""

PATIENCE_S = 600.0
"""How long ``wait`` waits unless it is told."""

Tables = Mapping[str, Mapping[str, object]]
Data = dict[str, object]
Builder = Callable[..., object]


def simulate(*, model: str | Builder, **options: object) -> Data:
    """Trains a whole swarm in one process, without a network; the data that ``p2pfusion
    sim --train --json`` prints.

    ``model``: a name, or the function that builds it, which must be importable: a
    script then needs ``if __name__ == "__main__":``. ``options``: those of the command,
    with ``_`` for ``-``. Raises what the command would end with.
    """
    from p2pfusion.cli.launch import PROGRAM, python_environment

    name, path = (model, ()) if isinstance(model, str) else named(model)
    words = [w for o in ({"model": name} | options).items() for w in _words(*o)]
    done = subprocess.run(
        [*PROGRAM, "sim", "--train", "--json", *words],
        env=python_environment(path),
        stdout=subprocess.PIPE,
        check=False,
    )
    if not done.stdout:
        raise TrainerError(f"the simulation ended without a result ({done.returncode})")
    envelope = json.loads(done.stdout)
    if envelope["error"] is not None:
        raise reported(envelope["error"])
    found: Data = envelope["data"]
    return found


def _words(name: str, value: object) -> list[str]:
    """An option as it is typed."""
    option = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [option] if value else []
    text = json.dumps(value) if isinstance(value, Mapping) else str(value)
    return [option, text]


class Peer:
    """A daemon of one's own: it runs as long as the ``with`` block."""

    def __init__(
        self,
        profile: Tables | Path | str,
        *,
        home: Path | str | None = None,
        join: Sequence[str] = (),
        path: Sequence[str] = (),
    ) -> None:
        """``profile``: a file, or its tables. ``home``: default one that goes with the
        peer. ``join``: tickets or addresses. ``path``: where models are imported from.
        """
        self._is_passing = home is None
        self.home = Path(
            tempfile.mkdtemp(prefix="p2pfusion-") if home is None else home
        )
        self._profile, self._join, self._path = profile, tuple(join), tuple(path)
        self._process: subprocess.Popen[bytes] | None = None
        self.id = ""
        self.address = ""
        self.client = LocalClient(self.home)

    def __enter__(self) -> Peer:
        """Returns when the daemon answers; raises what it ended with instead."""
        from p2pfusion.cli.launch import start_in_background

        home = Home(self.home)
        home.create()
        arguments = [
            self._file(),
            *(part for j in self._join for part in ("--join", j)),
        ]
        launched = start_in_background(home, arguments, path=self._path)
        self._process = launched.process
        try:
            told = launched.ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.id, self.address = str(told["id"]), str(told["address"])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stops the daemon, and waits until it is gone."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(P2PFusionError, OSError):
                self.client.call("stop", timeout_s=1.0)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.terminate()
                process.wait()
        if self._is_passing:
            shutil.rmtree(self.home, ignore_errors=True)

    def ask(self, command: str, **arguments: object) -> Data:
        """What the daemon answers to ``status``, ``peers``, ``rounds`` and others."""
        found = self.client.call(command, timeout_s=None, on_event=None, **arguments)
        assert isinstance(found, dict)
        return found

    def wait(self, condition: str, timeout_s: float = PATIENCE_S) -> None:
        """Returns when it is ``joined`` or ``done``, or there are ``peers=K``, or it is
        in ``round=T``; ``WaitTimeoutError`` after so long."""
        self.ask("wait", **{"for": condition, "limit_s": timeout_s})

    def ticket(self, **arguments: object) -> str:
        """A ticket into the swarm that this peer has founded or is an admin of."""
        self.wait("joined")
        return str(self.ask("invite-create", **arguments)["ticket"])

    def export(self, file: Path | str) -> Data:
        """The whole model, assembled into a file; what is known of it."""
        return self.ask("export", path=str(Path(file).absolute()))

    def _file(self) -> str:
        from p2pfusion.cli.toml_text import toml_text

        if not isinstance(self._profile, Mapping):
            return str(Path(self._profile).absolute())
        file = self.home / "profile.toml"
        file.write_text(toml_text(self._profile), encoding="utf-8")
        return str(file)


def named(builder: Builder) -> tuple[str, tuple[str, ...]]:
    """The name by which a profile knows a function, and the directory to import it
    from. ``ConfigError`` for one that no other process could import."""
    module, name = builder.__module__, builder.__qualname__
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not name.isidentifier():
        raise ConfigError(
            f"the function {name} cannot be imported by another process",
            hint="define it in a file, at its outermost level",
        )
    path = Path(file).absolute()
    if module == "__main__":
        return f"{path.stem}:{name}", (str(path.parent),)
    depth = module.count(".") + (path.name == "__init__.py")
    return f"{module}:{name}", (str(path.parents[depth]),)
