"""Where a trainer process begins: ``python -m p2pfusion.training FD [LIFELINE]``.

Torch brings a quarter of a million objects that live as long as the process. Python's
collector would look at all of them several times while they come and when it ends: a
third of what a short training takes. Here it leaves them alone.
"""

from __future__ import annotations

import gc


def main() -> None:
    """Imports torch and all that trains, then serves."""
    gc.disable()
    from p2pfusion.training import worker

    gc.freeze()
    gc.enable()
    worker.main()


if __name__ == "__main__":
    main()
