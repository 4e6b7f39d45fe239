"""One statement of every kind, as it is signed and as it is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgpack

from p2pfusion.protocol.messages import ClosingEntry, ClosingList, Offer, Signed
from p2pfusion.protocol.statements import (
    AccusationFact,
    OfferFact,
    banner,
    read_accusation,
    read_banner,
    read_closing,
    read_offer,
    read_record,
    read_recovery,
    read_revocation,
    read_start,
    sign_accusation,
    sign_closing,
    sign_offer,
    sign_record,
    sign_recovery,
    sign_revocation,
    sign_start,
)
from p2pfusion.security import DeviceKey, Scheme, Signer
from tests.protocol.names import record

REAL = DeviceKey.from_seed(bytes(range(32)))
OTHER = DeviceKey.from_seed(bytes(range(1, 33)))


class Kind(NamedTuple):
    """One kind of statement: made with a key, read with a scheme."""

    sign: Callable[[Signer], Signed]
    read: Callable[[Signed, Scheme, bytes, str], object]


def banner_as_signed(signer: Signer) -> Signed:
    return Signed(*msgpack.unpackb(banner(bytes(32), signer)))


def read_as_banner(signed: Signed, scheme: Scheme, by: bytes, swarm: str) -> object:
    return read_banner(msgpack.packb([signed.payload, signed.signature]), scheme)


ACCUSATION = AccusationFact("a", "b", (1, 2), 3)
OFFER = OfferFact(1, 2, Offer(3, bytes(16), 4, 0.5, 0.25, 2.0))
CLOSING = ClosingList(
    3, bytes(16), (ClosingEntry(1, bytes(8), 1, 0.5, 0.25),), (0.0, 2.0)
)
KINDS = {
    "record": Kind(
        lambda signer: sign_record(record("a", swarm="swarm"), signer),
        lambda signed, scheme, by, swarm: read_record(signed, scheme),
    ),
    "start": Kind(
        lambda signer: sign_start("swarm", ["a", "b"], signer),
        lambda signed, scheme, by, swarm: read_start(
            signed, scheme, swarm=swarm, founder=by
        ),
    ),
    "revocation": Kind(
        lambda signer: sign_revocation(
            "swarm", peer="b", epoch=3, reason="lost", signer=signer
        ),
        lambda signed, scheme, by, swarm: read_revocation(signed, scheme, swarm=swarm),
    ),
    "accusation": Kind(
        lambda signer: sign_accusation("swarm", ACCUSATION, signer),
        lambda signed, scheme, by, swarm: read_accusation(signed, scheme, swarm=swarm),
    ),
    "recovery": Kind(
        lambda signer: sign_recovery(
            "swarm", peers=["b", "c"], epoch=3, reason="fire", signer=signer
        ),
        lambda signed, scheme, by, swarm: read_recovery(signed, scheme, swarm=swarm),
    ),
    "offer": Kind(
        lambda signer: sign_offer("swarm", OFFER, 2, signer),
        lambda signed, scheme, by, swarm: read_offer(
            signed, scheme, swarm=swarm, key=by
        ),
    ),
    "closing": Kind(
        lambda signer: sign_closing("swarm", CLOSING, signer),
        lambda signed, scheme, by, swarm: read_closing(signed, scheme, swarm=swarm),
    ),
    "banner": Kind(banner_as_signed, read_as_banner),
}
