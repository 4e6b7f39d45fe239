"""What an offer promises of a contribution, against what comes, in any order."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.protocol.merkle import leaf, proof, root
from p2pfusion.protocol.messages import Offer, StreamStart
from p2pfusion.protocol.promises import Promises
from p2pfusion.protocol.statements import OfferFact
from p2pfusion.protocol.stream import StreamKey

ROUND, DIGEST = 3, b"what came".ljust(32)
LEAVES = [leaf("p0", DIGEST), leaf("p1", bytes(32))]
OFFER = Offer(ROUND, bytes(16), 100, 1.0, 0.5, 1.0, contents=root(LEAVES))
STREAM = StreamKey("contribution", ROUND, "p3", "p0")


def told(
    order: tuple[str, ...],
    *,
    offer: Offer = OFFER,
    shown: bytes | None = None,
    samples: int = 100,
    digest: bytes = DIGEST,
    offered_by: int = 1,
    sent_by: int = 1,
    stream: StreamKey = STREAM,
) -> Promises:
    """A reducer that hears of one contribution in some order."""
    promises = Promises("p0")
    good = proof(LEAVES, 0) if shown is None else shown
    steps = {
        "offer": lambda: promises.offered("p3", OfferFact(offered_by, 1, offer), good),
        "head": lambda: promises.begun(
            stream, StreamStart(1, 8, samples, b"", offer.base_round), sent_by
        ),
        "bytes": lambda: promises.came(stream, digest),
    }
    for step in order:
        steps[step]()
    return promises


# A stream's bytes come after its head.
ORDERS = [
    order
    for order in itertools.permutations(("offer", "head", "bytes"))
    if order.index("head") < order.index("bytes")
]


@pytest.mark.parametrize("order", ORDERS)
def test_what_was_promised_is_fine(order: tuple[str, ...]) -> None:
    told(order)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"digest": bytes(32)}, "other values"),
        ({"shown": b""}, "other values"),
        ({"shown": bytes(16)}, "other values"),
        ({"offer": replace(OFFER, contents=bytes(16))}, "other values"),
        ({"samples": 1_000}, "other samples"),
    ],
)
def test_anything_else_is_named(
    order: tuple[str, ...], changes: dict[str, object], text: str
) -> None:
    with pytest.raises(RemoteProtocolError, match=text) as caught:
        told(order, **changes)  # type: ignore[arg-type]
    assert caught.value.offence == "digest"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("offered_by", "sent_by"), [(1, 2), (2, 1)])
def test_another_life_may_give_something_else(
    order: tuple[str, ...], offered_by: int, sent_by: int
) -> None:
    """Who is started again trains anew: that breaks no promise."""
    told(order, digest=bytes(32), offered_by=offered_by, sent_by=sent_by)


def test_a_backup_was_promised_nothing() -> None:
    told(ORDERS[0], stream=replace(STREAM, instead_of="p1"), digest=bytes(32))


def test_what_was_given_up_is_not_judged() -> None:
    promises = told(("head",))
    promises.lose("p3")
    promises.came(STREAM, bytes(32))
    promises.offered("p3", OfferFact(1, 1, OFFER), b"")


def test_rounds_that_are_over_are_forgotten() -> None:
    promises = told(("offer", "head"))
    promises.forget(ROUND + 1)
    promises.came(STREAM, bytes(32))
