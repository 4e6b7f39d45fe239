"""Launcher for a checkout: ``python cli.py ...`` equals ``p2pfusion ...``.

Nothing but the call may live here, and what an older Python is told, which could not
read the rest.
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
    from p2pfusion.cli import main as program

    return program.main()


if __name__ == "__main__":
    sys.exit(main())
