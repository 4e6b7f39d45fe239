"""What a swarm in memory is made of: its model, its hosts, its network, its log."""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass

from p2pfusion.protocol import events as e
from p2pfusion.protocol.admission import Invite
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import Facts, Signed
from p2pfusion.protocol.peer import Peer
from p2pfusion.split.homes import Homes
from p2pfusion.split.keeping import Cells
from p2pfusion.split.layout import Axis, Dimension, Initial, Layout, ParameterSpec
from p2pfusion.split.plan import ExchangePlan
from p2pfusion.split.restoring import Versions
from p2pfusion.split.segment import Split
from tests.protocol.names import founder

LATENCY_S = 0.005


def small_layout() -> Layout:
    """Two hidden axes, five parameters: an MLP."""
    weight = Initial("uniform", 0.1)
    return Layout(
        (Axis("h1", 32), Axis("h2", 16)),
        (
            ParameterSpec("w1", (Dimension(32, "h1"), Dimension(8)), weight),
            ParameterSpec("b1", (Dimension(32, "h1"),), Initial("zeros")),
            ParameterSpec("w2", (Dimension(16, "h2"), Dimension(32, "h1")), weight),
            ParameterSpec("b2", (Dimension(16, "h2"),), Initial("zeros")),
            ParameterSpec("b3", (Dimension(10),), Initial("zeros")),
        ),
    )


def small_manifest(**changes: object) -> Manifest:
    """A manifest for tests; the model's name is never looked up here.

    Tied windows overlap in more ways than those of other methods.
    """
    tied = {} if "method" in changes else {"shift": "tied", "start": "dense"}
    values = {
        "name": "test",
        "model": "mlp",
        "layout": small_layout(),
        "rounds": 6,
        "rounds_per_epoch": 2,
        "min_peers": 3,
        "deadline_min_s": 1.0,
        "deadline_max_s": 10.0,
        "admission": "open",
        "founder": founder("p0"),
        "method_arguments": tied,
        **changes,
    }
    return Manifest(**values)  # type: ignore[arg-type]


def brief(what: object) -> str:
    """Like ``repr``, but long bytes and statements by the beginning of their hash."""
    if isinstance(what, Signed):
        return f"<said {_hash(what.payload + what.signature)}>"
    if isinstance(what, bytes) and len(what) > 16:
        return f"<{len(what)} bytes {_hash(what)}>"
    if isinstance(what, tuple):
        return f"({', '.join(map(brief, what))}{',' if len(what) == 1 else ''})"
    if is_dataclass(what):
        shown = [f for f in fields(what) if f.repr]
        values = [f"{f.name}={brief(getattr(what, f.name))}" for f in shown]
        return f"{type(what).__name__}({', '.join(values)})"
    return repr(what)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]


def described(what: e.Event | e.Effect) -> str:
    """One line without arrays, for logs and transcripts."""
    name = type(what).__name__
    match what:
        case e.Received(peer, message):
            return f"Received {peer} {brief(message)}"
        case e.Send(peer, message):
            return f"Send {peer} {brief(message)}"
        case e.Knock(way, message):
            return f"Knock {way.host}:{way.port} {brief(message)}"
        case e.Found(manifest) | e.Expect(manifest) | e.Adopt(manifest):
            return f"{name} {manifest.swarm_id}"
        case e.Resume(_, _, next_round, homes) | e.Seal(next_round, homes):
            return f"{name} {next_round} {homes.digest.hex()}"
        case e.EnterRound(plan, homes):
            return f"{name} {plan.round_index} {plan.digest.hex()} {homes.digest.hex()}"
        case e.Report(kind, details):
            return f"{name} {kind} {dict(details)}"
        case e.StartTraining() | e.OfferLate() | e.AddOwn():
            return repr(what)
    return brief(what)


class Log(Sequence[str]):
    """What happened, in lines that are written when somebody reads them: most are
    read by nobody, and writing them takes as long as many a peer does."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, str, str, e.Event | e.Effect]] = []

    def add(self, now: float, name: str, mark: str, what: e.Event | e.Effect) -> None:
        """A host was given an event, or has an effect done."""
        self._entries.append((now, name, mark, what))

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, at):  # type: ignore[no-untyped-def]
        if isinstance(at, slice):
            return [self._line(entry) for entry in self._entries[at]]
        return self._line(self._entries[at])

    @staticmethod
    def _line(entry: tuple[float, str, str, e.Event | e.Effect]) -> str:
        now, name, mark, what = entry
        return f"{now:.3f} {name} {mark} {described(what)}"


@dataclass
class Network:
    """What happens to a message on its way, by a seeded generator."""

    seed: int = 0
    loss: float = 0.0
    duplicates: float = 0.0
    jitter_s: float = 0.0
    in_order: bool = True
    """As on a connection: nothing overtakes on the way from one peer to another."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def delays(self) -> list[float]:
        """After how long each copy of a message arrives; none: it is lost."""
        if not (self.loss or self.duplicates or self.jitter_s):
            return [LATENCY_S]
        copies = 1 + (self._random.random() < self.duplicates)
        kept = [self._random.random() >= self.loss for _ in range(copies)]
        return [
            LATENCY_S + self._random.random() * self.jitter_s for keep in kept if keep
        ]


@dataclass
class Host:
    """One peer and what its machine remembers."""

    name: str
    """The peer's id."""
    peer: Peer
    training_s: float = 1.0
    unready_rounds: int = 0
    """So many rounds its trainer is still starting, if it need not be waited for."""
    alive: bool = True
    incarnation: int = 1
    plans: dict[int, ExchangePlan] = field(default_factory=dict)
    homes: dict[int, Homes] = field(default_factory=dict)
    saved: tuple[int, Homes] | None = None
    facts: tuple[Facts, ...] = ()
    invites: tuple[Invite, ...] = ()
    admitted: set[str] = field(default_factory=set)
    """Whose key is let in under their name, as its transport would."""
    barred: set[str] = field(default_factory=set)
    parked: list[e.Received] = field(default_factory=list)
    """From peers whose keys are not known yet."""
    opened: dict[int, e.StreamKey] = field(default_factory=dict)
    closed: Counter[tuple[int, str]] = field(default_factory=Counter)
    sealed: list[dict[str, object]] = field(default_factory=list)
    reports: list[e.Report] = field(default_factory=list)
    assembled: list[e.Assembled] = field(default_factory=list)
    sent_elements: Counter[int] = field(default_factory=Counter)
    weights: defaultdict[tuple[int, str], set[float]] = field(
        default_factory=lambda: defaultdict(set)
    )
    """Of contributions, by round and source."""
    received: dict[int, list[e.StreamKey]] = field(default_factory=dict)
    absorbed: Counter[int] = field(default_factory=Counter)
    trained: list[int] = field(default_factory=list)
    splits: dict[int, Split] = field(default_factory=dict)
    training: int | None = None
    next_training: int | None = None
    offered_late: dict[int, int] = field(default_factory=dict)
    absent_here: bytes = b"\0"
    """Eight bits of the heads of streams of what others lack: set where it has none."""
    versions: Versions = ()
    """What its store says to have; nothing for the newest of everything."""
    looked_for: list[Cells] = field(default_factory=list)
    """What it was asked to look for in its store."""
    checkpoint: bytes | None = None
    """What its store began with, and what it gives to others as the checkpoint."""
    arrived: bytearray = field(default_factory=bytearray)
    """The checkpoint that it gets, so far."""
    is_lost: bool = False
    """Whether it was told that nobody can give it the checkpoint."""
    wakes_at: float = float("inf")

    def reported(self, kind: str) -> list[e.Report]:
        """Its reports of one kind."""
        return [report for report in self.reports if report.kind == kind]
