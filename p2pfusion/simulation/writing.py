"""Messages as bytes, made once where many get the same one."""

from __future__ import annotations

from p2pfusion.protocol.messages import Message, SignedOffer
from p2pfusion.protocol.wire import Frame, encode
from p2pfusion.simulation.planner import Memory

REMEMBERED = 1024
"""Offers: those of some rounds, from some dozens of peers."""

Written = tuple[list[Frame], int, str]
"""The frames of a message, their bytes, and the head in hex."""


class Writing:
    """Knows the bytes of the last message, and of the offers of the rounds at hand."""

    def __init__(self) -> None:
        self._last: Message | None = None
        self._written: Written = ([], 0, "")
        self._offers = Memory(REMEMBERED)

    def of(self, message: Message) -> Written:
        """A message as it travels."""
        if message is self._last:
            return self._written
        self._last = message
        if type(message) is SignedOffer:  # whoever gets one shows it to another
            said = message.statement
            name = (said.payload, said.signature, message.proof)
            self._written = self._offers.get(name, _write, message)
        else:
            self._written = _write(message)
        return self._written


def _write(message: Message) -> Written:
    frames = encode(message)
    return frames, sum(map(len, frames)), frames[0].hex()
