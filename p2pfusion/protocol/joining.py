"""A newcomer's way in: knock at addresses until a member answers with the manifest.

Every address has a *way*: whose key answers there, which swarm to expect, and the
invitation to show. A way without a key begins by asking whoever listens for its banner,
and takes the key in it on trust. Knocking goes on for ever, with growing pauses, until
a member answers or refuses for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.limits import MAX_MANIFEST_BYTES
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import ManifestPart, Welcome
from p2pfusion.protocol.timing import NEVER_S

KNOCK_INTERVALS_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses between attempts to join; the last repeats for ever."""

MANIFESTS_AT_ONCE = 4
"""Manifests that may be arriving; strangers who announce more displace the oldest."""

NOBODY = "nobody has answered yet"

KNOCK_FAILURES = {
    "refused": ("the peer there does not know this ticket", True),
    "wrong-key": ("whoever answers there has another key than expected", True),
    "changed-key": ("whoever answers there has another key than last time", True),
    "no-answer": (NOBODY, False),
    "no-banner": ("nobody there takes peers without a ticket", False),
}
"""What a knock's failure means, and whether there is no use in another."""


@dataclass(frozen=True)
class Way:
    """What is known of an address to join by, and what to show there."""

    host: str
    port: int
    peer: str = ""
    """Whose key must answer; "" while nobody knows."""
    key: bytes = b""
    """The transport key that must answer; b"" while nobody knows."""
    swarm: str = ""
    """The swarm to expect there; "" takes any."""
    invite: str = ""
    """The invitation to show; "" for none."""
    secret: bytes = b""
    """The invitation's secret."""


@dataclass
class Knocking:
    """Attempts to join at one address."""

    way: Way
    attempts: int = 0
    next_at: float = 0.0
    last_error: str = NOBODY
    denied: bool = False
    answer: str = ""
    """The code of the refusal that came from there; "" without one."""

    @property
    def address(self) -> str:
        """For people."""
        host = f"[{self.way.host}]" if ":" in self.way.host else self.way.host
        return f"{host}:{self.way.port}"


@dataclass
class Arriving:
    """A manifest on its way in, and the credential that came with its head."""

    want: int
    credential: bytes
    parts: bytearray = field(default_factory=bytearray)


class Joining:
    """All ways in that are being tried, and the manifests that arrive by them."""

    def __init__(self) -> None:
        self.knocking: list[Knocking] = []
        self.manifests: dict[str, Arriving] = {}

    def try_way(self, way: Way) -> None:
        """Adds a way, once; one to the same address takes its place."""
        for knocking in self.knocking:
            if (knocking.way.host, knocking.way.port) == (way.host, way.port):
                knocking.way, knocking.denied = way, False
                knocking.next_at, knocking.attempts = 0.0, 0
                return
        self.knocking.append(Knocking(way))

    def introduced(self, host: str, port: int, peer: str, key: bytes) -> None:
        """Somebody answers there and says who it is: knock with its key, at once."""
        for knocking in self._at(host, port):
            if not knocking.way.key:
                knocking.way = replace(knocking.way, peer=peer, key=key)
                knocking.next_at = 0.0

    def failed(self, host: str, port: int, text: str, *, for_good: bool) -> None:
        """An attempt at this address failed; ``for_good``: there is no use in more."""
        for knocking in self._at(host, port):
            knocking.last_error = text
            knocking.denied = knocking.denied or for_good

    def note(self, text: str, *, for_good: bool = False, code: str = "") -> None:
        """Somebody said no; it does not matter by which address."""
        for knocking in self.knocking:
            knocking.last_error, knocking.answer = text, code
            knocking.denied = knocking.denied or for_good

    @property
    def is_hopeless(self) -> bool:
        """Whether there were ways in, and there is no use in any of them."""
        return bool(self.knocking) and all(k.denied for k in self.knocking)

    def _at(self, host: str, port: int) -> Iterator[Knocking]:
        return (k for k in self.knocking if (k.way.host, k.way.port) == (host, port))

    def due(self, now: float) -> list[Way]:
        """The ways that want an attempt now."""
        ways = []
        for knocking in self.knocking:
            if knocking.next_at <= now and not knocking.denied:
                pause = min(knocking.attempts, len(KNOCK_INTERVALS_S) - 1)
                knocking.next_at = now + KNOCK_INTERVALS_S[pause]
                knocking.attempts += 1
                ways.append(knocking.way)
        return ways

    def deadline(self) -> float:
        """When ``due`` has something to give."""
        if not self.knocking:
            return NEVER_S
        instants = (k.next_at for k in self.knocking if not k.denied)
        return min(instants, default=NEVER_S)

    def asked(self, peer: str) -> bool:
        """Whether this peer may be one that was knocked at."""
        return any(k.way.peer in ("", peer) for k in self.knocking)

    def expects(self, peer: str, swarm: str) -> bool:
        """Whether a welcome from this peer into this swarm is what was asked for."""
        return any(
            k.way.peer in ("", peer) and k.way.swarm in ("", swarm)
            for k in self.knocking
        )

    # --- Manifests -------------------------------------------------------------------

    def announced(self, peer: str, welcome: Welcome) -> None:
        """A manifest of so many bytes will come from this peer."""
        self.manifests.pop(peer, None)
        while len(self.manifests) >= MANIFESTS_AT_ONCE:
            del self.manifests[next(iter(self.manifests))]
        arriving = Arriving(welcome.manifest_bytes, welcome.credential)
        self.manifests[peer] = arriving

    def part(self, peer: str, part: ManifestPart) -> tuple[Manifest, bytes] | None:
        """A piece of it; with the last, the manifest and the credential."""
        arriving = self.manifests.get(peer)
        if arriving is None or part.offset != len(arriving.parts):
            return None
        length = len(arriving.parts) + len(part.data)
        if length > min(arriving.want, MAX_MANIFEST_BYTES):
            raise RemoteProtocolError("a manifest is longer than announced")
        arriving.parts += part.data
        if len(arriving.parts) < arriving.want:
            return None
        del self.manifests[peer]
        return Manifest.from_bytes(bytes(arriving.parts)), arriving.credential
