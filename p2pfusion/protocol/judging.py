"""Events and effects about what peers do wrong, and what they have promised."""

from __future__ import annotations

from dataclasses import dataclass

from p2pfusion.protocol.offences import Charge
from p2pfusion.protocol.stream import StreamKey

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


@dataclass(frozen=True)
class Hashed:
    """What every reducer of a round gets of the own offer, hashed: the answer to
    ``HashOffer``, in the order of their names."""

    round_index: int
    digests: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class Came:
    """A contribution has arrived whole: the hash of its bytes."""

    stream: StreamKey
    digest: bytes


@dataclass(frozen=True)
class Weighed:
    """Fused values are here whole, and were looked at before they count
    (``weighed_round.py``): ``doubted`` says that somebody else shall be asked."""

    stream: StreamKey
    doubted: bool


# --- Effects -------------------------------------------------------------------------


@dataclass(frozen=True)
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
    """Whoever was asked for what a doubted reducer has fused has answered, or will not:
    compare, and take what is to be taken."""

    round_index: int
    reducer: str
