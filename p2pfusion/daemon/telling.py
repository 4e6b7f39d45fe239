"""Events in words: one sentence for each kind, with the names that people use.

A kind without a sentence here is told as its details: nothing that happens is silent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

Details = Mapping[str, object]
NameOf = Callable[[str], str]

SENTENCES = {
    "daemon-started": "the daemon {version} started, pid {pid}",
    "ended-unseen": "the last run ended without a word: a crash, or a power failure",
    "daemon-stopped": "the daemon stopped: {why}",
    "draining": "finishes its round, then stops, after {limit_s} s at the latest",
    "drained": "nothing is left that somebody has asked for",
    "trouble": "{message}",
    "trouble-over": "over: {message}",
    "joined": "joined the swarm {name}",
    "fetching": "gets the checkpoint {checkpoint} from {peer}, from byte {offset} on",
    "fetched": "has the checkpoint {checkpoint} from {peers}",
    "denied": "was turned away: {text}",
    "incompatible": "{text}",
    "admitted": "is a member from epoch {epoch} on",
    "announced": "what its trainer has found out counts from epoch {epoch} on",
    "announcement-void": "what its trainer has found out is for another split fraction",
    "started": "the swarm begins with {members}",
    "newcomer-admitted": "let in {name}",
    "newcomer-pending": "{name} knocks: {why}",
    "newcomer-denied": "turned {name} away: {why}",
    "peer-online": "{peer} is online",
    "peer-silent": "{peer}: {reason}",
    "asymmetric": "{peer} is seen by others, but not from here",
    "cloned": "another daemon has this peer's identity, at {address}; it stands still",
    "accused": "{by} accuses {peer} of being silent",
    "refuted": "{peer} refutes: it is there",
    "evicted": "{peer} is out of the roster from epoch {epoch} on",
    "rejoined": "{peer} comes back with epoch {epoch}",
    "left": "{peer} leaves with epoch {epoch}",
    "recovered": "declared lost: {peers}, from epoch {epoch} on",
    "revoked": "{by} has put {peer} out of the swarm: {reason}",
    "quarantined": "{peer} is in quarantine from round {round} on: {why}",
    "pardoned": "{peer} is in quarantine no longer",
    "catching-up": "catches up with the others: {why}",
    "slept": "this process did not run for {seconds} s: it hears the others first",
    "paused": "round {round} stands still: too few of the others can be reached",
    "outside": "round {round} is without this peer: it is in no roster",
    "resumed": "goes on: {why}",
    "training-failed": "round {round}: no values of its own: {reason}",
    "late-update": "round {round}: offers what it trained for round {base_round}",
    "late-dropped": "what it trained for round {base_round} is too old, and dropped",
    "too-slow": "its own training came too late {rounds} times in a row",
    "protocol-error": "{peer} broke the rules: {reason}",
    "done": "all {rounds} rounds are done",
}

PEERS = ("peer", "by", "members", "peers")
"""Details that are peers' ids, one or a list of them."""


def told(kind: str, details: Details, name_of: NameOf) -> str:
    """The event in words, on one line."""
    words = {key: _words(key, value, name_of) for key, value in details.items()}
    if kind == "round-sealed":
        text = _sealed(details, name_of)
    elif kind in SENTENCES:
        text = SENTENCES[kind].format_map(_Known(words))
    else:
        text = ", ".join(f"{key} {value}" for key, value in words.items())
    # Names and reasons are others' words: nothing in them may look like another line.
    return "".join(c if c.isprintable() else " " for c in text).rstrip(": ")


class _Known(dict[str, str]):
    """Words for the places of a sentence; what a report leaves out is unknown."""

    def __missing__(self, key: str) -> str:
        return "unknown" if key != "reason" else ""


def _words(key: str, value: object, name_of: NameOf) -> str:
    values = value if isinstance(value, list | tuple) else [value]
    if key in PEERS:
        return ", ".join(name_of(str(each)) for each in values) or "nobody"
    return ", ".join(str(each) for each in values)


def _sealed(details: Details, name_of: NameOf) -> str:
    text = f"round {details.get('round')} sealed"
    seconds, loss = details.get("seconds"), details.get("loss")
    if isinstance(seconds, float):
        text += f" after {seconds:.2f} s"
    if isinstance(loss, float):
        text += f", loss {loss:.4g}"
    missing = details.get("missing")
    if isinstance(missing, list) and missing:
        names = ", ".join(name_of(str(each["peer"])) for each in missing)
        text += f", without {names}"
    return text
