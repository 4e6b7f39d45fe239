"""What a round was like, in plain values for people and programs."""

from __future__ import annotations

from p2pfusion.protocol.listed_round import ListedRound
from p2pfusion.protocol.round import Round


def round_details(round_: Round, now: float) -> dict[str, object]:
    """Contributors, who was missing and why, and how long it took, in seconds."""
    offer = round_.offer
    others = {
        peer: {
            "after_s": at - round_.started_at,
            "samples": seen.samples,
            "loss": seen.loss,
            "norm": seen.norm,
            "base_round": min(seen.base_round, round_.number),
        }
        for peer, (at, seen) in sorted(round_.offers.items())
    }
    return {
        "round": round_.number,
        "seconds": now - round_.started_at,
        "trained": offer is not None,
        "loss": offer.loss if offer else None,
        "norm": offer.norm if offer else None,
        "samples": offer.samples if offer else 0,
        "training_s": offer.seconds if offer else None,
        "contributors": sorted(round_.contributors()),
        "missing": [
            {"peer": peer, "reason": reason}
            for peer, reason in sorted(round_.missing.items())
        ],
        "deadline_s": round_.pace.lateness.wait_s(),
        "deadlines": _deadlines(round_),
        "phases": _phases(round_, now),
        "stale_ranges": round_.stale_ranges,
        "offers": others,
        **_listed(round_),
    }


def _listed(round_: Round) -> dict[str, object]:
    """Whose list said what counts, and with which share, where there is a list."""
    if not isinstance(round_, ListedRound):
        return {}
    shares = dict(sorted(round_.shares.items()))
    return {"closed_by": round_.closed_by, "shares": shares}


def _deadlines(round_: Round) -> dict[str, object]:
    """When it would have given up those without an offer, and why then."""
    lateness, base = round_.pace.lateness, round_.attendance.base()
    median, mad, count = lateness.measured() or (None, None, 0)
    counts_from = None if base is None else base - round_.started_at
    return {
        "counts_from_s": counts_from,
        "wait_s": lateness.wait_s(),
        "gives_up_s": None if counts_from is None else counts_from + lateness.wait_s(),
        "minimum_s": lateness.minimum_s,
        "maximum_s": lateness.maximum_s,
        "median_s": median,
        "mad_s": mad,
        "measured": count,
    }


def _phases(round_: Round, now: float) -> dict[str, object]:
    """Seconds of training, of waiting for the others' offers, and of what was left."""
    trained_at = round_.offered_at
    if trained_at is None:  # it received values, and had none of its own
        return {"train": None, "offers": None, "exchange": now - round_.started_at}
    others = [at for at, offer in round_.offers.values() if offer.samples]
    offered_at = min(now, max([trained_at, *others]))
    return {
        "train": trained_at - round_.started_at,
        "offers": offered_at - trained_at,
        "exchange": now - offered_at,
    }
