"""Pure training: what the task costs where nobody exchanges anything.

python plain.py DIRECTORY RANK
"""

from __future__ import annotations

import sys
from pathlib import Path

from task import Task, read

if __name__ == "__main__":
    task = Task(Path(sys.argv[1]), int(sys.argv[2]))
    assert task.train(task.module, 0) > 0  # whatever is done once, is done now
    task.meet("begin")
    task.note("begin")
    for number in range(task.settings.rounds):
        task.train(task.module, number)
        task.round_done(number + 1, read(task.module))
