"""Events and effects about what peers do wrong, and what they have promised."""

from __future__ import annotations

from dataclasses import dataclass

from p2pfusion.protocol.offences import Charge
from p2pfusion.protocol.stream import StreamKey
from p2pfusion.protocol.values import value

# --- Events --------------------------------------------------------------------------


@dataclass(frozen=True)
class Caught:
    """A member was caught at something, of a kind of ``offences.py``."""

    peer: str
    kind: str
    detail: str


@dataclass(frozen=True)
class Pardon:
    """The user forgives a member all that it was caught at."""

    peer: str


@value
class Hashed:
    """What every reducer of a round gets of the own offer, hashed: the answer to
    ``HashOffer``, in the order of their names."""

    round_index: int
    digests: tuple[tuple[str, bytes], ...]


@value
class Came:
    """A contribution has arrived whole: the hash of its bytes."""

    stream: StreamKey
    digest: bytes


# --- Effects -------------------------------------------------------------------------


@value
class HashOffer:
    """Say what each of these reducers will get of the own offer of a round."""

    round_index: int
    reducers: tuple[str, ...]


@dataclass(frozen=True)
class SaveOffences:
    """Keep what peers were caught at for the next start."""

    charges: tuple[Charge, ...]


@dataclass(frozen=True)
class Settle:
    """What a reducer has fused, and what its backups have made of the same, is here or
    will not come: compare, and take what is to be believed."""

    round_index: int
    reducer: str
