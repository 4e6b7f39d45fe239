"""A store whose values need not survive: written to their places at once.

For what one process remembers by itself, and can do without. The journal would keep all
of it twice on its way, for nothing. After a crash in the middle of a write, some cells
may have newer values than their versions say.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pfusion.store.files import raw_bytes, write_at
from p2pfusion.store.rectangles import Part, put
from p2pfusion.store.store import Store


class UnjournalledStore(Store):
    """Opened, read and closed as any other."""

    _parts: Sequence[Part] = ()

    def overwrite(self, parts: Sequence[Part], version: int) -> None:
        """Segments of whole cells have these values now, of this version.

        ``ResourceError`` on a full disk: what was there is lost then, and this is tried
        again before anything else is written.
        """
        self.set_version([segment for segment, _ in parts], version)
        self._parts = [part for part in parts if part[0].size]
        self._is_committed = True
        self._finish_apply(durable=False)

    def _apply(self, *, durable: bool) -> None:
        for part in self._parts:
            segment, values = part
            self._room.take([segment], values.ravel())
            with self._places.values[segment.parameter].open() as file:
                put(file, 0, self._layout.parameters[segment.parameter].shape, [part])
        for index, versions in sorted(self._next.items()):
            with self._places.versions[index].open() as file:
                write_at(file, raw_bytes(versions.astype("<i4")), 0)
        self._parts = ()
