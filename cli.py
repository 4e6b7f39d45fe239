"""Launcher for a checkout: ``python cli.py ...`` equals ``p2pfusion ...``.

Nothing but the call may live here.
"""

from __future__ import annotations

import sys

from p2pfusion.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
