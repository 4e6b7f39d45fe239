"""``p2pfusion sim`` without ``--train``: the protocol alone, in virtual time.

Whole swarms of real peers, without a network and without training, while things go
wrong. A run that breaks a promise of the protocol names it, with the command line that
does the same again, and ends with exit code 1.
"""

from __future__ import annotations

import click

from p2pfusion.cli.output import Data, Failure, show
from p2pfusion.cli.text import duration, percent, perplexity, size
from p2pfusion.errors import P2PFusionError
from p2pfusion.methods import split_fraction

DEFAULT_PEERS, DEFAULT_ROUNDS = 8, 10
SHOWN_VIOLATIONS = 10


NETWORKS = ("local", "lan", "wan")
"""How long to wait for a sign of others, as in a swarm's profile."""
POLICIES = ("majority", "fork")
"""What a part of the swarm does that is cut off, as in a swarm's profile."""


def run_simulation(
    *,
    peers: int | None,
    rounds: int | None,
    seed: int,
    fraction: object,
    faults: str,
    network: str = NETWORKS[0],
    policy: str = POLICIES[0],
) -> None:
    """Simulates, shows the outcome, and exits with 1 if anything was violated."""
    # numpy takes its time, and the other half of this command does without.
    from p2pfusion.simulation.run import Setting, simulate

    setting = Setting(
        peers=DEFAULT_PEERS if peers is None else peers,
        rounds=DEFAULT_ROUNDS if rounds is None else rounds,
        seed=seed,
        split_fraction=split_fraction(fraction, "--split-fraction"),
        faults=faults,
        network=network,
        policy=policy,
    )
    show_outcome(simulate(setting).to_data())


def show_outcome(data: Data, replay: str | None = None) -> None:
    """Shows what came of a simulation; exits with 1 if anything was violated.

    ``replay``: the command that does the same again, if the outcome has another.
    """
    found = rows(data, "violations")
    for violation in found if replay is not None else []:
        violation["replay"] = replay
    failure = None
    if found:
        trouble = P2PFusionError(
            f"the simulation found {len(found)} violations",
            hint=f"the same again: {found[0]['replay']}",
        )
        failure = Failure.of(trouble)
    show(data, lambda: outcome_text(data), failure)
    if failure is not None:
        raise click.exceptions.Exit(failure.code)


def rows(data: Data, key: str) -> list[Data]:
    """A list of tables in the outcome."""
    found = data.get(key)
    return [row for row in found if isinstance(row, dict)] if found else []  # type: ignore[attr-defined]


def outcome_text(data: Data) -> str:
    """The outcome in a few lines, with what was violated and how to see it again."""

    def real(value: object) -> float | None:
        return float(value) if isinstance(value, (int, float)) else None

    moved = data["bytes_per_peer_round"]
    assert isinstance(moved, dict)
    converged = duration(real(data["roster_convergence_s"]), "never")
    lines = [
        f"Swarm     {data['peers']} peers, {data['rounds']} rounds, seed "
        f"{data['seed']}, faults {data['faults']}",
        f"Time      {duration(real(data['virtual_seconds']))} in the swarm, "
        f"{data['events']} events and effects",
        f"Rounds    {data['rounds_completed_min']} completed by everybody who is there",
        f"Roster    one and the same {converged} after the last fault",
        f"Bulk      {size(real(moved['p50']))} sent per peer and round, at most "
        f"{size(real(moved['max']))}",
        f"Control   {size(real(data['control_bytes_per_peer_s']))} per peer and second",
        f"Log       {data['event_log_hash']}",
    ]
    if "accuracy" in data:
        learned = percent(real(data["accuracy"]), "nobody could export a model")
        learned += perplexity(data.get("perplexity"))
        lines.append(f"Accuracy  {learned} ({data['model']} on {data['data']})")
    found = rows(data, "violations")
    for violation in found[:SHOWN_VIOLATIONS]:
        lines.append(
            f"VIOLATED  {violation['check']} at {violation['at_s']:.3f} s, "
            f"{violation['peer']}: {violation['text']}"
        )
    if len(found) > SHOWN_VIOLATIONS:
        lines.append(f"... and {len(found) - SHOWN_VIOLATIONS} more")
    if found:
        lines.append(f"Again     {found[0]['replay']}")
    else:
        lines.append("Violated  nothing")
    return "\n".join(lines)
