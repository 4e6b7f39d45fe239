"""Launcher for a checkout: ``python cli.py ...`` equals ``p2pfusion ...``.

Nothing but the call may live here, and what a Python is told that is too old for the
rest, or lacks the packages that it needs.
"""

from __future__ import annotations

import sys

OLDEST = (3, 11)


def main() -> int:
    """Runs one command; gives the exit code."""
    if sys.version_info[:2] < OLDEST:
        found = ".".join(map(str, sys.version_info[:2]))
        print(
            f"p2pfusion: this is Python {found}, and 3.11 or newer is needed; "
            "name one: make PYTHON=/path/to/python3.11, then .venv/bin/p2pfusion",
            file=sys.stderr,
        )
        return 1
    try:
        from p2pfusion.cli import main as program

        return program.main()
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("p2pfusion"):
            raise
        print(
            f"p2pfusion: this Python has no module {error.name}; `make .venv` installs "
            "all that is needed, then run .venv/bin/p2pfusion",
            file=sys.stderr,
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())
