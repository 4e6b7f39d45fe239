"""What peers of a swarm without masks have in common: no secrets."""

from __future__ import annotations


def no_secret(other: str) -> bytes:
    """Nobody asks for it where nothing is masked."""
    raise AssertionError(f"a secret with {other} was asked for, and nothing is masked")
