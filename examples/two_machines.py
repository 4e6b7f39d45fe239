"""Two machines train one model: the walk-through, both on this one.

``python examples/two_machines.py`` starts two real daemons, each in a home of its own,
as two machines would have. Beside each step stands the command that does it there.
"""

from __future__ import annotations

import sys

import p2pfusion

DIGITS = {"kind": "digits", "partition": {"share": "0/2"}}
SWARM = {"name": "walk", "model": "mlp", "min_peers": 2}


def main(rounds: int) -> None:
    """Founds, invites, joins, watches, exports and leaves."""
    print("here:   p2pfusion start founder.toml")
    founding = {"data": DIGITS, "swarm": {**SWARM, "rounds": rounds}}
    with p2pfusion.Peer(founding) as here:
        print("here:   p2pfusion invite create")
        ticket = here.ticket()
        share = {**DIGITS, "partition": {"share": "1/2"}}
        print("there:  p2pfusion start joiner.toml --join", ticket[:20] + "...")
        with p2pfusion.Peer({"data": share}, join=[ticket]) as there:
            print("there:  p2pfusion wait --for done")
            there.wait("done")
            print("here:   p2pfusion rounds")
            here.wait("done")
            for each in here.ask("rounds", count=rounds)["rounds"]:
                print(
                    f"        round {each['number']}: {len(each['contributors'])} peers"
                )
            # Any program on this machine can ask a daemon by the home it runs in.
            status = p2pfusion.connect(there.home).call("status")
            print("there:  p2pfusion status")
            print(f"        {status['traffic']['sent_bytes']:,} bytes sent")
            print("there:  p2pfusion export model.safetensors")
            found = there.export("model.safetensors")
            print(f"        {found['parameters']:,} parameters in {found['path']}")
    print("both:   p2pfusion stop")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
