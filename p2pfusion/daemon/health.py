"""What is not as it should be with a running peer, and what to do about it.

Two sources: what follows from the peer's state when somebody looks, and ``troubles``,
which the parts of the daemon note when something happens to them (a full disk, a
trainer that dies) and take back when it is over.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfusion.daemon.address import is_here, is_loopback
from p2pfusion.daemon.diagnosis import STATES, quorum
from p2pfusion.daemon.members import suspected
from p2pfusion.daemon.privacy import private_status
from p2pfusion.protocol.standing import Standing
from p2pfusion.split.groups import withheld_part
from p2pfusion.split.segment import Split

if TYPE_CHECKING:
    from p2pfusion.daemon.node import Node
    from p2pfusion.protocol.joining import Knocking

Data = dict[str, object]

WORTH_A_WORD_S = 2.0
"""A clock that is off by more is shown."""

PATIENT_ATTEMPTS = 4
"""Attempts to join that a member makes before it says that nobody answers."""


@dataclass(frozen=True)
class Trouble:
    """Something that is wrong: how bad, what, and what to do."""

    level: str
    """``info``, ``warn`` or ``error``; the last two make ``status --check`` fail."""
    message: str
    hint: str


INSECURE = Trouble(
    "warn",
    "started with --insecure-loopback: no connection is encrypted or authenticated",
    "start without it for anything but measuring",
)
CHECK_ADDRESS = "check the address, and that a daemon listens there"
LISTEN = "stop it, and start it with: --listen 0.0.0.0:7788"
ITSELF = (
    "that address is this machine itself: if the other daemon runs elsewhere, start it "
    "with --listen 0.0.0.0:7788 and make a new ticket there"
)
CHECK_WAY_BACK = (
    f"{CHECK_ADDRESS}; or start with --advertise none, if nobody can connect to this "
    "machine"
)
NO_RELAY = (
    "set relay = true at a member that both can dial, or let a port through at one of "
    "the two: see docs/deployment.md"
)
ALONE = Trouble(
    "info",
    "this peer trains alone: the swarm has no other member",
    "invite others: p2pfusion invite create",
)
REFUSALS = {
    "pending": "ask an admin to compare your id (p2pfusion id) and let you in",
    "denied": "ask an admin of the swarm for a new ticket: p2pfusion invite create",
    "not-ready": "wait until it is in a swarm, or name another address",
    "version": "install the same version of p2pfusion on both machines",
}
"""What to do about each kind of refusal."""

TRAIN_LESS = (
    "train less with a smaller split_fraction in the profile, close other programs, or "
    "found the swarm with a larger deadline_max_s"
)
FORGIVE = (
    "nothing that it trains or fuses is used here; if that is a mistake: "
    "p2pfusion trust pardon {name}"
)
PUT_OUT = (
    "its own signatures prove it to everybody, who put it out of the roster; an admin "
    "can put it out for good: p2pfusion trust revoke {name}"
)
CONVICTED = Trouble(
    "error",
    "this peer's key has signed two different offers of one round: the others go on "
    "without it",
    "that cannot be undone: find out who else has the key, then begin with a new home "
    "and a new ticket",
)
CHECK_PEER = "see whether its daemon runs: p2pfusion status on that machine"
CHECK_LINE = "see which way fails: p2pfusion ping PEER, here and on that machine"
CHECK_LOG = "read trainer.log in the home directory"
RAISE_EPSILON = "raise epsilon in [peer.privacy], if its data may tell more"


def health(node: Node, now: float) -> list[Data]:
    """One line per trouble, with its code; nothing if all is well."""
    noted = list(node.troubles.items())
    found = [
        *_twin(node),
        *_clock(node),
        *_address(node),
        *_joining(node),
        *_members(node, now),
        *_quarantined(node),
        *_trainer(node),
        *_privacy(node),
        *_withheld(node),
        *_coverage(node),
    ]
    if not node.links.encrypted:
        found.insert(0, ("insecure", INSECURE))
    return [
        {
            "level": trouble.level,
            "code": code,
            "message": trouble.message,
            "hint": trouble.hint,
        }
        for code, trouble in [*noted, *found]
    ]


Found = list[tuple[str, Trouble]]


def _twin(node: Node) -> Found:
    """A copy of this home is in use."""
    other = node.peer.twin.address
    if not other:
        return []
    here = node.peer.gossip.record
    text = (
        f"another daemon has this peer's identity: it listens at {other}, this one at "
        f"{here.address}; both stand still"
    )
    hint = (
        "one home is a copy of the other: stop one daemon for good, and start the "
        "other one again"
    )
    return [("cloned", Trouble("error", text, hint))]


def _clock(node: Node) -> Found:
    """This machine's clock, by most others'."""
    contacts = node.peer.gossip.detector.contacts.values()
    skews = [contact.skew_s for contact in contacts if contact.skew_s is not None]
    if not skews or abs(skew := statistics.median(skews)) <= WORTH_A_WORD_S:
        return []
    way = "behind" if skew > 0 else "ahead of"
    text = f"this machine's clock is {abs(skew):.0f} s {way} most others'"
    hint = "set it: no round depends on it, but the ends of tickets do"
    return [("clock", Trouble("warn", text, hint))]


def _address(node: Node) -> Found:
    """Whether this peer waits where those that it knows of can reach it."""
    record = node.peer.gossip.record
    if not is_loopback(record.host):
        return []
    hosts = {
        **{each.name: each.host for each in node.peer.gossip.facts.members()},
        **{each.address: each.way.host for each in node.peer.gossip.joining.knocking},
    }
    for name, host in sorted(hosts.items()):
        if not is_loopback(host) and not is_here(host):
            here = f"{record.host}:{record.port}"
            text = f"others cannot reach {here}, where this peer listens: {name} is on "
            return [("loopback", Trouble("warn", text + "another machine", LISTEN))]
    return []


def _joining(node: Node) -> Found:
    """The way in, from both sides."""
    found: Found = []
    waiting = len(node.peer.door.admission.pending)
    if waiting:
        peers_wait = "1 peer waits" if waiting == 1 else f"{waiting} peers wait"
        text = f"{peers_wait} to be let in"
        found.append(("pending", Trouble("info", text, "see: p2pfusion pending ls")))
    for knocking in node.peer.gossip.joining.knocking:
        # A member knocks where its start told it to: that may take a moment.
        if node.peer.manifest is None or knocking.attempts > PATIENT_ATTEMPTS:
            text = f"{knocking.address}: {knocking.last_error}"
            hint = REFUSALS.get(knocking.answer) or _unheard(node, knocking)
            found.append(("not-joined", Trouble("warn", text, hint)))
    return found


def _unheard(node: Node, knocking: Knocking) -> str:
    """What to do where nobody answers."""
    if is_loopback(knocking.way.host):
        return ITSELF
    is_long = knocking.attempts > PATIENT_ATTEMPTS
    may_be_back = is_long and not node.peer.gossip.record.is_outward
    return CHECK_WAY_BACK if may_be_back else CHECK_ADDRESS


def _members(node: Node, now: float) -> Found:
    found: Found = []
    detector, round_ = node.peer.gossip.detector, node.peer.round
    if round_ is not None and len(round_.splits) == 1 and not node.peer.gossip.others():
        found.append(("alone", ALONE))
    rounds = "rounds go on without it"
    if node.peer.standing is Standing.PAUSED:
        rounds = "rounds wait for it, or for others"
        text = f"{quorum(node.peer, now)}; rounds stand still"
        found.append(("no-quorum", Trouble("warn", text, STATES["paused"])))
    accused = suspected(node)
    for name in node.peer.gossip.others():
        if name in accused or detector.may_answer(name, now):
            continue
        why, known = detector.why_silent(name, now), node.name_of(name)
        if node.peer.gossip.relays.is_stranded(name):
            text = f"no way to {known}: it and this peer can only dial out"
            found.append(("no-relay", Trouble("warn", text, NO_RELAY)))
        elif detector.is_asymmetric(name, now):
            text = f"{known} is reachable by others, not from here: one way is cut"
            found.append(("asymmetric", Trouble("warn", text, CHECK_LINE)))
        else:
            text = f"{known}: {why}; {rounds}"
            found.append(("peer-silent", Trouble("warn", text, CHECK_PEER)))
    for name, words in accused.items():
        text = f"{node.name_of(name)}: {detector.why_silent(name, now)}, {words}"
        hint = f"most of them put it out of the roster; {CHECK_PEER}"
        found.append(("peer-suspected", Trouble("warn", text, hint)))
    return found


def _quarantined(node: Node) -> Found:
    """Members whose values are not used, and this peer itself, if others do not."""
    facts, quarantine = node.peer.gossip.facts, node.peer.gossip.quarantine
    found: Found = []
    if node.peer.gossip.me in facts.convicted:
        found.append(("convicted", CONVICTED))
    for peer in sorted(quarantine.peers - facts.revoked.keys()):
        name = node.name_of(peer)
        hint = (PUT_OUT if peer in facts.convicted else FORGIVE).format(name=name)
        text = f"{name} is in quarantine: {quarantine.reason(peer)}"
        found.append(("quarantined", Trouble("warn", text, hint)))
    return found


def _trainer(node: Node) -> Found:
    late = node.history.late_rounds
    slow = f"its own training came too late {late} times in a row, and counts less"
    return [
        *([("too-slow", Trouble("warn", slow, TRAIN_LESS))] if late else []),
        *_trainer_process(node),
    ]


def _trainer_process(node: Node) -> Found:
    state = node.apprentice.state
    if "trainer" in node.troubles:
        return []
    if state == "restarting":
        text = "the trainer died, and another one is being started"
        return [("trainer", Trouble("warn", text, CHECK_LOG))]
    failed = state.startswith("failed")
    return [("trainer", Trouble("error", state, CHECK_LOG))] if failed else []


def _privacy(node: Node) -> Found:
    """Whether this peer's data has told as much as its owner allows."""
    told = private_status(node.profile.peer.privacy, node.home.spent)
    if told is None or not told["spent"]:
        return []
    text = (
        f"the privacy budget is spent: epsilon is {told['epsilon']:.2f} of "
        f"{told['budget']:g} after {told['rounds']} rounds; this peer receives, and "
        "contributes nothing"
    )
    return [("privacy", Trouble("info", text, RAISE_EPSILON))]


def _withheld(node: Node) -> Found:
    """Whether there are too few holders for secure aggregation."""
    round_, manifest = node.peer.round, node.peer.manifest
    if round_ is None or manifest is None or not round_.splits:
        return []
    part = withheld_part(round_.plan)
    if manifest.secure_aggregation != "withhold" or not part:
        return []
    text = f"{100 * part:.0f} % of what is trained has too few holders to be hidden"
    hint = "it is withheld: let more peers in, or found the swarm with larger splits"
    return [("withheld", Trouble("warn", text, hint))]


def _coverage(node: Node) -> Found:
    round_, manifest = node.peer.round, node.peer.manifest
    if round_ is None or manifest is None or not round_.splits:
        return []
    lacking = []
    for axis in manifest.layout.widths:
        covered = Split.full(manifest.layout)[axis.name]
        held = covered - covered
        for split in round_.splits.values():
            held = held | split[axis.name]
        if held != covered:
            lacking.append(f"{axis.name} {100 * len(held) / axis.size:.0f} %")
    if not lacking:
        return []
    text = "the peers' splits cover only a part of some axes: " + ", ".join(lacking)
    hint = "later rounds train the rest; more peers or larger fractions do it at once"
    return [("coverage", Trouble("info", text, hint))]
