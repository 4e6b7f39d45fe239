"""What members find out from their own data and announce, where the method asks for it.

An announcement is a few bytes in its author's signed record, with the epoch from which
it counts: the next but one that its author observes, so that a full epoch passes in
which the news reaches everybody. It is made for one split fraction. In an epoch in
which its author trains another one it does not count, and its split is chosen without.

Whether bytes are an announcement, the method says. Whoever has facts has a manifest,
and so the method: a wrong announcement is refused on arrival, by everybody, as a wrong
split fraction is, and nobody ever plans with it.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property

from p2pfusion.errors import ConfigError, RemoteProtocolError
from p2pfusion.methods import announcing, split_fraction
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.protocol.messages import PeerRecord


class Announcements:
    """What counts of the announcements in the records of one swarm."""

    def __init__(self, manifest: Manifest | None) -> None:
        self._manifest = manifest

    def check(self, record: PeerRecord) -> None:
        """``RemoteProtocolError`` if what a record announces fits neither the split
        fraction in it nor the former one."""
        if not record.announced or self._manifest is None:
            return
        stated = [record.split_fraction, record.former_fraction]
        fractions = [split_fraction(each, record.name) for each in stated if each]
        reasons = [self._fault(record, fraction) for fraction in fractions]
        if all(reasons):
            raise RemoteProtocolError(f"record of {record.name!r}: {reasons[0]}")

    def fits(self, record: PeerRecord) -> bool:
        """Whether ``check`` has nothing against a record."""
        try:
            self.check(record)
        except RemoteProtocolError:
            return False
        return True

    @cached_property
    def are_wanted(self) -> bool:
        """Whether the swarm's method asks for announcements."""
        manifest = self._manifest
        return manifest is not None and announcing(manifest.trained_by) is not None

    def of(self, record: PeerRecord, fraction: Fraction, epoch: int) -> bytes:
        """What of a record counts as announced in an epoch in which its author trains
        this fraction."""
        if not record.announced or epoch < record.announced_epoch:
            return b""
        return b"" if self._fault(record, fraction) else record.announced

    def _fault(self, record: PeerRecord, fraction: Fraction) -> str:
        assert self._manifest is not None
        method = announcing(self._manifest.trained_by)
        if method is None:
            return "it announces something, and its swarm's method asks for nothing"
        try:
            method.check_announced(self._manifest.layout, fraction, record.announced)
        except ConfigError as error:
            return error.message
        return ""
