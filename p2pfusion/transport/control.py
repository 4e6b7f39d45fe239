"""The control plane of one peer: small messages, each from a proven sender.

Puts the parts together: the sockets of ``zeromq.py``, the ``Door`` of ``zap.py``, which
decides about keys, and the ``Guard`` of ``guard.py``, which bounds what connections may
cost. A message's sender is the name under which its connection's key is admitted when
the message is taken out; what the other side calls itself counts in plain mode only.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Mapping, Sequence

from p2pfusion import limits
from p2pfusion.errors import LocalProtocolError, ResourceError
from p2pfusion.transport import bounds
from p2pfusion.transport.base import (
    GUEST,
    KEY_BYTES,
    Address,
    Arrival,
    Frame,
    Incoming,
    Keys,
    KnockFailed,
    Plane,
    Traffic,
    bounded_wait_s,
    check_outgoing,
    check_peer_id,
    refusal,
    size_bytes,
)
from p2pfusion.transport.budget import TokenBuckets, source_of
from p2pfusion.transport.guard import Guard
from p2pfusion.transport.lines import Knock, Line
from p2pfusion.transport.zap import Door, Handshake, Verdict, guest_name, is_sender
from p2pfusion.transport.zeromq import (
    Event,
    Listener,
    Message,
    check_library,
    open_context,
    wait,
)


class ControlPlane:
    """Sends and receives on the control plane. Used from one thread."""

    def __init__(
        self, peer: str, listen: Address, keys: Keys | None, traffic: Traffic
    ) -> None:
        """Listens at once. ``keys`` is who this peer is; None for plain mode.

        ``ConflictError`` if the port is taken, ``ConfigError`` if this machine has no
        such address or cannot encrypt, ``ResourceError`` if it can open no socket."""
        check_peer_id(peer)
        if keys is not None:
            check_library()
            _check_key(keys.public)
            _check_key(keys.secret)
        self._peer = peer
        self._keys = keys
        self._traffic = traffic
        self._door = Door()
        self._lines: dict[str, Line] = {}
        self._knocks: dict[Address, Knock] = {}
        self._member_rate = TokenBuckets(
            per_second=limits.CONTROL_MESSAGES_PER_SECOND,
            burst=limits.CONTROL_MESSAGE_BURST,
            most_keys=bounds.MAX_COUNTED_PEERS,
        )
        self._guest_rate = TokenBuckets(
            per_second=limits.HANDSHAKES_PER_SECOND,
            burst=limits.HANDSHAKE_BURST,
            most_keys=limits.MAX_CONNECTIONS,
        )
        self._context = open_context()
        try:
            self._listener = Listener(self._context, listen, keys)
        except Exception:
            self._context.term()
            raise
        self.address = self._listener.address
        self._guard = Guard(self.address.port, traffic.dropped, keyless=keys is None)

    def admit(self, name: str, key: bytes) -> None:
        """Lets ``name`` in by this key; see ``Transport``."""
        check_peer_id(name)
        self._check_remote_key(key)
        # Without keys, who has a name is who says so.
        self._door.admit(name, key if self._keys else name.encode())
        self._answer_parked()

    def expel(self, name: str) -> None:
        """Keeps ``name`` out from now on; see ``Transport``."""
        self._door.expel(name)
        self._guard.shut(name)
        self._drop_line(name, linger_ms=0)
        self._answer_parked()

    def set_door(self, *, guests: Collection[bytes], strangers: bool) -> None:
        """Says who else may greet; see ``Transport``."""
        self._door.set(guests=guests, strangers=strangers)
        self._answer_parked()

    def kick(self, sender: str) -> None:
        """Closes the connections of ``sender``, which may come back."""
        self._guard.shut(sender)

    def connect(self, peer: str, address: Address, key: bytes) -> None:
        """Makes ``peer`` known; see ``Transport``. ``ResourceError`` if this process
        may open no more descriptors; ``peer`` is unknown then."""
        check_peer_id(peer)
        self._check_remote_key(key)
        line = self._lines.get(peer)
        is_same = line is not None and line.target == (address, key)
        if line is not None and is_same and not line.is_lost(time.monotonic()):
            return
        self._drop_line(peer, linger_ms=0)
        self._lines[peer] = Line(self._context, address, keys=self._keys, key=key)

    def disconnect(self, peer: str) -> None:
        """Forgets ``peer``; what waits for it still leaves if it can soon."""
        self._drop_line(peer, linger_ms=bounds.LAST_WORD_LINGER_MS)

    def knock(
        self,
        address: Address,
        frames: Sequence[Frame],
        *,
        key: bytes,
        own: Keys | None = None,
    ) -> None:
        """Sends a message to whoever listens there; see ``Transport``."""
        size = check_outgoing(Plane.CONTROL, frames)
        self._check_remote_key(key)
        if own is not None:
            _check_key(own.public)
            _check_key(own.secret)
        name = self._peer if own is None else guest_name(own.public)
        keys = None if self._keys is None else own or self._keys
        knock = self._knocks.pop(address, None)
        if knock is not None and knock.means != (keys, key):
            knock.close()
            knock = None
        if knock is None:
            if len(self._knocks) == bounds.MAX_KNOCKS:
                self._knocks.pop(next(iter(self._knocks))).close()
            knock = Knock(self._context, address, keys=keys, key=key)
        self._knocks[address] = knock
        is_sent = knock.send(self._named(name, frames), time.monotonic())
        self._count_sent(is_sent, str(address), size)

    def send(self, peer: str, frames: Sequence[Frame]) -> bool:
        """Queues a message, or returns False; see ``Transport``."""
        size = check_outgoing(Plane.CONTROL, frames)
        line = self._lines.get(peer)
        if line is not None and line.is_lost(time.monotonic()):
            with contextlib.suppress(ResourceError):
                self.connect(peer, *line.target)
            line = self._lines.get(peer)
        if line is None:
            self._traffic.dropped["unknown peer"] += 1
            return False
        is_sent = line.send(self._named(self._peer, frames))
        return self._count_sent(is_sent, peer, size)

    def poll(
        self, timeout_s: float | None, descriptors: Mapping[int, int]
    ) -> tuple[list[Arrival], list[int]]:
        """Waits for messages or descriptors; see ``Transport``."""
        wait_s = bounded_wait_s(timeout_s)
        for deadline in (self._guard.deadline(), self._door.deadline()):
            if deadline is not None:
                left_s = max(deadline - time.monotonic(), 0.0)
                wait_s = left_s if wait_s is None else min(wait_s, left_s)
        waits_for = [
            *self._listener.waits_for,
            *(s for knock in self._knocks.values() for s in knock.outgoing.waits_for),
        ]
        sockets, ready = wait(waits_for, descriptors, wait_s)
        now = time.monotonic()
        # Looking at a socket that has nothing costs as much as a short message.
        if self._listener.has_connections(sockets):
            self._note_connections(now)
        if self._listener.has_questions(sockets):
            self._answer_questions(now)
        self._release_handshakes(now)
        has_messages = self._listener.has_messages(sockets)
        received = self._receive(now) if has_messages else self._receive_none()
        arrivals = [*self._failed_knocks(now), *received]
        self._guard.look(now)
        return arrivals, ready

    def close(self) -> None:
        """Lets the last messages leave for a bounded time and frees everything."""
        for peer in list(self._lines):
            self._drop_line(peer, linger_ms=bounds.CLOSE_LINGER_MS)
        for knock in self._knocks.values():
            knock.close()
        self._knocks.clear()
        self._listener.close()
        self._context.term()

    def _note_connections(self, now: float) -> None:
        for event, descriptor in self._listener.connections():
            if event is Event.BEGUN:
                self._guard.begin(descriptor, now)
            else:
                self._guard.end(descriptor)

    def _answer_questions(self, now: float) -> None:
        for frames in self._listener.questions():
            handshake = Handshake.parse(frames)
            if handshake is not None:
                self._answer(handshake, self._door.judge(handshake, now))

    def _release_handshakes(self, now: float) -> None:
        deadline = self._door.deadline()
        if deadline is not None and deadline <= now:
            self._answer_parked()

    def _answer_parked(self) -> None:
        for handshake, verdict in self._door.released(time.monotonic()):
            self._answer(handshake, verdict)

    def _answer(self, handshake: Handshake, verdict: Verdict) -> None:
        if verdict is Verdict.PARKED:
            return
        if verdict is Verdict.WELCOME and self._door.is_member(handshake.key):
            self._guard.vouch(handshake.source)
        self._listener.answer(handshake.answer(verdict))

    def _failed_knocks(self, now: float) -> list[Arrival]:
        failed: list[Arrival] = []
        for address, knock in list(self._knocks.items()):
            reason = knock.failure(now)
            if reason is not None and knock.awaits_news:
                failed.append(KnockFailed(address, reason))
            is_old = now - knock.knocked_at > bounds.KNOCK_LIFETIME_S
            if reason is not None or is_old:
                knock.close()
                del self._knocks[address]
        return failed

    def _receive(self, now: float) -> list[Arrival]:
        arrivals: list[Arrival] = []
        count = taken_bytes = 0
        is_enough = False
        for message in self._listener.messages():
            count += 1
            taken_bytes += size_bytes(message.frames)
            arrived = self._accept(message, now)
            if arrived is not None:
                arrivals.append(arrived)
            is_enough = (
                count == bounds.MAX_CONTROL_MESSAGES_PER_POLL
                or taken_bytes >= bounds.MAX_CONTROL_BYTES_PER_POLL
            )
            if is_enough:
                break
        self._guard.received(count, all_of_them=not is_enough)
        return arrivals

    def _receive_none(self) -> list[Arrival]:
        self._guard.received(0, all_of_them=True)
        return []

    def _accept(self, message: Message, now: float) -> Incoming | None:
        frames = message.frames
        if self._keys is None:
            sender, reason = self._claimed(message)
            frames = frames[1:]
        else:
            sender, reason = self._proven(message)
        descriptor = message.descriptor
        if reason is None and not self._guard.heard(descriptor, sender, now):
            reason = "a connection that is being closed"
        if reason is None and sender.startswith(GUEST):
            reason = self._guest_refusal(message, frames, now)
            if reason is not None:
                self._guard.cut(descriptor, None)
        elif reason is None:
            reason = refusal(Plane.CONTROL, frames)
            if reason is None and not self._member_rate.spend(sender, now):
                reason = "too many messages of one peer"
        if reason is not None:
            self._traffic.dropped[reason] += 1
            return None
        self._traffic.count_received(Plane.CONTROL, sender, size_bytes(frames))
        return Incoming(sender, Plane.CONTROL, tuple(bytes(frame) for frame in frames))

    def _proven(self, message: Message) -> tuple[str, str | None]:
        """Whose message it is, or why it is nobody's who is listened to."""
        key = bytes.fromhex(message.user)
        if self._door.heard(key):
            self._answer_parked()
        sender = self._door.sender(key) if len(key) == KEY_BYTES else None
        if sender is not None:
            return sender, None
        self._guard.cut(message.descriptor, None)
        return "", "a sender that is not admitted"

    def _claimed(self, message: Message) -> tuple[str, str | None]:
        """The same in plain mode, where the first frame says so."""
        name = bytes(message.frames[0]).decode("ascii", errors="replace")
        if not is_sender(name):
            return "", "a sender without a proper id"
        sender = self._door.claimed(name)
        if sender is not None:
            return sender, None
        self._guard.cut(message.descriptor, None)
        return "", "a sender that is not admitted"

    def _named(self, name: str, frames: Sequence[Frame]) -> Sequence[Frame]:
        """A message as it travels."""
        return frames if self._keys else [name.encode(), *frames]

    def _guest_refusal(
        self, message: Message, frames: Sequence[Frame], now: float
    ) -> str | None:
        if len(frames) != 1 or size_bytes(frames) > limits.MAX_GUEST_FRAME_BYTES:
            return "a guest's message out of bounds"
        if not self._guest_rate.spend(source_of(message.host), now):
            return "too many messages of guests"
        return None

    def _count_sent(self, sent: bool, name: str, size: int) -> bool:
        if sent:
            self._traffic.count_sent(Plane.CONTROL, name, size)
        else:
            self._traffic.dropped["queue full"] += 1
        return sent

    def _drop_line(self, peer: str, *, linger_ms: int) -> None:
        line = self._lines.pop(peer, None)
        if line is not None:
            line.close(linger_ms=linger_ms)

    def _check_remote_key(self, key: bytes) -> None:
        if self._keys is not None:
            _check_key(key)


def _check_key(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise LocalProtocolError(f"a key that has not {KEY_BYTES} bytes")
