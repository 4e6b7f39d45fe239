"""What is signed must not change, because other versions and machines check it too.

A difference here means that peers of two versions do not understand each other. If that
is meant, ``PROTOCOL_VERSION`` grows with it, and ``--rewrite-transcripts`` writes the
file anew.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from p2pfusion.protocol.messages import PROTOCOL_VERSION, Membership
from p2pfusion.protocol.observers import place
from p2pfusion.protocol.statements import sign_record
from p2pfusion.protocol.tally import Tally
from tests.protocol.kinds import KINDS, REAL
from tests.protocol.names import record

GOLDEN = Path(__file__).parent / "golden.json"


def computed() -> dict[str, object]:
    """Statements by a real key, and what follows from facts of named ones."""
    full = dataclasses.replace(
        record("a", swarm="swarm", incarnation=2),
        former_fraction="1",
        since_epoch=7,
        refutes_epoch=5,
        leave_epoch=30,
        announced=b"said",
        announced_epoch=8,
        refuted=((1, 4, 3),),
    )
    signed = {name: kind.sign(REAL) for name, kind in KINDS.items()}
    signed["full record"] = sign_record(full, REAL)
    tally = Tally()
    for name, each in signed.items():
        tally.add("accusation", name.encode(), each)
    tally.add("member", b"a", Membership(signed["full record"], b"shown"))
    return {
        "version": PROTOCOL_VERSION,
        "statements": {
            name: [each.payload.hex(), each.signature.hex()]
            for name, each in sorted(signed.items())
        },
        "places": {peer: place("swarm", peer) for peer in ("a", "b")},
        "digest": tally.digest.hex(),
        "buckets": [part.hex() for part in tally.buckets if any(part)],
    }


def test_what_others_check_and_compare_is_what_it_was(rewrites: bool) -> None:
    found = computed()
    if rewrites:
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    assert json.loads(GOLDEN.read_text()) == found
