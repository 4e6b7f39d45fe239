"""Who gets in: decisions about handshakes, and the names of who sends.

ZeroMQ asks a *ZAP handler* about every key that has been proven to it, and waits for
the answer. Here are the questions and answers as bytes, and the ``Door``, which
decides. An admitted key is let in under its owner's name. Guests, whom an invitation's
key or an open door lets in, are heard as ``GUEST`` and their key. Everybody else is
refused if that is final, and otherwise *parked*: not answered, in case its owner is
admitted in this moment, as happens to whoever is faster than the news of itself; some
seconds later it is refused, so that it learns where it stands.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from p2pfusion import limits
from p2pfusion.transport import bounds
from p2pfusion.transport.base import GUEST, KEY_BYTES, is_peer_id
from p2pfusion.transport.budget import TokenBuckets, source_of

DOMAIN = b"p2pfusion"

_VERSION = b"1.0"
_GUEST_NAME = re.compile(rf"{GUEST}[0-9a-f]{{{2 * KEY_BYTES}}}")


class Verdict(StrEnum):
    """Answers, by their codes; ``PARKED`` is none."""

    WELCOME = "200"
    REFUSED = "400"
    PARKED = ""


@dataclass(frozen=True)
class Handshake:
    """A question to the handler: whose key was proven, from where, and the way back."""

    route: bytes
    request: bytes
    source: str
    key: bytes

    @classmethod
    def parse(cls, frames: Sequence[bytes]) -> Handshake | None:
        """A question as ZeroMQ asks it; None if it is about something else."""
        if len(frames) != 9:
            return None
        route, empty, version, request, domain, host, _, mechanism, key = frames
        if (empty, version, domain, mechanism) != (b"", _VERSION, DOMAIN, b"CURVE"):
            return None
        source = source_of(host.decode("ascii", errors="replace"))
        return cls(route, request, source, key)

    def answer(self, verdict: Verdict) -> list[bytes]:
        """What to send back. The key becomes the connection's user id."""
        user = self.key.hex().encode() if verdict is Verdict.WELCOME else b""
        code = verdict.value.encode()
        return [self.route, b"", _VERSION, self.request, code, b"", user, b""]


def guest_name(key: bytes) -> str:
    """The sender of messages of who is not admitted."""
    return GUEST + key.hex()


def is_sender(name: str) -> bool:
    """Whether a message can come from ``name``."""
    return is_peer_id(name) or _GUEST_NAME.fullmatch(name) is not None


class Door:
    """Knows the keys, and decides. Instants are seconds of any one steady clock."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}
        self._names: dict[bytes, str] = {}
        self._expelled: dict[str, bytes | None] = {}
        self._guests: frozenset[bytes] = frozenset()
        self._strangers = False
        self._parked: dict[Handshake, float] = {}
        self._awaited: dict[bytes, tuple[str, float]] = {}
        self._budget = TokenBuckets(
            per_second=limits.HANDSHAKES_PER_SECOND,
            burst=limits.HANDSHAKE_BURST,
            most_keys=limits.MAX_CONNECTIONS,
        )

    def admit(self, name: str, key: bytes) -> None:
        """This key is ``name``'s, and no other; nor is any other key."""
        self._forget(name)
        self._expelled = {
            other: its_key
            for other, its_key in self._expelled.items()
            if other != name and its_key != key
        }
        earlier = self._names.pop(key, None)
        if earlier is not None:
            del self._keys[earlier]
        self._keys[name] = key
        self._names[key] = name

    def expel(self, name: str) -> None:
        """The key of ``name`` is refused."""
        if name not in self._expelled:
            self._expelled[name] = self._keys.get(name)
        self._forget(name)

    def set(self, *, guests: Collection[bytes], strangers: bool) -> None:
        """Which guests are let in beside the admitted."""
        self._guests = frozenset(guests)
        self._strangers = strangers

    def sender(self, key: bytes) -> str | None:
        """Under which name the messages of a proven key arrive; None for not at all."""
        name = self._names.get(key)
        if name is not None:
            return name
        if key in self._expelled.values():
            return None
        is_guest = self._strangers or key in self._guests
        return guest_name(key) if is_guest else None

    def claimed(self, name: str) -> str | None:
        """The same where nobody proves anything, for a name in the form of one."""
        if name.startswith(GUEST):
            key = bytes.fromhex(name.removeprefix(GUEST))
            return name if self._strangers or key in self._guests else None
        return None if name in self._expelled else name

    def judge(self, handshake: Handshake, now: float) -> Verdict:
        """What to answer now. Remembers who is parked, for ``released``."""
        verdict = self._judge(handshake, now)
        if verdict is Verdict.PARKED:
            if len(self._parked) == limits.MAX_PARKED_HANDSHAKES:
                del self._parked[next(iter(self._parked))]
            self._parked[handshake] = now
        return verdict

    def is_member(self, key: bytes) -> bool:
        """Whether it is an admitted key."""
        return key in self._names

    def heard(self, key: bytes) -> bool:
        """A message has come from there. Whether that frees a stranger's place."""
        return self._awaited.pop(key, None) is not None

    def deadline(self) -> float | None:
        """When ``released`` has an answer even if nothing changes."""
        since = next(iter(self._parked.values()), None)
        if since is None:
            return None
        return since + self._patience_s()

    def released(self, now: float) -> Iterator[tuple[Handshake, Verdict]]:
        """Parked handshakes that can be answered by now, each once."""
        for handshake, since in list(self._parked.items()):
            is_over = now >= since + self._patience_s()
            verdict = self._judge(handshake, now)
            if verdict is Verdict.PARKED and not is_over:
                continue
            del self._parked[handshake]
            if verdict is not Verdict.PARKED:
                yield handshake, verdict
            elif not self._strangers:
                yield handshake, Verdict.REFUSED

    def _patience_s(self) -> float:
        """How long to park. A stranger that only lacks room is never refused: it will
        try again by itself."""
        if self._strangers:
            return bounds.HANDSHAKE_TIMEOUT_MS / 1_000
        return limits.UNKNOWN_KEY_PATIENCE_S

    def _judge(self, handshake: Handshake, now: float) -> Verdict:
        key = handshake.key
        if len(key) != KEY_BYTES:
            return Verdict.REFUSED
        if key in self._names:
            return Verdict.WELCOME
        if key in self._expelled.values():
            return Verdict.REFUSED
        if key in self._guests:
            return Verdict.WELCOME
        if self._strangers and self._has_room(handshake, now):
            return Verdict.WELCOME
        return Verdict.PARKED

    def _has_room(self, handshake: Handshake, now: float) -> bool:
        """Takes a stranger's place until it is heard, or has had the time to speak."""
        over = now - limits.FIRST_MESSAGE_TIMEOUT_S
        awaited = {k: v for k, v in self._awaited.items() if v[1] > over}
        self._awaited = awaited
        if handshake.key not in awaited:
            sources = Counter(source for source, _ in awaited.values())
            if len(awaited) >= limits.MAX_GUESTS:
                return False
            if sources[handshake.source] >= limits.MAX_GUESTS_PER_SOURCE:
                return False
        if not self._budget.spend(handshake.source, now):
            return False
        awaited[handshake.key] = (handshake.source, now)
        return True

    def _forget(self, name: str) -> None:
        key = self._keys.pop(name, None)
        if key is not None:
            del self._names[key]
