"""How much work each member's words make: who makes too much is not heard for a while.

A message that is in order may still be work for whoever hears it: signatures to verify,
news to pass on. So what counts is not how many there are, but the processor's time that
dealing with them takes. All members together get half of the loop in the long run, and
each its share of that half. Values are not counted: they are as much as was asked for.

What is dropped is as if the network had lost it: whatever matters is said again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sized

from p2pfusion.transport import GUEST, Arrival, Incoming, Plane

SHARE_OF_ALL = 0.5
"""Of the loop's time: what the control messages of all others may take together."""

LEAST_SHARE = 0.02
"""... and what one may take however many there are, so that its probes and its offers
are heard."""

BURST_S = 2.0
"""What one may take at once: to verify the records of 1,024 members takes less."""

MOST_COUNTED_S = 0.05
"""What one message counts at most. The last of many brings on what all of them were
for, a round's plan, say; that is not its sender's work."""

REASON = "too much work for one peer"


class Labour:
    """Time that members have, and have taken."""

    def __init__(
        self,
        dropped: Counter[str],
        others: Callable[[], Sized],
        clock: Callable[[], float] = time.monotonic,
        worked: Callable[[], float] = time.thread_time,
    ) -> None:
        """Counts what is not heard in ``dropped``. ``others``: the members that share;
        ``worked``: the processor's time that this thread has taken."""
        self._dropped = dropped
        self._others = others
        self._clock = clock
        self._worked = worked
        self._debts: dict[str, tuple[float, float]] = {}

    def heard(self, arrivals: Iterable[Arrival]) -> Iterator[Arrival]:
        """Those that are listened to. What is done with one until the next is wanted
        counts for its sender."""
        sharers = max(1, len(self._others()))
        for arrival in arrivals:
            sender = _member(arrival)
            if sender is None:
                yield arrival
            elif self._debt_s(sender, sharers) >= BURST_S:
                self._dropped[REASON] += 1
            else:
                began = self._worked()
                yield arrival
                self._owe(sender, self._worked() - began, sharers)

    def _debt_s(self, sender: str, sharers: int) -> float:
        known = self._debts.get(sender)
        if known is None:
            return 0.0
        debt_s, since = known
        share = max(LEAST_SHARE, SHARE_OF_ALL / sharers)
        return max(0.0, debt_s - share * (self._clock() - since))

    def _owe(self, sender: str, took_s: float, sharers: int) -> None:
        debt_s = self._debt_s(sender, sharers) + min(took_s, MOST_COUNTED_S)
        self._debts.pop(sender, None)
        self._debts[sender] = (debt_s, self._clock())
        if len(self._debts) > 2 * sharers:
            del self._debts[next(iter(self._debts))]  # it was heard of longest ago


def _member(arrival: Arrival) -> str | None:
    """Whose control message it is, if a member's; of guests there are few anyway."""
    if not isinstance(arrival, Incoming) or arrival.plane is not Plane.CONTROL:
        return None
    return None if arrival.sender.startswith(GUEST) else arrival.sender
