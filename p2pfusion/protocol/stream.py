"""What a stream is called, and what it consists of by the plan that both ends have."""

from __future__ import annotations

from p2pfusion.protocol.values import value
from p2pfusion.split.forms import Wire
from p2pfusion.split.grid import cell_elements
from p2pfusion.split.groups import seed_elements
from p2pfusion.split.hops import BESIDE, EXPORT, RESTORE, SEEDS, Hop
from p2pfusion.split.keeping import Cells
from p2pfusion.split.plan import ExchangePlan
from p2pfusion.split.restoring import asked_cells, asked_segments, unpack_cells
from p2pfusion.split.segment import Segment


@value
class StreamKey:
    """Names one payload: ``source`` sends it to ``target`` in a hop of a round.

    ``instead_of`` names the silent reducer or home whose work ``source`` does, or "".
    ``asked``: the cells that the target lacks, as bits; always on the hop ``restore``,
    and on the hop ``export`` where ``instead_of`` is their home. On the hop ``seeds``:
    the peers whose contributions are lost. ``least``, on the
    former, is the version that is good enough; 0: the newest by the table.
    """

    hop: str
    round_index: int
    source: str
    target: str
    instead_of: str = ""
    asked: bytes = b""
    least: int = 0


def is_by_cells(stream: StreamKey) -> bool:
    """Whether the target names the cells that it gets."""
    return stream.hop == RESTORE or (stream.hop == EXPORT and stream.asked != b"")


def stream_cells(plan: ExchangePlan, stream: StreamKey) -> Cells:
    """Per signature, over the grid, what a stream from a home consists of."""
    if stream.hop == RESTORE:
        return asked_cells(plan, stream.asked)
    if is_by_cells(stream):
        return unpack_cells(plan.layout, stream.asked)
    return plan.cells(
        Hop(stream.hop),
        source=stream.source,
        target=stream.target,
        instead_of=stream.instead_of or None,
    )


def stream_segments(plan: ExchangePlan, stream: StreamKey) -> tuple[Segment, ...]:
    """What a stream of the plan consists of, in the order of the payload."""
    if is_by_cells(stream):
        return tuple(asked_segments(plan.layout, stream_cells(plan, stream)))
    return plan.stream(
        Hop(stream.hop),
        source=stream.source,
        target=stream.target,
        instead_of=stream.instead_of or None,
    )


def stream_elements(plan: ExchangePlan, stream: StreamKey) -> int:
    """Number of elements in a stream of the plan."""
    if stream.hop in BESIDE and is_by_cells(stream):
        layout, cells = plan.layout, stream_cells(plan, stream)
        pairs = zip(layout.signatures, cells, strict=True)
        return sum(int(cell_elements(layout, s)[mask].sum()) for s, mask in pairs)
    source, target, instead_of = stream.source, stream.target, stream.instead_of
    if stream.hop == SEEDS:
        return seed_elements(plan, source, target, instead_of=instead_of)
    return plan.elements(stream.hop, source, target, instead_of)


def stream_bytes(plan: ExchangePlan, wire: Wire, stream: StreamKey) -> int:
    """Length of a stream of the plan on the wire of the plan's swarm. Of one that it
    foresees, both ends and whoever looks on ask again and again."""
    is_foreseen = not (stream.instead_of or stream.asked)
    key = (stream.hop, stream.source, stream.target)
    found = plan.lengths.get(key) if is_foreseen else None
    if found is None:
        found = wire.form(stream.hop).bytes_of(stream_elements(plan, stream))
        if is_foreseen:
            plan.lengths[key] = found
    return found
