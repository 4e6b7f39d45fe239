"""What peers say, right and wrong: messages as plain lists, signed by whoever it is.

Every key of the small world signs here, the founder's too, so that nonsense gets past
the signatures and reaches what lies behind them.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgpack

from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import NEVER, PROTOCOL_VERSION
from p2pfusion.protocol.wire import HOPS, REFUSAL_REASONS, REFUSED_CODES, SCHEMAS
from p2pfusion.security import proof
from tests.fuzz.mutation import Plain, changed, damaged
from tests.protocol.names import NamedKey, invitation, record

CODES = {kind.__name__: code for kind, (code, _) in SCHEMAS.items()}

MEMBERS = ("p0", "p1", "p2", "me", "m1", "m2")
STRANGERS = tuple(f"s{number}" for number in range(200))
INVITES = tuple(invitation(number, uses=number % 3) for number in range(1, 5))

PARTS = (b"", bytes(8), b"\xff" * 8)
"""Which parts of the facts a list is all of."""

HUGE = (2**31, 2**62, 2**63 - 1)

Signed = list[Plain]


class Author:
    """Writes messages of one swarm."""

    def __init__(
        self, rng: random.Random, manifest: Manifest, *, damage: float
    ) -> None:
        """``damage``: how many of the things that are said are wrong."""
        self.rng = rng
        self.manifest = manifest
        self.packed = manifest.to_bytes()
        self.damage = damage
        self.digests = [bytes(16)]
        self.pulls = [1]
        self.names: list[bytes] = []
        """Of facts that somebody has."""
        self.speaker = "p0"
        """Who should send what was written last, if all were right."""
        self._writers: dict[str, Callable[[], list[Plain]]] = {
            "Hello": self._hello,
            "Welcome": self._welcome,
            "ManifestPart": self._part,
            "Refused": lambda: [self._word(REFUSED_CODES), "because"],
            "Facts": self._facts,
            "Ping": self._probe,
            "Pong": lambda: [*self._probe(), self.rng.choice((0.0, 1e9, 1e300))],
            "Goodbye": list,
            "SignedOffer": lambda: [
                self._offer(),
                self.rng.choice((b"", bytes(16), bytes(160))),
            ],
            "SignedClosing": lambda: [self._closing()],
            "Request": self._request,
            "Refusal": lambda: [self._pull(), self._word(REFUSAL_REASONS)],
            "Credit": lambda: [self._pull(), self._size()],
            "StreamStart": lambda: [self._pull(), *self._sizes(2), b"", self._base()],
            "Chunk": lambda: [self._pull(), self._size()],
            "Digests": self._digests,
            "Known": lambda: [self.rng.choice(PARTS), self._names()],
            "Wanted": lambda: [self._names()],
            "ProbeFor": lambda: [self._size(), self.anybody()],
            "Seen": lambda: [self._size(), self.anybody()],
        }
        assert self._writers.keys() == CODES.keys()

    def frames(self, kind: str) -> list[bytes]:
        """The frames of a message of this kind; often there is something wrong."""
        self.speaker = self.rng.choice(("p0", "p0", *MEMBERS))
        fields: Plain = self._writers[kind]()
        if self._is_wrong():
            fields = changed(self.rng, fields)
        parts = fields if isinstance(fields, list) else [fields]
        frames = [self._pack([CODES[kind], *parts])]
        if kind == "Chunk":
            frames.append(bytes(self.rng.choice((1, 4, 40, 400, 4_000))))
        if self._is_wrong(0.3):
            at = self.rng.randrange(len(frames))
            frames[at] = damaged(self.rng, frames[at], frames)
        return frames

    def kind(self, *likely: str) -> str:
        """A kind of message, mostly one of the likely ones."""
        if likely and self.rng.random() < 0.8:
            return self.rng.choice(likely)
        return self.rng.choice(list(CODES))

    def member(self) -> str:
        """Somebody who may be a member."""
        return self.rng.choice(MEMBERS)

    def anybody(self) -> str:
        """A member or a stranger."""
        return self.rng.choice(MEMBERS if self.rng.random() < 0.6 else STRANGERS)

    # --- Statements ------------------------------------------------------------------

    def _signed(self, domain: str, values: list[Plain], by: str) -> Signed:
        said: Plain = values
        if self._is_wrong(0.5):
            said = changed(self.rng, values)
        if self._is_wrong(0.1):
            domain = self.rng.choice(("record/v1", "offer/v1", "admission/v1"))
        key = NamedKey(by)
        payload = key.public + self._pack(said)
        signature = key.sign(domain, payload)
        if self._is_wrong(0.1):
            payload = damaged(self.rng, payload, [signature])
        return [payload, signature]

    def _record(self, peer: str, swarm: str) -> Signed:
        rng = self.rng
        there = record(peer)
        is_outward = rng.random() < 0.2
        values: list[Plain] = [
            rng.choice((peer, peer, "漢" * 64)),
            "" if is_outward else rng.choice(("127.0.0.1", "10.0.0.1", "漢" * 255)),
            0 if is_outward else rng.choice((1, 2, 3, 65_534)),
            rng.choice(("1/2", "1/2", "1", "1/4", "x", "1e99")),
            rng.choice((1, 1, 1, 2, 3, *HUGE)),
            rng.choice((0, 1, 2, 3, *HUGE)),
            rng.choice((-1, -1, 0, 1, 2, 5, *HUGE)),
            swarm,
            rng.choice((there.transport_key, bytes(32))),
            rng.choice((there.exchange_key, bytes(32))),
            rng.choice(("aes-256-gcm", "chacha20-poly1305")),
            rng.choice(("", "", "1/4", "x")),
            rng.choice((0, 1, 5, NEVER)),
            rng.choice((NEVER, NEVER, 0, 1, 3)),
            rng.choice((NEVER, NEVER, NEVER, 2)),
            rng.choice(([], [], [[1, 1, 2]], [[1, 1, 1], [1, 2, 2]])),
            rng.choice((b"", b"", b"", b"x", bytes(4_096))),
            rng.choice((NEVER, NEVER, 0, 3)),
            rng.random() < 0.9,
        ]
        return self._signed("record/v1", values, peer)

    def credential(self, peer: str) -> bytes:
        """A chain that makes a peer a member, or so it seems."""
        rng = self.rng
        path = ["p0", *rng.sample(MEMBERS[1:4], rng.choice((0, 0, 1, 2, 3))), peer]
        if self._is_wrong(0.1):
            path = path[1:]
        if len(path) < 2:
            return rng.choice((b"", b"", rng.randbytes(9)))
        roles = [rng.choice(("admin", "admin", "member")) for _ in path]
        rows: Plain = [
            self._link(by, to, role if to == peer or self._is_wrong(0.2) else "admin")
            for by, to, role in zip(path, path[1:], roles, strict=False)
        ]
        if self._is_wrong(0.2):
            rows = changed(rng, rows)
        packed = self._pack(rows)
        return damaged(rng, packed, [packed]) if self._is_wrong(0.1) else packed

    def _link(self, by: str, to: str, role: str) -> list[Plain]:
        keys = [NamedKey(by).public, NamedKey(to).public]
        values: Plain = [self._swarm(), *keys, role, self.rng.choice(("", "i"))]
        if self._is_wrong(0.1):
            values = changed(self.rng, values)
        link = self._pack(values)
        return [link, NamedKey(by).sign("admission/v1", link)]

    def _offer(self) -> Signed:
        rng = self.rng
        peer = self.speaker = self.member()
        numbers = [rng.choice((1, 1, 2, *HUGE)), rng.choice((1, 2, 9, 99, *HUGE)), 0]
        values = [self._swarm(), *numbers, self._round(), self._digest()]
        values += [self._size(), *(rng.choice((0.0, 1.0, -1.0)) for _ in range(3))]
        values += [rng.choice((NEVER, 0, 1)), *(rng.choice((0.0, 1e300)) for _ in "ab")]
        values += [rng.choice((bytes(16), b"c" * 16)), bytes(8)]
        return self._signed("offer/v1", values, peer)

    def _evidence(self) -> list[Plain]:
        """Two offers, which seldom are of one peer and contradict each other."""
        return sorted((self._offer(), self._offer()), key=repr)

    def _closing(self) -> Signed:
        rng = self.rng
        peer = self.speaker = self.member()
        entries: list[Plain] = [
            [at, bytes(8), rng.choice((0, 1, 9)), rng.choice((0.0, 1e300)), 0.5]
            for at in range(rng.choice((0, 1, 3)))
        ]
        values = [self._swarm(), self._round(), self._digest(), entries, [0.0, 1.0]]
        return self._signed("closing/v1", values, peer)

    def _revocation(self) -> Signed:
        rng = self.rng
        values = [self._swarm(), self.anybody(), rng.choice((0, 1, 3, *HUGE))]
        by = rng.choice(("p0", "p1", "p2"))
        return self._signed("revocation/v1", [*values, rng.choice(("", "why"))], by)

    def _accusation(self) -> Signed:
        rng = self.rng
        age = [rng.choice((1, 1, 2, *HUGE)), rng.choice((0, 0, 1, *HUGE))]
        values = [self._swarm(), self.member(), *age, rng.choice((0, 1, 2, 5, NEVER))]
        return self._signed("accusation/v1", values, self.anybody())

    def _recovery(self) -> Signed:
        rng = self.rng
        lost = sorted(rng.sample(MEMBERS, rng.choice((1, 1, 2, 5))))
        values = [self._swarm(), lost, rng.choice((0, 1, 3, NEVER)), "fire"]
        return self._signed("recovery/v1", values, rng.choice(("p0", "p1", "p2")))

    def _start(self) -> Signed:
        some = self.rng.sample(MEMBERS, self.rng.randrange(1, 5))
        values = [self._swarm(), sorted(some)]
        return self._signed("start/v1", values, self.rng.choice(("p0", "p0", "p1")))

    # --- Fields ----------------------------------------------------------------------

    def _hello(self) -> list[Plain]:
        rng = self.rng
        peer = self.speaker = self.anybody()
        version = rng.choice((PROTOCOL_VERSION,) * 20 + (1, 2**62))
        if rng.random() < 0.5:
            swarm = self._swarm()
            shown = self.credential(peer)
            return [version, swarm, self._record(peer, swarm), shown, "", b""]
        swarm = rng.choice(("", self._swarm()))
        invite = rng.choice((None, *INVITES))
        asked: list[Plain] = ["", b""]
        if invite is not None:
            asked = [invite.id, proof(invite.secret, swarm=swarm, peer=peer)]
        return [version, "", self._record(peer, swarm), b"", *asked]

    def _welcome(self) -> list[Plain]:
        length = self.rng.choice((len(self.packed),) * 5 + (0, 1, 16 << 20))
        return [self._swarm(), self._round(), length, self.credential("me")]

    def _part(self) -> list[Plain]:
        offset = self.rng.choice((0, 0, 0, 1, len(self.packed) // 2, *HUGE))
        data = self.packed[offset:] or b"x"
        if self._is_wrong(0.5):
            data = damaged(self.rng, data, [self.packed]) or b"x"
        return [offset, data]

    def _facts(self) -> list[Plain]:
        rng = self.rng
        swarm = self._swarm()
        names = [self.anybody() for _ in range(rng.choice((0, 1, 1, 3)))]
        members = [[self._record(n, swarm), self.credential(n)] for n in names]
        start = self._start() if rng.random() < 0.3 else None
        count = rng.choice((0, 0, 0, 0, 1, 2))
        revocations = [
            [self._revocation(), self.credential(rng.choice(("p0", "p1", "p2")))]
            for _ in range(count)
        ]
        accused = [self._accusation() for _ in range(rng.choice((0, 0, 1, 2, 4)))]
        recoveries = [
            [self._recovery(), self.credential(rng.choice(("p0", "p1", "p2")))]
            for _ in range(rng.choice((0, 0, 0, 0, 0, 1)))
        ]
        evidence = [self._evidence() for _ in range(rng.choice((0, 0, 0, 0, 1)))]
        return [members, start, revocations, accused, recoveries, evidence]

    def _probe(self) -> list[Plain]:
        return [self._size(), self._round(), self._digest()]

    def _digests(self) -> list[Plain]:
        rng = self.rng
        buckets = b"".join(rng.choice((bytes(8), b"x" * 8)) for _ in range(64))
        return [rng.choice((buckets, b""))]

    def _names(self) -> bytes:
        """Of facts that there may be, and of others."""
        rng = self.rng
        made = [bytes([rng.choice((0, 7, 63, 64, 255))]) + rng.randbytes(7)]
        known = rng.sample(self.names, min(len(self.names), rng.choice((0, 1, 9))))
        names = b"".join((known + made) * rng.choice((0, 1, 1, 2)))
        return names + bytes(rng.choice((0, 0, 0, 1)))

    def _request(self) -> list[Plain]:
        instead = self.rng.choice(("", "", self.anybody()))
        where = [self._word(HOPS), self._round(), self._digest(), instead]
        asked = self.rng.choice((b"", b"", bytes(4), bytes(4) + b"\xff" * 9))
        return [self._pull(), *where, *self._sizes(2), asked, self._least()]

    def _swarm(self) -> str:
        wrong = self._is_wrong(0.15)
        return self.rng.choice(("", "other")) if wrong else self.manifest.swarm_id

    def _round(self) -> int:
        return self.rng.choice((0, 1, 2, 3, 4, 5, 31, 32, 33, *HUGE))

    def _base(self) -> int:
        """The round for which a contribution was trained."""
        return self.rng.choice((NEVER, NEVER, NEVER, self._round()))

    def _least(self) -> int:
        """The version of values that is good enough."""
        return self.rng.choice((0, 0, 1, 2))

    def _pull(self) -> int:
        return self.rng.choice((*self.pulls, *self.pulls, 7, *HUGE))

    def _digest(self) -> bytes:
        return self.rng.choice(self.digests)

    def _size(self) -> int:
        return self.rng.choice((0, 1, 4, 40, 400, 4_000, 1 << 20, 1 << 23, *HUGE))

    def _sizes(self, count: int) -> list[Plain]:
        return [self._size() for _ in range(count)]

    def _word(self, words: frozenset[str]) -> str:
        return self.rng.choice(sorted(words))

    def _is_wrong(self, share: float = 1.0) -> bool:
        return self.rng.random() < self.damage * share

    def _pack(self, value: Plain) -> bytes:
        try:
            packed: bytes = msgpack.packb(value)
        except (OverflowError, ValueError, TypeError):
            return b"\xc0"  # it has made a number that no message can carry
        return packed
