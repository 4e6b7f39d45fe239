"""A stream on its way in: its bytes are checked, decoded, and go where they belong."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from p2pfusion.daemon.sinks import BufferSink, Floats, KeptSink, Sink
from p2pfusion.fusion import check, check_cut, decode
from p2pfusion.protocol.events import Came, StreamKey
from p2pfusion.protocol.messages import Chunk
from p2pfusion.split.forms import FLOAT32, Form
from p2pfusion.split.plan import Hop

FLOAT_BYTES = 4

PIECE_BYTES = 1 << 14
"""So much of a chunk is decoded at a time, so that values stay in the cache; whole
blocks of every form."""


@dataclass
class Arriving:
    """One stream, and where it goes."""

    stream: StreamKey
    sink: Sink | KeptSink
    form: Form
    total_bytes: int
    hashed: hashlib._Hash | None = None
    """Of a contribution to a reducer: the hash of what is here."""
    _scratch: Floats = field(default_factory=lambda: np.empty(0, np.float32))

    def __post_init__(self) -> None:
        if self.stream.hop == Hop.CONTRIBUTION and not self.stream.instead_of:
            self.hashed = hashlib.sha256()

    def came(self) -> Came | None:
        """What has arrived, for the offer that has promised it; None for all else."""
        return Came(self.stream, self.hashed.digest()) if self.hashed else None

    def room(self, chunk: Chunk) -> memoryview | None:
        """Where a chunk's payload belongs, if it can be put there as it is."""
        sink = self.sink
        if not isinstance(sink, BufferSink) or self.form is not FLOAT32:
            return None
        room = sink.buffer.data.cast("B")[sink.filled * FLOAT_BYTES :]
        size = chunk.payload.nbytes
        fits = chunk.offset == sink.filled * FLOAT_BYTES and size <= room.nbytes
        return room[:size] if fits else None

    def check(self, chunk: Chunk) -> None:
        """``RemoteProtocolError`` for bytes that are no finite values of the stream."""
        size = chunk.payload.nbytes
        check_cut(self.form, offset=chunk.offset, size=size, total=self.total_bytes)
        if not isinstance(self.sink, KeptSink):
            check(chunk.payload, self.form.name)

    def absorb(self, payload: memoryview) -> None:
        """The next bytes of the stream."""
        if self.hashed is not None:
            self.hashed.update(payload)
        if isinstance(self.sink, KeptSink):
            self.sink.take(payload)
            return
        if self.form is FLOAT32:
            self.sink.add(decode(payload, self.form.name, is_checked=True))
            return
        for start in range(0, payload.nbytes, PIECE_BYTES):
            piece = payload[start : start + PIECE_BYTES]
            count = min(self.form.most_in(piece.nbytes), self.sink.left)
            if count > self._scratch.size:
                self._scratch = np.empty(count, np.float32)
            place = self.sink.place(count, self._scratch)
            self.sink.add(decode(piece, self.form.name, place, is_checked=True))
