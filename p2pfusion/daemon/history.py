"""What the daemon remembers for people: rounds, traffic, and what was refused.

Reports of the protocol come in, plain values for the command line go out. Nothing here
decides anything.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping

from p2pfusion.daemon.windows import Windows
from p2pfusion.limits import MAX_COUNTED_REASONS, ROUND_HISTORY
from p2pfusion.protocol.events import Report

Row = dict[str, object]
Watcher = Callable[[Row], None]


class History:
    """Rounds that were sealed here, and counts of misdeeds."""

    def __init__(self, name_of: Callable[[str], str]) -> None:
        self._name_of = name_of
        self._rounds: deque[Row] = deque(maxlen=ROUND_HISTORY)
        self.misdeeds: Counter[str] = Counter()
        """What peers sent that no rule allows, by reason."""
        self.back: set[str] = set()
        """Who has joined anew after it was out of the roster, since the last round."""
        self.late_rounds = 0
        """How often in a row the own training came too late, if too often."""
        self._accuracies: dict[int, float] = {}
        self.measured_now: int | None = None
        """The round whose accuracy is still to come."""
        self.windows = Windows()
        """Who trains what in each round that was entered here."""
        self.watchers: list[Watcher] = []
        """Who is told of every round that is sealed, and of what is known later."""
        self._sent_before = 0
        self._received_before = 0
        self._payload_sent: Counter[int] = Counter()
        self._payload_received: Counter[int] = Counter()

    def note(self, report: Report, *, sent_bytes: int, received_bytes: int) -> None:
        """Something happened; a sealed round closes the books of its traffic."""
        if report.kind == "protocol-error":
            self._count_misdeed(str(report.details["reason"]))
        if report.kind == "too-slow":
            self.late_rounds += int(str(report.details["rounds"]))
        if report.kind == "rejoined":
            self.back.add(str(report.details["peer"]))
        if report.kind == "round-sealed":
            self.back.clear()
            self.late_rounds *= not report.details["trained"]
            self._seal(report.details, sent_bytes, received_bytes)

    def _count_misdeed(self, reason: str) -> None:
        known = reason in self.misdeeds or len(self.misdeeds) < MAX_COUNTED_REASONS
        self.misdeeds[reason if known else "other reasons"] += 1

    def _seal(self, details: Mapping[str, object], sent: int, received: int) -> None:
        number = details["round"]
        assert isinstance(number, int)
        row: Row = {
            "number": number,
            "seconds": details["seconds"],
            "training_s": details["training_s"],
            "contributors": [self._name_of(p) for p in _texts(details["contributors"])],
            "missing": [self._missed(entry) for entry in _tables(details["missing"])],
            "deadline_s": details["deadline_s"],
            "sent_bytes": sent - self._sent_before,
            "received_bytes": received - self._received_before,
            "loss": details["loss"],
            "accuracy": self._accuracies.pop(number, None),
            "norm": details["norm"],
            "stale_ranges": details["stale_ranges"],
            "deadlines": details["deadlines"],
            "phases": details["phases"],
            "offers": {
                peer: {**offer, "name": self._name_of(peer)}
                for peer, offer in _by_peer(details["offers"]).items()
            },
        }
        self._sent_before, self._received_before = sent, received
        self._rounds.append(row)
        for tell in self.watchers:
            tell(row)
        self._forget(number - ROUND_HISTORY)

    def measured(self, number: int, accuracy: float | None) -> None:
        """The accuracy that a round was trained to, if it could be measured: before its
        seal, or after it."""
        self.measured_now = None
        if accuracy is None:
            return
        newest_first = reversed(self._rounds)
        row = next((row for row in newest_first if row["number"] == number), None)
        if row is None:
            self._accuracies[number] = accuracy
            return
        row["accuracy"] = accuracy
        for tell in self.watchers:
            tell({"number": number, "accuracy": accuracy})

    def _missed(self, entry: Mapping[str, object]) -> Row:
        return {**entry, "name": self._name_of(str(entry["peer"]))}

    # --- Values on the wire ----------------------------------------------------------

    def count_sent(self, round_index: int, size_bytes: int) -> None:
        """Values of a round's streams left."""
        self._payload_sent[round_index] += size_bytes

    def count_received(self, round_index: int, size_bytes: int) -> None:
        """Values of a round's streams came, each once."""
        self._payload_received[round_index] += size_bytes

    def rounds(self, count: int) -> list[Row]:
        """The last rounds that were sealed here, oldest first.

        Others may still fetch values of a round that is sealed here, so its payload is
        counted until nobody asks any more.
        """
        rows = list(self._rounds)[-count:]
        return [{**row, **self._payload(row["number"])} for row in rows]

    def _payload(self, number: object) -> Row:
        assert isinstance(number, int)
        return {
            "payload_sent_bytes": self._payload_sent[number],
            "payload_received_bytes": self._payload_received[number],
        }

    def _forget(self, before: int) -> None:
        for by_round in (self._payload_sent, self._payload_received, self._accuracies):
            # The oldest comes first, but for a straggler of a round that was left.
            while by_round and (number := next(iter(by_round))) < before:
                del by_round[number]

    def this_round(self, sent_bytes: int, received_bytes: int) -> tuple[int, int]:
        """Bytes sent and received since the last round was sealed."""
        return sent_bytes - self._sent_before, received_bytes - self._received_before


SEALED = ("round", "seconds", "loss", "stale_ranges", "missing")


def brief(report: Report) -> Mapping[str, object]:
    """What an event keeps of a report: of a round, without every peer's offer."""
    if report.kind != "round-sealed":
        return report.details
    return {key: report.details[key] for key in SEALED}


def _texts(value: object) -> list[str]:
    assert isinstance(value, list)
    return [str(item) for item in value]


def _by_peer(value: object) -> Mapping[str, Mapping[str, object]]:
    assert isinstance(value, dict)
    return value


def _tables(value: object) -> list[Mapping[str, object]]:
    assert isinstance(value, list)
    return value
