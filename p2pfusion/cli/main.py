"""The entry point ``p2pfusion``: finds the command, runs it, reports what went wrong.

The table below is the whole command line. A user's mistake ends in one line on standard
error and an exit code; only a bug of this program shows a traceback.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence

from p2pfusion.cli.command import LazyGroup
from p2pfusion.cli.output import READY_VARIABLE, Failure, discard_output, report

COMMANDS = {
    "demo": "p2pfusion.cli.demo:demo",
    "init": "p2pfusion.cli.lifecycle:init",
    "id": "p2pfusion.cli.lifecycle:identify",
    "start": "p2pfusion.cli.lifecycle:start",
    "stop": "p2pfusion.cli.lifecycle:stop",
    "join": "p2pfusion.cli.lifecycle:join",
    "leave": "p2pfusion.cli.departure:leave",
    "recover": "p2pfusion.cli.departure:recover",
    "invite": "p2pfusion.cli.access:invite_group",
    "pending": "p2pfusion.cli.access:pending_group",
    "trust": "p2pfusion.cli.access:trust_group",
    "status": "p2pfusion.cli.inspect:status",
    "watch": "p2pfusion.cli.inspect:watch",
    "peers": "p2pfusion.cli.inspect:peers",
    "peer": "p2pfusion.cli.inspect:peer_group",
    "rounds": "p2pfusion.cli.inspect:rounds",
    "round": "p2pfusion.cli.inspect:round_group",
    "wait": "p2pfusion.cli.inspect:wait",
    "events": "p2pfusion.cli.stories:events",
    "web": "p2pfusion.cli.web:web",
    "discover": "p2pfusion.cli.discover:discover",
    "ping": "p2pfusion.cli.doctor:ping",
    "bench": "p2pfusion.cli.bench:bench_group",
    "doctor": "p2pfusion.cli.doctor:doctor",
    "logs": "p2pfusion.cli.stories:logs",
    "support-bundle": "p2pfusion.cli.bundle:support_bundle",
    "split": "p2pfusion.cli.model:split_group",
    "export": "p2pfusion.cli.model:export",
    "evaluate": "p2pfusion.cli.model:evaluate",
    "import": "p2pfusion.cli.importing:import_",
    "checkpoint": "p2pfusion.cli.checkpoint:checkpoint_group",
    "pool": "p2pfusion.cli.pool:pool_group",
    "profiles": "p2pfusion.cli.profiles:profiles_group",
    "sim": "p2pfusion.cli.experiment:sim",
    "completion": "p2pfusion.cli.completion:completion",
    "version": "p2pfusion.cli.lifecycle:version",
}

SUBCOMMANDS = {
    "invite": ("create", "ls", "revoke"),
    "pending": ("ls", "accept", "deny"),
    "trust": ("ls", "revoke", "pardon"),
    "peer": ("show",),
    "round": ("show",),
    "bench": ("link",),
    "split": ("show",),
    "checkpoint": ("ls", "create"),
    "pool": ("add", "ls", "choose"),
    "profiles": ("ls", "show", "check"),
}
"""The commands that are groups, for lines that could not be run: those import none."""

cli = LazyGroup(
    "p2pfusion",
    COMMANDS,
    text="Train one model on several machines, each a part that it can hold.",
    example="p2pfusion demo",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = cli.main(args=given, prog_name="p2pfusion", standalone_mode=False)
    except BrokenPipeError:
        discard_output()
        return 1
    except (Exception, KeyboardInterrupt) as error:
        failure = Failure.of(error)
        if failure is None:
            raise
        _tell_parent(failure)
        return report(failure, as_json="--json" in given, command=_named(given))
    return result if isinstance(result, int) else 0


def _tell_parent(failure: Failure) -> None:
    """For a daemon in the background that has not said READY yet."""
    if READY_VARIABLE in os.environ:
        from p2pfusion.cli.launch import tell_parent

        error = dataclasses.asdict(failure)
        tell_parent(int(os.environ[READY_VARIABLE]), {"error": error})


def _named(given: Sequence[str]) -> str:
    """The command in a line that could not be run, as schemas name it."""
    words = [
        word
        for before, word in zip(["", *given], given, strict=False)
        if not word.startswith("-") and before != "--home"
    ]
    if not words or words[0] not in COMMANDS:
        return "p2pfusion"
    known = SUBCOMMANDS.get(words[0], ())
    return "-".join([words[0], *(word for word in words[1:2] if word in known)])


if __name__ == "__main__":
    sys.exit(main())
