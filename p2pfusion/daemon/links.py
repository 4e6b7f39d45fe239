"""Connections to peers: whom this one lets in, whom it can reach, and sealed data.

Between the transport, which knows keys and tokens, and the protocol, which knows
peers. What arrives is opened here and what leaves is sealed: nothing else in the
daemon sees an encrypted byte. A pair of peers has one session for each pair of their
incarnations; its keys follow from the exchange keys in their signed records.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from typing import Protocol

from p2pfusion.errors import (
    ConfigError,
    LocalProtocolError,
    RemoteProtocolError,
    ResourceError,
)
from p2pfusion.limits import MAX_ROSTER
from p2pfusion.protocol.joining import Way
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import (
    Chunk,
    Hello,
    Message,
    PeerRecord,
    StreamStart,
)
from p2pfusion.protocol.wire import Frame, decode_all, encode, encode_all
from p2pfusion.security import (
    End,
    ExchangeKey,
    PlainSession,
    Session,
    invite_secret_key,
    passage_token,
    transport_public,
)
from p2pfusion.transport import (
    GUEST,
    Address,
    Incoming,
    Keys,
    Plane,
    Remote,
    Transport,
)

log = logging.getLogger("p2pfusion")

DATA_MESSAGES = (StreamStart, Chunk)


class Places(Protocol):
    """What knows where values belong."""

    def place(self, source: str, chunk: Chunk) -> memoryview | None:
        """Where a chunk's payload belongs, if it can be put there at once."""
        ...

    def check(self, source: str, chunk: Chunk) -> None:
        """``RemoteProtocolError`` for a payload that can be nobody's values."""
        ...


class Links:
    """All connections of one peer."""

    def __init__(
        self,
        transport: Transport,
        key: ExchangeKey,
        record: PeerRecord,
        *,
        secret: bytes,
        encrypted: bool,
    ) -> None:
        """``secret``: the transport key's; ``key``: the exchange key of this start."""
        self.transport = transport
        self.encrypted = encrypted
        self._secret = secret
        self._key = key
        self._me = _end(record)
        self._own = record
        self._is_outward = record.is_outward
        self._tokens: dict[bytes, bytes] = {}
        self._swarm = ""
        self._sessions: dict[str, tuple[End, Session | PlainSession]] = {}
        self._unreachable: dict[str, str] = {}
        self._said: dict[str, list[Message]] = {}
        self._scratch = memoryview(bytearray())

    def adopt(self, manifest: Manifest) -> None:
        """From now on sessions are those of this swarm."""
        self._swarm = manifest.swarm_id

    # --- Peers -----------------------------------------------------------------------

    def dial(self, record: PeerRecord, relay: PeerRecord | None = None) -> None:
        """Has a connection to this peer, through another if need be, and takes its
        own."""
        peer = record.peer
        self.transport.admit(peer, record.transport_key)
        try:
            self._know(peer, record.transport_key)
            self._connect(record, relay)
            self._open_session(record)
        except (
            ConfigError,
            LocalProtocolError,
            RemoteProtocolError,
            ResourceError,
        ) as error:
            # A record says what its author likes, and this machine has its limits:
            # such a member stays out of reach, as one that never answers.
            if self._unreachable.get(peer) != str(error):
                log.warning("cannot reach %r: %s", record.name, error)
            self._unreachable[peer] = str(error)

    def _connect(self, record: PeerRecord, relay: PeerRecord | None) -> None:
        if record.is_outward:
            if relay is not None:
                self.transport.connect(record.peer, self._through(record, relay))
            return
        control, data = _addresses(record)
        self.transport.connect(record.peer, Remote(control, data, record.transport_key))
        if self._is_outward:
            self.transport.stand_by(record.peer, data)

    def _through(self, record: PeerRecord, relay: PeerRecord) -> Remote:
        if relay.peer == self._me.peer:
            own = self.transport.addresses
            control, data = own[Plane.CONTROL], own[Plane.DATA]
        else:
            control, data = _addresses(relay)
        return Remote(control, data, record.transport_key, relay=relay.peer)

    def _know(self, peer: str, transport_key: bytes) -> None:
        """Passages between this peer and us are known by what only both can compute."""
        token = self._tokens.get(transport_key)
        if token is None:
            token = passage_token(self._secret, transport_key)
            while len(self._tokens) >= MAX_ROSTER:
                del self._tokens[next(iter(self._tokens))]
            self._tokens[transport_key] = token
        self.transport.know(peer, token)

    def _open_session(self, record: PeerRecord) -> None:
        other = _end(record)
        if self._sessions.get(record.peer, (None,))[0] == other:
            return  # a second one would begin to count anew under the same keys
        kind = Session if self.encrypted else PlainSession
        session = kind(self._key, self._me, other, swarm=self._swarm)
        self._sessions[record.peer] = (other, session)
        self.transport.open_session(
            record.peer,
            sending=session.sending_token,
            receiving=session.receiving_token,
        )

    def pair_secret(self, peer: str) -> bytes:
        """What only this start of ours and the present one of a peer can compute; of
        one without a session something that nobody else has."""
        known = self._sessions.get(peer)
        if known is None:
            return secrets.token_bytes()
        return self._key.shared(known[0].public)

    def bar(self, peer: str) -> None:
        """Closes this peer's connections, and refuses new ones."""
        self.flush()
        self.transport.expel(peer)
        self._sessions.pop(peer, None)

    def reply(self, record: PeerRecord, message: Message) -> None:
        """Answers a stranger once; a member by the connection that there is."""
        peer = record.peer
        self.flush()
        if peer in self._sessions:
            self.send(peer, message)
            return
        try:
            if record.is_outward:
                self._know(peer, record.transport_key)
            self._connect(record, self._own)
            self.send(peer, message)
        except (
            ConfigError,
            LocalProtocolError,
            RemoteProtocolError,
            ResourceError,
        ) as error:
            log.warning("cannot answer %r: %s", record.name, error)
        self.transport.disconnect(peer)

    # --- The way in ------------------------------------------------------------------

    def knock(self, way: Way, message: Hello) -> None:
        """Greets at an address, with the invitation's key where there is one."""
        own = None
        if way.invite:
            secret = invite_secret_key(way.secret)
            own = Keys(transport_public(secret), secret)
        if way.peer:
            # The answer comes by a connection of the other side.
            self.transport.admit(way.peer, way.key)
        address = Address(way.host, way.port)
        if way.peer and self._is_outward:
            # ... or, if it cannot dial us, by one that we keep there.
            self._know(way.peer, way.key)
            self.transport.stand_by(way.peer, Address(way.host, way.port + 1))
        self.transport.knock(address, encode(message), key=way.key, own=own)

    def ask(self, host: str, port: int) -> None:
        """Asks whoever listens there who it is."""
        self.transport.ask(Address(host, port))

    # --- Leaving ---------------------------------------------------------------------

    def say(self, peer: str, message: Message) -> None:
        """Sends it with whatever else this peer is told before ``flush``."""
        self._said.setdefault(peer, []).append(message)

    def flush(self) -> None:
        """Sends all that was said."""
        said, self._said = self._said, {}
        for peer, messages in said.items():
            self.send(peer, *messages)

    def send(self, peer: str, *messages: Message) -> bool:
        """Sends messages of one plane, in as few frames as hold them; seals what is
        bulk. False if something finds no room or no way.

        A message that is not sent is lost like one on the wire: requests, probes and
        facts are repeated until they have had their effect.
        """
        if not isinstance(messages[0], DATA_MESSAGES):
            plane, sealed = Plane.CONTROL, encode_all(messages)
        else:
            plane, found = Plane.DATA, self._sessions.get(peer)
            if found is None:
                return False
            sealed = [found[1].seal(frames) for frames in encode_all(messages)]
        return all([self.transport.send(peer, plane, frames) for frames in sealed])

    # --- Arriving --------------------------------------------------------------------

    def open(self, incoming: Incoming, places: Places | None) -> Iterator[Message]:
        """The messages that arrived; ``RemoteProtocolError`` for anything else.

        Nothing for data that the sender has not sealed, or that comes again: its token
        is seen by whoever watches the line, so that says nothing about the sender. Such
        data is counted and dropped, and what it stood in for is asked for again.

        A chunk's payload is opened straight into its place, else into a buffer that is
        good until the next call. Its place may follow from the message before it, so
        that must have been dealt with by then.
        """
        if incoming.plane is Plane.DATA:
            yield from self._open_data(incoming, places)
            return
        messages = decode_all(incoming.frames, data_plane=False)
        is_greeting = len(messages) == 1 and isinstance(messages[0], Hello)
        if incoming.sender.startswith(GUEST) and not is_greeting:
            self.transport.kick(incoming.sender)
            raise RemoteProtocolError("a stranger sent something else than a greeting")
        yield from messages

    def _open_data(
        self, incoming: Incoming, places: Places | None
    ) -> Iterator[Message]:
        found = self._sessions.get(incoming.sender)
        if found is None:
            # Whoever has seen a token can send some: it says nothing about its peer.
            raise RemoteProtocolError("data without a session", offence="")
        session = found[1]
        head, *sealed = incoming.frames
        # Views as long as what is sealed, whose bytes mean nothing yet.
        contents = [
            memoryview(frame)[: max(0, len(frame) - session.overhead_bytes)]
            for frame in sealed
        ]
        try:
            opened = session.open_head(head)
        except RemoteProtocolError as error:
            self._drop(error)
            return
        frames: list[Frame] = [opened, *contents]
        for message in decode_all(frames, data_plane=True):
            if not isinstance(message, Chunk):
                yield message
                continue
            place = places.place(incoming.sender, message) if places else None
            into = self._room(message.payload.nbytes) if place is None else place
            try:
                session.open_payload(sealed[0], into)
            except RemoteProtocolError as error:
                self._drop(error)
                return
            chunk = Chunk(message.pull, message.offset, into)
            if places is not None:
                # Before the protocol counts it: what is refused never arrived.
                places.check(incoming.sender, chunk)
            yield chunk

    def _drop(self, error: RemoteProtocolError) -> None:
        self.transport.traffic.dropped[str(error)] += 1

    def _room(self, size: int) -> memoryview:
        if self._scratch.nbytes < size:
            self._scratch = memoryview(bytearray(size))
        return self._scratch[:size]


def _addresses(record: PeerRecord) -> tuple[Address, Address]:
    """Where both planes of a peer listen."""
    host = record.host
    return Address(host, record.port), Address(host, record.data_port)


def _end(record: PeerRecord) -> End:
    return End(record.peer, record.exchange_key, record.incarnation, record.cipher)
