"""What a round was like, in plain values for people and programs."""

from __future__ import annotations

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
        "stale_ranges": round_.stale_ranges,
        "offers": others,
    }
