"""Every message that peers exchange, as frozen values.

Nothing here knows bytes: ``wire.py`` does. A message never says who sent it: the
connection does. Rounds are counted from 0. A *stream* is one peer's payload for another
in one hop of one round; its bytes are the flat values of the segments that both ends
compute from the plan that ``digest`` names, so no message carries coordinates and no
value can land elsewhere than where it was trained.
"""

from __future__ import annotations

from dataclasses import dataclass, field

PROTOCOL_VERSION = 1
"""Peers with another number are refused by name (exit 9)."""

TABLE = "table"
"""The hop by which a newcomer pulls the table of homes, beside those of the plan."""

BEFORE_START = -1
"""Join epoch of a peer that came before the swarm's first round."""


@dataclass(frozen=True)
class PeerRecord:
    """What one peer says of itself. The highest (incarnation, sequence) counts."""

    peer: str
    name: str
    host: str
    port: int
    data_port: int
    split_fraction: str
    incarnation: int
    sequence: int
    join_epoch: int

    @property
    def age(self) -> tuple[int, int]:
        """Orders the records of one peer: larger is newer."""
        return (self.incarnation, self.sequence)


@dataclass(frozen=True)
class Hello:
    """First message on a connection: who I am, which swarm I know ("": none)."""

    version: int
    swarm_id: str
    record: PeerRecord


@dataclass(frozen=True)
class Welcome:
    """Answer to ``Hello``: the swarm, its round; a manifest so long follows."""

    swarm_id: str
    round_index: int
    manifest_bytes: int


@dataclass(frozen=True)
class ManifestPart:
    """A piece of the manifest's bytes, in order."""

    offset: int
    data: bytes


@dataclass(frozen=True)
class Refused:
    """Answer to ``Hello``: why not. ``code``: version, not-ready."""

    code: str
    text: str


@dataclass(frozen=True)
class Facts:
    """Membership facts that merge by union. ``start``: members of epoch 0, or empty."""

    records: tuple[PeerRecord, ...]
    start: tuple[str, ...]


@dataclass(frozen=True)
class Ping:
    """Are you there? Carries the sender's round and the digest of its facts."""

    nonce: int
    round_index: int
    facts_digest: bytes


@dataclass(frozen=True)
class Pong:
    """Yes. Echoes the nonce."""

    nonce: int
    round_index: int
    facts_digest: bytes


@dataclass(frozen=True)
class Goodbye:
    """The sender's daemon is stopping; it stays a member and may come back."""


@dataclass(frozen=True)
class Offer:
    """My values of this round are ready; or, with ``samples`` 0, I have none."""

    round_index: int
    digest: bytes
    samples: int
    loss: float
    norm: float
    seconds: float


@dataclass(frozen=True)
class Request:
    """Send me the stream of this hop, from ``offset``, up to byte ``limit``."""

    pull: int
    hop: str
    round_index: int
    digest: bytes
    instead_of: str
    offset: int
    limit: int


@dataclass(frozen=True)
class Refusal:
    """That stream will not come. ``reason``: gone, plan, not-training, busy."""

    pull: int
    reason: str


@dataclass(frozen=True)
class Credit:
    """You may send the stream up to byte ``limit``."""

    pull: int
    limit: int


@dataclass(frozen=True)
class StreamStart:
    """Head of a stream, on the data plane: its length and what it lacks.

    ``absent`` has one bit per range of the stream (per segment, where it comes from a
    home), set where the sender has no value of the version that the plan expects; such
    bytes are there and mean nothing.
    """

    pull: int
    total_bytes: int
    samples: int
    absent: bytes


@dataclass(frozen=True)
class Chunk:
    """At most 1 MiB of a stream. The payload travels as a frame of its own."""

    pull: int
    offset: int
    payload: memoryview = field(compare=False, repr=False)


Message = (
    Hello
    | Welcome
    | ManifestPart
    | Refused
    | Facts
    | Ping
    | Pong
    | Goodbye
    | Offer
    | Request
    | Refusal
    | Credit
    | StreamStart
    | Chunk
)
