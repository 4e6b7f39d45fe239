"""Whole peers that are fed: on their way in, as members, as admins, in a round.

Every frame is decoded as a daemon does it, and given to ``Peer.handle`` in the name of
a member, a stranger or a guest; between them time passes and the user does something.
Nothing may raise, whatever is sent must be a message, what is kept stays bounded.
"""

from __future__ import annotations

import contextlib
import random
import typing
from collections.abc import Callable

import msgpack

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.methods import METHODS
from p2pfusion.protocol import events as e
from p2pfusion.protocol.access import (
    Decided,
    Introduced,
    Invited,
    InviteRevoked,
    JoinBy,
    KnockFailed,
    Revoke,
)
from p2pfusion.protocol.joining import KNOCK_FAILURES, Way
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import (
    Chunk,
    Facts,
    ManifestPart,
    StreamStart,
    Welcome,
)
from p2pfusion.protocol.peer import Peer
from p2pfusion.protocol.statements import sign_start
from p2pfusion.protocol.wire import decode, encode
from p2pfusion.split.homes import Homes
from tests.fuzz.bounds import bounded
from tests.fuzz.corpus import CODES, INVITES, Author
from tests.fuzz.mutation import Plain, changed
from tests.fuzz.targets import REFUSED, Target
from tests.protocol.names import NAMES, NamedKey, credential, membership, record
from tests.protocol.swarm import GUEST, SAMPLES, small_manifest, started

EFFECTS = frozenset(typing.get_args(e.Effect))
SENT = (e.Send, e.Reply, e.Knock)
DATA = frozenset(CODES[kind.__name__] for kind in (StreamStart, Chunk))

JOINING = ("Hello", "Welcome", "ManifestPart", "Facts", "Refused")
MEETING = ("Hello", "Hello", "Facts", "Facts", "SignedOffer", "Ping", "Pong")
MEETING += ("Digests", "Known", "Wanted", "ProbeFor", "Seen")
TRAINING = (
    "SignedOffer",
    "SignedClosing",
    "Request",
    "Credit",
    "StreamStart",
    "Chunk",
    "Refusal",
)
FETCHING = ("StreamStart", "StreamStart", "Chunk", "Chunk", "Chunk", "Refusal")
FETCHING += ("Facts", "Request", "Ping")

TELLING = (
    *("joined", "newcomer-admitted", "newcomer-pending", "newcomer-denied"),
    *("incompatible", "denied", "revoked", "admitted", "catching-up"),
    *("started", "fetching", "fetched", "round-sealed", "done"),
)
"""Reports that say how deep a frame has got."""


class Fed:
    """One peer at a time; ``make`` gives a new one when the last has had enough."""

    def __init__(
        self,
        name: str,
        rng: random.Random,
        author: Author,
        make: Callable[[random.Random, Author], tuple[Peer, float]],
        likely: tuple[str, ...],
    ) -> None:
        self.name, self.rng, self.author = name, rng, author
        self.frames: list[bytes] = []
        self._make, self._likely = make, likely
        self._left = 0
        self._peer, self._now = make(rng, author)

    def attempt(self) -> str:
        """Feeds it one frame, and now and then an event of its own side."""
        if self._left == 0:
            self._peer, self._now = self._make(self.rng, self.author)
            self._left = self.rng.choice((10, 50, 500))
        self._left -= 1
        if self.rng.random() < 0.2:
            self._happens()
        kind = self.author.kind(*self._likely)
        self._aim(kind)
        self.frames = self.author.frames(kind)
        try:
            message = decode(self.frames, data_plane=CODES[kind] in DATA)
        except RemoteProtocolError as error:
            self._handle(e.Misbehaved(self._sender(), str(error)))
            return "malformed"
        reports = self._handle(e.Received(self._sender(), message))
        kinds = [report.kind for report in reports]
        if "protocol-error" in kinds:
            return REFUSED
        telling = [kind for kind in TELLING if kind in kinds]
        return " ".join([type(message).__name__, *telling[:1]])

    def finish(self) -> None:
        """What it keeps is bounded, and it can be asked what members are asked."""
        bounded(self._peer)
        facts = self._peer.gossip.facts
        copy = type(facts)(facts.scheme, self._peer.manifest)
        for message in facts.messages():
            encode(message)
            copy.merge(message)
        assert copy.digest == facts.digest and copy.revoked == facts.revoked
        assert [copy.roster(n) for n in (0, 1, 9)] == [
            facts.roster(n) for n in (0, 1, 9)
        ]

    def _sender(self) -> str:
        what = self.rng.random()
        if what < 0.2:
            return GUEST + "00" * 32
        source = self._peer.exchange.fetching.source
        if source is not None and what < 0.8:
            return source  # nobody else can give it anything
        return self.author.speaker if what < 0.85 else self.author.anybody()

    def _handle(self, event: e.Event) -> list[e.Report]:
        effects = self._peer.handle(event, self._now)
        encoded: set[int] = set()
        for effect in effects:
            assert type(effect) in EFFECTS
            if isinstance(effect, SENT) and id(effect.message) not in encoded:
                encoded.add(id(effect.message))
                encode(effect.message)
        assert self._peer.deadline() >= 0.0
        return [effect for effect in effects if isinstance(effect, e.Report)]

    def _aim(self, kind: str) -> None:
        """Lets the author know what this peer knows: digests and open pulls."""
        if kind not in TRAINING:
            return
        exchange = self._peer.exchange
        manifest = self._peer.manifest
        if manifest is not None and manifest.pretrained:
            name = bytes.fromhex(manifest.pretrained)
            self.author.digests = [bytes(16), name[:16]]
        pulls = sorted(exchange.pulls._pulls)
        self.author.pulls = pulls[:9] or [1]
        facts = self._peer.gossip.facts
        self.author.names = [name for at in range(64) for name in facts.names(at)]
        if exchange.round is not None:
            self.author.digests = [bytes(16), exchange.round.plan.digest]

    # --- The own side ----------------------------------------------------------------

    def _happens(self) -> None:
        """Time passes; the trainer is done; somebody asks for something."""
        rng, peer = self.rng, self._peer
        self._now += rng.choice((0.001, 0.1, 0.5, 1.1, 5.0))
        for _ in range(100):
            self._handle(e.Tick())
            if self._peer.deadline() > self._now:
                break
        else:
            raise AssertionError("it wakes up at once, again and again")
        if rng.random() < 0.3:
            number = max(peer.exchange.rounds, default=0)
            self._handle(e.TrainingFinished(number, SAMPLES, 1.0, 0.5, 1.0))
        if rng.random() < 0.1:
            self._handle(e.ExportRequested(rng.randrange(3)))
        if rng.random() < 0.1:
            self._handle(KnockFailed("host", 1, rng.choice(list(KNOCK_FAILURES))))
        if rng.random() < 0.1:
            self._handle(Introduced("host", 1, self.author.member(), bytes(32)))
        self._begins()
        if peer.door.is_admin and rng.random() < 0.5:
            self._decides()

    def _begins(self) -> None:
        """Its daemon finds that what came is not the checkpoint, or all of it."""
        rng, fetching = self.rng, self._peer.exchange.fetching
        manifest = self._peer.manifest
        if manifest is None or not manifest.pretrained:
            return
        if fetching.is_on and rng.random() < 0.3:
            self._handle(e.BadCheckpoint())
        if rng.random() < 0.02:
            self._handle(e.HasCheckpoint(rng.choice((40, 4_000, 1 << 23, 1 << 40))))

    def _decides(self) -> None:
        rng, admission = self.rng, self._peer.door.admission
        waiting = sorted(admission.pending)
        if waiting:
            self._handle(Decided(rng.choice(waiting), rng.random() < 0.5))
        invite = rng.choice(INVITES)
        if rng.random() < 0.3:
            self._handle(Invited(invite))
        elif rng.random() < 0.1 and invite.id in admission.invites:
            self._handle(InviteRevoked(invite.id))
        if rng.random() < 0.02:
            self._peer.door.would_put_out(self.author.anybody())
            self._handle(Revoke(self.author.anybody(), "a test"))


class Misled:
    """A newcomer whose swarm has a strange manifest, from the answer to its rounds."""

    name = "misled"

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.frames: list[bytes] = []

    def attempt(self) -> str:
        """Lets it in, starts the swarm with it, and waits."""
        manifest = self._strange()
        its_id, packed = manifest.swarm_id, manifest.to_bytes()
        fraction = self.rng.choice(("1/2", "1", "1/1000", "999/1000"))
        own, other = (record(n, split_fraction=fraction) for n in ("me", "p0"))
        shown = credential("me", its_id, by="p0")
        start = sign_start(its_id, ["me", "p0"], NamedKey("p0"))
        answers = [
            Welcome(its_id, 0, len(packed), shown),
            ManifestPart(0, packed),
            Facts((membership(other, its_id),), start),
        ]
        self.frames = [frame for each in answers for frame in encode(each)]
        peer = Peer(own, NamedKey("me"), NAMES)
        peer.handle(JoinBy(Way("host", 1)), 0.0)
        for answer in answers:
            peer.handle(e.Received("p0", answer), 0.1)
        peer.handle(e.TrainingFinished(0, SAMPLES, 1.0, 1.0, 1.0), 1.0)
        for instant in (2.0, 5.0, 200.0, 400.0):
            peer.handle(e.Tick(), instant)
        bounded(peer)
        if peer.manifest is None:
            return REFUSED
        return "waits" if peer.round is None else "trains"

    def _strange(self) -> Manifest:
        rng = self.rng
        changes = {"min_peers": 1, "rounds": rng.choice((1, 2, 5))}
        normal = small_manifest(**changes, method=rng.choice(list(METHODS)))
        for _ in range(50):
            data: Plain = msgpack.unpackb(normal.to_bytes())
            for _ in range(rng.choice((1, 2))):
                data = changed(rng, data)
            # What no message can carry and no manifest may say is tried again.
            with contextlib.suppress(
                RemoteProtocolError, OverflowError, ValueError, TypeError
            ):
                return Manifest.from_bytes(msgpack.packb(data))
        return normal

    def finish(self) -> None:
        """Nothing is kept."""


# --- Peers ---------------------------------------------------------------------------


def newcomer(rng: random.Random, author: Author) -> tuple[Peer, float]:
    """One that knocks, with a ticket or without."""
    peer = Peer(record("me"), NamedKey("me"), NAMES)
    swarm = author.manifest.swarm_id
    key, invite = bytes(32), INVITES[0]
    ways = [
        Way("host", 1),
        Way("host", 1, "p0", key),
        Way("host", 1, "p0", key, swarm, invite.id, invite.secret),
        Way("host", 1, "p0", key, "other", invite.id, invite.secret),
    ]
    if rng.random() < 0.2:
        peer.handle(e.Expect(author.manifest), 0.0)
    for way in rng.sample(ways, rng.choice((1, 1, 2))):
        peer.handle(JoinBy(way), 0.0)
    return peer, 0.0


def member(rng: random.Random, author: Author) -> tuple[Peer, float]:
    """One that was admitted, and knows some of the others; perhaps from its disk."""
    peer = Peer(record("me"), NamedKey("me"), NAMES)
    swarm = author.manifest.swarm_id
    if rng.random() < 0.4:
        known = [membership(record(name), swarm) for name in ("p0", "p1", "m1", "me")]
        start = sign_start(swarm, ["me", "p0", "p1"], NamedKey("p0"))
        facts = (
            Facts(tuple(known)),
            Facts(start=start if rng.random() < 0.7 else None),
        )
        homes = Homes.initial(author.manifest.layout)
        peer.handle(e.Resume(author.manifest, facts, rng.choice((0, 1, 3)), homes), 0.0)
        return peer, 0.0
    peer.gossip.adopt(author.manifest, credential("me", swarm, by="p0"))
    peer.course.prepare()
    for name in ("p0", "p1", "m1"):
        known = Facts((membership(record(name), swarm),))
        peer.handle(e.Received("p0", known), 0.0)
    return peer, 0.0


def admin(rng: random.Random, author: Author) -> tuple[Peer, float]:
    """The founder, with invitations."""
    peer = Peer(record("p0"), NamedKey("p0"), NAMES)
    peer.handle(e.Found(author.manifest), 0.0)
    for invite in INVITES:
        peer.handle(Invited(invite), 0.0)
    return peer, 0.0


def trainer(rng: random.Random, author: Author) -> tuple[Peer, float]:
    """A member in the middle of a round of three; its two others are silent now."""
    swarm = started(3, rounds=author.manifest.rounds)
    swarm.run_to(rng.choice((0.5, 1.03, 2.5)))
    return swarm.hosts[rng.choice(("p0", "p1"))].peer, swarm.now


def fetcher(rng: random.Random, author: Author) -> tuple[Peer, float]:
    """A member that lacks what the swarm begins with."""
    peer = Peer(record("me"), NamedKey("me"), NAMES)
    swarm = author.manifest.swarm_id
    peer.gossip.adopt(author.manifest, credential("me", swarm, by="p0"))
    peer.course.prepare()
    peer.handle(e.LacksCheckpoint(), 0.0)
    for name in ("p0", "p1", "m1"):
        known = Facts((membership(record(name), swarm),))
        peer.handle(e.Received("p0", known), 0.0)
    return peer, 0.0


def fed(rng: random.Random, authors: list[Author]) -> list[Target]:
    """All peers of one world. The first author's swarm is that of ``trainer``."""
    first, other = authors[0], rng.choice(authors)
    return [
        Fed("newcomer", rng, other, newcomer, JOINING),
        Fed("member", rng, other, member, MEETING),
        Fed("admin", rng, other, admin, MEETING),
        Fed("trainer", rng, first, trainer, TRAINING),
        Fed("fetcher", rng, authors[-1], fetcher, FETCHING),
        Misled(rng),
    ]
