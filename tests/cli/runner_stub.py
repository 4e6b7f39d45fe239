"""Stands where the experiment runner stands: answers a specification as its rule says.

The name of the specification's method chooses what happens.
"""

from __future__ import annotations

import json
import sys


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    specification = json.loads(sys.stdin.readline())
    match specification["method"]:
        case "fedavg":
            say(event="round", round=1, rounds=2, loss=0.5, accuracy=None)
            say(result={"method": "fedavg", "told": specification})
        case "msfusion" if specification["objective"] == "contrastive":
            say(result={"method": "msfusion", "told": specification})
        case "heterofl":
            say(failed={"name": "bad-data", "message": "no data", "hint": "get some"})
        case "fedrolex":
            print("hello from a library")
