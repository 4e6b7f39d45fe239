"""What goes into a peer, and what comes out.

``Peer.handle(event, now)`` takes an event and gives effects, to be performed in order.
No side holds a socket, a file or a clock: whoever drives the peer (the daemon, a test)
turns the world into events, and effects into the world.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pfusion.protocol.access import ChangeFraction as ChangeFraction
from p2pfusion.protocol.access import (
    Decided,
    Introduced,
    Invited,
    InviteRevoked,
    JoinBy,
    KnockFailed,
    Revoke,
)
from p2pfusion.protocol.access import Leave as Leave
from p2pfusion.protocol.access import Recover as Recover
from p2pfusion.protocol.admission import Invite
from p2pfusion.protocol.beginning import BadCheckpoint as BadCheckpoint
from p2pfusion.protocol.beginning import CheckCheckpoint as CheckCheckpoint
from p2pfusion.protocol.beginning import HasCheckpoint as HasCheckpoint
from p2pfusion.protocol.beginning import KeepCheckpoint as KeepCheckpoint
from p2pfusion.protocol.beginning import LacksCheckpoint as LacksCheckpoint
from p2pfusion.protocol.beginning import NoCheckpoint as NoCheckpoint
from p2pfusion.protocol.flow import Arriving as Arriving
from p2pfusion.protocol.flow import SendChunk as SendChunk
from p2pfusion.protocol.flow import SendStart as SendStart
from p2pfusion.protocol.flow import StopServing as StopServing
from p2pfusion.protocol.joining import Way
from p2pfusion.protocol.judging import Came as Came
from p2pfusion.protocol.judging import Caught as Caught
from p2pfusion.protocol.judging import Hashed as Hashed
from p2pfusion.protocol.judging import HashOffer as HashOffer
from p2pfusion.protocol.judging import Pardon as Pardon
from p2pfusion.protocol.judging import SaveOffences as SaveOffences
from p2pfusion.protocol.judging import Settle as Settle
from p2pfusion.protocol.lacking import FindLacking as FindLacking
from p2pfusion.protocol.lacking import FoundLacking as FoundLacking
from p2pfusion.protocol.lacking import KeepOld as KeepOld
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import Facts, Hello, Message, PeerRecord
from p2pfusion.protocol.results import Announced as Announced
from p2pfusion.protocol.results import Moved as Moved
from p2pfusion.protocol.results import TrainingFailed as TrainingFailed
from p2pfusion.protocol.results import TrainingFinished as TrainingFinished
from p2pfusion.protocol.stream import StreamKey as StreamKey
from p2pfusion.protocol.values import value
from p2pfusion.split.homes import Homes
from p2pfusion.split.keeping import Cells
from p2pfusion.split.plan import ExchangePlan
from p2pfusion.split.segment import Split

# --- Events --------------------------------------------------------------------------


@value
class Received:
    """A message from a connected peer."""

    peer: str
    message: Message


@dataclass(frozen=True)
class Misbehaved:
    """A peer sent bytes that are no message, or a stream that breaks its plan.

    ``kind``: of ``offences.py``; "" for what says nothing about the peer.
    """

    peer: str
    reason: str
    kind: str = "rules"


@value
class Tick:
    """A deadline of the peer has passed."""


@dataclass(frozen=True)
class Found:
    """Found a swarm with this manifest."""

    manifest: Manifest


@dataclass(frozen=True)
class Expect:
    """The user named the swarm to join; another one is refused."""

    manifest: Manifest


@dataclass(frozen=True)
class Resume:
    """Started again with a swarm on disk: the first unsealed round, and its table."""

    manifest: Manifest
    facts: tuple[Facts, ...]
    next_round: int
    homes: Homes


@dataclass(frozen=True)
class ExportRequested:
    """Somebody wants the whole model; ``lacks``: what is older here than the table of
    homes says, of all cells."""

    number: int
    lacks: Cells = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class Drain:
    """Enter no further round; report when everybody has got what they asked for."""


@dataclass(frozen=True)
class Stopping:
    """The daemon is about to end."""


Event = (
    Received
    | Arriving
    | Misbehaved
    | Caught
    | Pardon
    | Hashed
    | Came
    | Tick
    | Found
    | Expect
    | Resume
    | JoinBy
    | Introduced
    | KnockFailed
    | Invited
    | InviteRevoked
    | Decided
    | Revoke
    | TrainingFinished
    | TrainingFailed
    | Announced
    | Moved
    | ExportRequested
    | FoundLacking
    | LacksCheckpoint
    | HasCheckpoint
    | BadCheckpoint
    | Leave
    | Recover
    | ChangeFraction
    | Drain
    | Stopping
)


# --- Effects -------------------------------------------------------------------------


@dataclass(frozen=True)
class Dial:
    """Have a connection to this peer, where its record says, and take its own.

    A peer that can only dial out is reached through ``relay``, which is ourselves where
    it dials us; None: there is no way to it now.
    """

    record: PeerRecord
    relay: PeerRecord | None = None


@dataclass(frozen=True)
class Bar:
    """Close this peer's connections and refuse new ones."""

    peer: str


@dataclass(frozen=True)
class Ask:
    """Ask whoever listens at this address who it is."""

    host: str
    port: int


@dataclass(frozen=True)
class Knock:
    """Send a greeting to an address whose peer does not know us yet."""

    way: Way
    message: Hello


@dataclass(frozen=True)
class Reply:
    """Answer a stranger, once, at the address of its record."""

    record: PeerRecord
    message: Message


@dataclass(frozen=True)
class SaveInvites:
    """Keep the invitations for the next start; their keys are good at the door."""

    invites: tuple[Invite, ...]


@value
class Send:
    """Send a message to a peer."""

    peer: str
    message: Message


@dataclass(frozen=True)
class Adopt:
    """This is the swarm now: make or open its store, set the trainer up."""

    manifest: Manifest


@dataclass(frozen=True)
class SaveFacts:
    """Keep the membership facts for the next start."""

    facts: tuple[Facts, ...]


@value
class EnterRound:
    """A round begins: its plan, and the table of homes from which it was made."""

    plan: ExchangePlan
    homes: Homes


@value
class StartTraining:
    """Cut this split from the store, train it, put the result into the offer area."""

    round_index: int
    split: Split
    learning_rate: float
    goes_on: bool = False
    """Go on from what was offered last instead, while that is averaged (``delay.py``).
    """
    if_ready: bool = False
    """Else say at once that there will be nothing: rounds have gone on without this
    peer, and shall not wait now while its trainer starts."""


@dataclass(frozen=True)
class OfferLate:
    """Offer in a round what was trained for an earlier one, instead of training it."""

    round_index: int
    base_round: int


@value
class OpenReduction:
    """Begin to average own ranges, or as backup those of ``instead_of``."""

    round_index: int
    instead_of: str


@value
class AddOwn:
    """Add the own offer to a reduction."""

    round_index: int
    instead_of: str
    weight: float


@value
class CloseReduction:
    """Divide, write the fused ranges to the store as version ``round + 1``."""

    round_index: int
    instead_of: str


@value
class OpenSink:
    """A stream begins to arrive: prepare its destination."""

    pull: int
    stream: StreamKey
    weight: float
    total_bytes: int
    absent: bytes


@value
class Absorb:
    """Bytes of a stream, in order."""

    pull: int
    offset: int
    payload: memoryview = field(compare=False, repr=False)


@value
class CloseSink:
    """A stream has ended; ``complete`` says whether all of it arrived."""

    pull: int
    complete: bool


@value
class Seal:
    """A round is done: make the store durable, with the next round and its homes."""

    next_round: int
    homes: Homes


@value
class Forget:
    """Nobody is served from this round any more: free its offer and sums."""

    round_index: int


@dataclass(frozen=True)
class Assembled:
    """An export's ranges are at hand, but for those of the peers in ``missing``."""

    number: int
    missing: tuple[str, ...]


@value
class Report:
    """Something that people want to know; the daemon's event stream."""

    kind: str
    details: Mapping[str, object]


Effect = (
    Dial
    | Bar
    | Ask
    | Knock
    | Reply
    | SaveInvites
    | Send
    | Adopt
    | SaveFacts
    | SaveOffences
    | HashOffer
    | Settle
    | EnterRound
    | StartTraining
    | OfferLate
    | OpenReduction
    | AddOwn
    | CloseReduction
    | FindLacking
    | KeepOld
    | OpenSink
    | Absorb
    | CloseSink
    | SendStart
    | SendChunk
    | StopServing
    | Seal
    | Forget
    | Assembled
    | KeepCheckpoint
    | CheckCheckpoint
    | NoCheckpoint
    | Report
)
