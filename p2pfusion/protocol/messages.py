"""Every message that peers exchange, as frozen values.

Nothing here knows bytes: ``wire.py`` and ``statements.py`` do. A message never says who
sent it: the connection does; a statement is signed, because others pass it on. Rounds
are counted from 0. A *stream* is one peer's payload for another in one hop of one
round; its bytes are the flat values of the segments that both ends compute from the
plan that ``digest`` names, so no message carries coordinates and no value can land
elsewhere than where it was trained.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pfusion.protocol.signed import Evidence as Evidence
from p2pfusion.protocol.signed import Signed as Signed
from p2pfusion.protocol.values import value

PROTOCOL_VERSION = 10
"""Peers with another number are refused by name (exit 9)."""

TABLE = "table"
"""The hop by which a newcomer pulls the table of homes, beside those of the plan."""

CHECKPOINT = "checkpoint"
"""The hop by which a newcomer pulls what the swarm begins with, of round ``NEVER``."""

BEFORE_START = -1
"""Join epoch of a peer that came before the swarm's first round."""

NEVER = 2**62
"""An epoch that never comes."""

Age = tuple[int, int]
"""Incarnation and sequence of a record."""


@dataclass(frozen=True)
class PeerRecord:
    """What one peer says of itself. The highest (incarnation, sequence) counts."""

    peer: str
    """The id, which follows from ``key``."""
    name: str
    host: str
    port: int
    split_fraction: str
    incarnation: int
    sequence: int
    join_epoch: int
    swarm: str
    """The swarm that this is said to; "" while it is not known."""
    key: bytes
    """Public key of signatures."""
    transport_key: bytes
    """Public key that its control connections prove."""
    exchange_key: bytes
    """Public key of this incarnation, from which pairs derive their data keys."""
    cipher: str
    """The cipher that its processor prefers."""
    former_fraction: str = ""
    """The split fraction before ``since_epoch``; "" if it has not changed."""
    since_epoch: int = 0
    """The epoch from which ``split_fraction`` counts."""
    refutes_epoch: int = NEVER
    """It answers accusations of older records that count from this epoch on."""
    leave_epoch: int = NEVER
    """The subject leaves the swarm with this epoch."""
    refuted: tuple[tuple[int, int, int], ...] = ()
    """What earlier ones have refuted (``renewal.py``): incarnation, sequence, epoch."""
    announced: bytes = b""
    """What its trainer has found out, if the method asks for that."""
    announced_epoch: int = NEVER
    """The epoch from which ``announced`` counts."""
    relays: bool = True
    """Whether peers that can only dial out may reach each other through it."""

    @property
    def is_outward(self) -> bool:
        """Whether nobody can dial it: it has no host, and the port 0."""
        return not self.host

    @property
    def address(self) -> str:
        """Where it listens, for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if host else "dials out only"

    @property
    def age(self) -> Age:
        """Orders the records of one peer: larger is newer."""
        return (self.incarnation, self.sequence)

    @property
    def data_port(self) -> int:
        """The data plane is always at the next port."""
        return self.port + 1


@value
class Offer:
    """My values of this round are ready; or, with ``samples`` 0, I have none."""

    round_index: int
    digest: bytes
    samples: int
    loss: float
    norm: float
    seconds: float
    base_round: int = NEVER
    """The earlier round for which this was trained; ``NEVER``: for this very round."""
    l1: float = 0.0
    """The sum of the magnitudes of what training has changed."""
    moved: float = 0.0
    """The same of what the sender has fused in the round before."""
    contents: bytes = bytes(16)
    """The root of a tree over what each reducer gets (``merkle.py``)."""

    @property
    def rounds_late(self) -> int:
        """How many rounds too late it was trained."""
        late = self.round_index - self.base_round
        return late if late > 0 else 0


@dataclass(frozen=True)
class ClosingEntry:
    """One update that a round counts."""

    position: int
    """Of its peer, among those of the plan."""
    offer: bytes
    """The name of the offer that said it is ready (``closing.py``)."""
    rounds_late: int
    l1: float
    split_fraction: float
    """What the peer trained in the round for which the update was made."""


@dataclass(frozen=True)
class ClosingList:
    """The updates that a round counts, in the order of the plan's peers."""

    round_index: int
    digest: bytes
    entries: tuple[ClosingEntry, ...]
    distances: tuple[float, ...]
    """How far the model has moved in the last 0, 1, 2, ... rounds."""


@value
class Membership:
    """One member's record, and the chain of admissions that makes it one."""

    record: Signed
    credential: bytes


@dataclass(frozen=True)
class Revocation:
    """An admin's word that somebody is out, and what makes it an admin."""

    statement: Signed
    credential: bytes


@dataclass(frozen=True)
class Recovery:
    """An admin's word that some are lost, and what makes it an admin."""

    statement: Signed
    credential: bytes


@dataclass(frozen=True)
class Hello:
    """First message on a connection: who I am, which swarm I know ("": none).

    A member shows its ``credential``; a newcomer names its ``invite`` with a ``proof``
    that it knows the invitation's secret, or neither.
    """

    version: int
    swarm_id: str
    record: Signed
    credential: bytes = b""
    invite: str = ""
    proof: bytes = b""


@dataclass(frozen=True)
class Welcome:
    """Answer to ``Hello``: the swarm, its round; a manifest so long follows.

    ``credential``: what makes the other side a member; empty for who has one.
    """

    swarm_id: str
    round_index: int
    manifest_bytes: int
    credential: bytes = b""


@dataclass(frozen=True)
class ManifestPart:
    """A piece of the manifest's bytes, in order."""

    offset: int
    data: bytes


@dataclass(frozen=True)
class Refused:
    """Answer to ``Hello``: why not. ``code``: version, not-ready, denied, pending."""

    code: str
    text: str


@value
class Facts:
    """Membership facts that merge by union. ``start``: the list of first members."""

    members: tuple[Membership, ...] = ()
    start: Signed | None = None
    revocations: tuple[Revocation, ...] = ()
    accusations: tuple[Signed, ...] = ()
    recoveries: tuple[Recovery, ...] = ()
    evidence: tuple[Evidence, ...] = ()


@value
class Ping:
    """Are you there? Carries the sender's round and the digest of its facts."""

    nonce: int
    round_index: int
    facts_digest: bytes


@value
class Pong:
    """Yes. Echoes the nonce; carries the sender's Unix time, for people only."""

    nonce: int
    round_index: int
    facts_digest: bytes
    clock_s: float


@dataclass(frozen=True)
class Goodbye:
    """The sender's daemon is stopping; it stays a member and may come back."""


@dataclass(frozen=True)
class Digests:
    """What the sender's facts hash to, part by part: tell me of those that differ."""

    buckets: bytes


@dataclass(frozen=True)
class Known:
    """Facts that the sender has, by the first eight bytes of their hashes.

    In ``parts`` there is one bit for each part of the facts, set where no other fact is
    known to the sender: whoever has others there sends them. Without parts it is news.
    """

    parts: bytes
    ids: bytes


@dataclass(frozen=True)
class Wanted:
    """Of what you said that you know: send me these."""

    ids: bytes


@dataclass(frozen=True)
class ProbeFor:
    """I have no answer from this peer: have you? ``Seen`` echoes the nonce."""

    nonce: int
    peer: str


@dataclass(frozen=True)
class Seen:
    """That peer has just answered me."""

    nonce: int
    peer: str


@value
class SignedOffer:
    """An ``Offer``, signed by the peer that makes it; others show it to each other.

    ``proof`` leads from what the receiver gets, if it is a reducer, to ``contents``.
    """

    statement: Signed
    proof: bytes = b""


@dataclass(frozen=True)
class SignedClosing:
    """A ``ClosingList``, signed by the peer that makes it; others pass it on."""

    statement: Signed


@value
class Request:
    """Send me the stream of this hop, from ``offset``, up to byte ``limit``.

    ``asked``: on the hops ``restore`` and ``export``, the cells that the sender lacks,
    as bits; on the former ``least`` is the version that is good enough, 0 the newest by
    the table.
    """

    pull: int
    hop: str
    round_index: int
    digest: bytes
    instead_of: str
    offset: int
    limit: int
    asked: bytes = b""
    least: int = 0


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


@value
class StreamStart:
    """Head of a stream, on the data plane: its length and what it lacks.

    ``absent`` has one bit per range of the stream (per segment, where it comes from a
    home), set where the sender has no value of the version that the plan expects; such
    bytes are there and mean nothing. A contribution that lacks nothing has no bits.
    ``base_round`` is that of the offer.
    """

    pull: int
    total_bytes: int
    samples: int
    absent: bytes
    base_round: int = NEVER


@value
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
    | Digests
    | Known
    | Wanted
    | ProbeFor
    | Seen
    | SignedOffer
    | SignedClosing
    | Request
    | Refusal
    | Credit
    | StreamStart
    | Chunk
)
