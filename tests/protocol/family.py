"""A small family of admissions: who let whom in, and what can be said about them.

::

    p0 --- a (admin) --- d (admin) --- n (member; also by b)
     |      `--- m (member)
     |--- b (admin) --- c (admin; before, a member by p0)
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pfusion.protocol.facts import FactSet
from p2pfusion.protocol.messages import BEFORE_START, Facts, Membership, Signed
from p2pfusion.protocol.statements import sign_start
from tests.protocol.names import (
    NAMES,
    NamedKey,
    Names,
    accusation,
    credential,
    membership,
    record,
    recovery,
    revocation,
)
from tests.protocol.swarm import small_manifest

MANIFEST = small_manifest()
SWARM = MANIFEST.swarm_id


def fresh(scheme: Names = NAMES) -> FactSet:
    return FactSet(scheme, MANIFEST)


def chain(*steps: tuple[str, str]) -> bytes:
    """Admissions from p0 down: (peer, role) each."""
    found, by = b"", "p0"
    for peer, role in steps:
        found = credential(peer, SWARM, by=by, role=role, chain=found)
        by = peer
    return found


CHAINS = {
    "p0": [b""],
    "a": [chain(("a", "admin"))],
    "b": [chain(("b", "admin"))],
    # Admitted as a member, and made an admin by another admin later.
    "c": [chain(("c", "member")), chain(("b", "admin"), ("c", "admin"))],
    "d": [chain(("a", "admin"), ("d", "admin"))],
    "m": [chain(("a", "admin"), ("m", "member"))],
    "n": [
        chain(("a", "admin"), ("d", "admin"), ("n", "member")),
        chain(("b", "admin"), ("n", "member")),
    ],
}


def member(
    peer: str,
    *,
    which: int = 0,
    incarnation: int = 1,
    sequence: int = 0,
    epoch: int = BEFORE_START,
    **changes: object,
) -> Membership:
    """A membership with one of the peer's chains."""
    found = record(
        peer,
        incarnation=incarnation,
        sequence=sequence,
        join_epoch=epoch,
        **changes,
    )
    return Membership(membership(found, SWARM).record, CHAINS[peer][which])


def start(*members: str) -> Signed:
    return sign_start(SWARM, sorted(members), NamedKey("p0"))


def out(peer: str, by: str = "p0", *, which: int = -1, **changes: object) -> Facts:
    """A revocation as facts."""
    shown = CHAINS[by][which]
    said = revocation(peer, SWARM, by=by, chain=shown, **changes)  # type: ignore[arg-type]
    return Facts(revocations=(said,))


def accused(peer: str, *by: str, age: tuple[int, int] = (1, 0), epoch: int) -> Facts:
    """Accusations of a peer, by each of these, as facts."""
    return Facts(
        accusations=tuple(
            accusation(peer, SWARM, by=each, age=age, epoch=epoch) for each in by
        )
    )


def lost(*peers: str, by: str = "p0", **changes: object) -> Facts:
    """A recovery as facts."""
    shown = CHAINS[by][-1] if by in CHAINS else b""
    said = recovery(*peers, swarm=SWARM, by=by, chain=shown, **changes)  # type: ignore[arg-type]
    return Facts(recoveries=(said,))


def swarm_of(*peers: str) -> Facts:
    """A swarm of first members, whatever their names; p0 has admitted all others."""
    return Facts(tuple(plain(peer) for peer in peers), start(*peers))


def plain(peer: str, **changes: object) -> Membership:
    """A membership of one that p0 has admitted."""
    return membership(record(peer, **changes), SWARM)


def everybody() -> Facts:
    return Facts(tuple(member(peer, which=-1) for peer in CHAINS))


def merged(known: Iterable[Facts]) -> FactSet:
    facts = fresh()
    for each in known:
        facts.merge(each)
    return facts
