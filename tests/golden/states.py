"""A swarm and one peer of it in each state that a daemon can be in.

A builder makes the state the way it comes about: by events, in virtual time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from p2pfusion.daemon.config import Profile
from p2pfusion.daemon.node import Node
from p2pfusion.daemon.swarm_settings import read_swarm
from p2pfusion.protocol import events as e
from p2pfusion.protocol.access import Decided, Revoke
from p2pfusion.protocol.joining import Way
from p2pfusion.protocol.messages import Chunk, Facts
from p2pfusion.protocol.phases import Phase
from p2pfusion.protocol.standing import Standing
from tests.golden.onlooker import onlooker
from tests.protocol.lying import lies
from tests.protocol.names import membership
from tests.protocol.swarm import Swarm, small_manifest, started

Change = Callable[[Node], None]


class Stage:
    """A peer in a state: its swarm, and what its node has noted besides."""

    def __init__(
        self,
        swarm: Swarm,
        name: str,
        *,
        profile: Profile | None = None,
        change: Change = lambda node: None,
    ) -> None:
        self.swarm, self.name = swarm, name
        self.profile, self.change = profile, change

    @contextmanager
    def node(self) -> Iterator[Node]:
        """The node to ask."""
        with onlooker(self.swarm, self.name, self.profile) as node:
            node.apprentice.state, node.apprentice.samples = "ready", 360
            round_ = self.swarm.hosts[self.name].peer.round
            if round_ is not None:
                node.commands.loss = 1.0
                if round_.phase is Phase.TRAIN:
                    _training(node)
            self.change(node)
            yield node


def _round(swarm: Swarm, name: str) -> int:
    round_ = swarm.hosts[name].peer.round
    return -1 if round_ is None else round_.number


def _standing(swarm: Swarm, name: str) -> Standing:
    return swarm.hosts[name].peer.standing


# --- On the way in -------------------------------------------------------------------


def no_swarm() -> Stage:
    swarm = Swarm(small_manifest())
    swarm.add("p1")
    swarm.run_to(3.0)
    return Stage(swarm, "p1")


def founding() -> Stage:
    swarm = Swarm(small_manifest())
    swarm.add("p0")
    settings = read_swarm({"name": "test", "model": "mlp"}, "test.toml")
    profile = Profile(swarm=settings, source="test.toml")
    return Stage(swarm, "p0", profile=profile, change=_describing)


def _describing(node: Node) -> None:
    node.apprentice.state, node.apprentice.samples = "starting", None


def knocking() -> Stage:
    swarm = Swarm(small_manifest())
    swarm.add("p1")
    swarm.event("p1", e.JoinBy(Way("198.51.100.5", 7788)))
    swarm.run_to(5.0)
    return Stage(swarm, "p1")


def _knocked() -> Swarm:
    swarm = Swarm(small_manifest(admission="pending"))
    swarm.add("p0")
    swarm.add("p1")
    swarm.found("p0")
    swarm.join_address("p1", by="p0")
    swarm.run(lambda: "p1" in swarm.hosts["p0"].peer.door.admission.pending)
    swarm.run_to(swarm.now + 1.0)
    return swarm


def pending() -> Stage:
    return Stage(_knocked(), "p1")


def stranger_waits() -> Stage:
    return Stage(_knocked(), "p0")


def denied() -> Stage:
    swarm = _knocked()
    swarm.event("p0", Decided("p1", accepted=False))
    swarm.run(lambda: bool(swarm.hosts["p1"].reported("denied")))
    return Stage(swarm, "p1")


def fetching() -> Stage:
    """In the middle of a file of six mebibytes."""
    file = bytes(6 << 20)
    name = hashlib.sha256(file).hexdigest()
    swarm = Swarm(small_manifest(pretrained=name))
    for number in range(2):
        swarm.add(f"p{number}")
    swarm.hosts["p0"].checkpoint = file
    swarm.found("p0")
    swarm.join("p1", by="p0")
    swarm.run(lambda: len(swarm.hosts["p1"].arrived) >= 2 << 20)
    return Stage(swarm, "p1")


def _two_of_three() -> Swarm:
    swarm = Swarm(small_manifest(min_peers=3))
    for name in ("p0", "p1"):
        swarm.add(name)
    swarm.found("p0")
    swarm.join("p1", by="p0")
    swarm.run_to(3.0)
    return swarm


def waiting_start() -> Stage:
    return Stage(_two_of_three(), "p1")


def waiting_start_founder() -> Stage:
    return Stage(_two_of_three(), "p0")


def waiting_epoch() -> Stage:
    swarm = started(3)
    for host in swarm.hosts.values():
        host.training_s = 4.0
    swarm.run(lambda: _round(swarm, "p0") == 1)
    swarm.add("p3")
    swarm.join("p3", by="p0")
    swarm.run(lambda: _standing(swarm, "p3") is Standing.CATCHING_UP)
    swarm.run_to(swarm.now + 1.0)
    return Stage(swarm, "p3")


# --- In a round ----------------------------------------------------------------------


def _training(node: Node) -> None:
    node.apprentice.state, node.apprentice.progress = "training", (30, 75)


def training() -> Stage:
    swarm = started(3)
    swarm.hosts["p0"].training_s = 9.0
    swarm.run(lambda: _round(swarm, "p0") == 0)
    swarm.run_to(swarm.now + 3.0)
    return Stage(swarm, "p0", change=_training)


def waiting_offers() -> Stage:
    swarm = started(4, deadline_min_s=6.0)
    swarm.run(lambda: _round(swarm, "p0") == 1)
    swarm.hosts["p3"].training_s = 60.0
    swarm.run(lambda: _round(swarm, "p0") == 2)
    swarm.run(lambda: swarm.hosts["p0"].peer.round.phase is Phase.EXCHANGE)
    swarm.run_to(swarm.now + 0.5)
    return Stage(swarm, "p0")


def exchanging() -> Stage:
    swarm = started(3)
    swarm.run(lambda: _round(swarm, "p0") == 1)
    swarm.cut = lambda a, b, message: (
        (a, b) == ("p1", "p0") and isinstance(message, Chunk)
    )
    swarm.run_to(swarm.now + 1.5)
    return Stage(swarm, "p0")


def catching_up() -> Stage:
    swarm = started(3, rounds=20)
    swarm.run(lambda: _round(swarm, "p0") == 1)
    swarm.kill("p2")
    swarm.run(lambda: _round(swarm, "p0") == 4)
    swarm.restart("p2")
    swarm.run(lambda: _standing(swarm, "p2") is Standing.CATCHING_UP)
    swarm.run_to(swarm.now + 0.3)
    return Stage(swarm, "p2")


def returning() -> Stage:
    swarm = started(3)
    swarm.run(lambda: _round(swarm, "p0") == 2)
    for name in swarm.hosts:
        swarm.kill(name)
    swarm.run_to(swarm.now + 10.0)
    swarm.restart("p1")
    swarm.run_to(swarm.now + 2.0)
    return Stage(swarm, "p1")


def done() -> Stage:
    swarm = started(3, rounds=2)
    swarm.run_until_done()
    return Stage(swarm, "p0")


def done_and_lacking() -> Stage:
    """One that has lost its values as it was done."""
    swarm = started(3, rounds=2)
    swarm.run_until_done()
    host = swarm.hosts["p0"]
    host.versions = tuple(v * 0 for v in host.plans[2].homes.version)
    swarm.run(lambda: host.peer.exchange.upkeep.lacking > 0)
    return Stage(swarm, "p0")


def done_for_good() -> Stage:
    """The same, where nobody else has any of them either."""
    stage = done_and_lacking()
    swarm = stage.swarm
    for host in swarm.hosts.values():
        host.absent_here = b"\xff"
    upkeep = swarm.hosts["p0"].peer.exchange.upkeep
    swarm.run(lambda: upkeep.is_at_rest(swarm.now))
    return stage


def put_out() -> Stage:
    swarm = started(3)
    swarm.run(lambda: _round(swarm, "p0") == 1)
    swarm.event("p0", Revoke("p2", "stolen laptop"))
    swarm.run(lambda: bool(swarm.hosts["p2"].reported("revoked")))
    return Stage(swarm, "p2")


def quarantined() -> Stage:
    """One was caught twice at what no honest peer does."""
    swarm = started(3, rounds=6)
    swarm.run(lambda: _round(swarm, "p0") == 1)
    text = "a received value is not a finite number"
    swarm.event("p0", e.Misbehaved("p2", text, "values"))
    swarm.run(lambda: _round(swarm, "p0") == 2)
    swarm.event("p0", e.Misbehaved("p2", text, "values"))
    return Stage(swarm, "p0")


def convicted() -> Stage:
    """One has told two others different things, and everybody knows."""
    swarm = started(3, rounds=6)
    swarm.run(lambda: _round(swarm, "p0") == 1)
    lies(swarm, "p2", {"p0": b"one", "p1": b"another"}, 1)
    swarm.run(lambda: "p2" in swarm.hosts["p0"].peer.gossip.facts.convicted)
    swarm.run(lambda: _round(swarm, "p0") == 2)
    return Stage(swarm, "p0")


def is_convicted() -> Stage:
    """The same, as the liar sees it."""
    return Stage(convicted().swarm, "p2")


def cloned() -> Stage:
    swarm = started(3)
    swarm.run(lambda: _round(swarm, "p2") == 1)
    mine = swarm.hosts["p2"].peer.gossip.record
    copy = replace(mine, host="10.0.0.9", incarnation=mine.incarnation + 1)
    news = Facts((membership(copy, swarm.manifest.swarm_id),))
    swarm.event("p0", e.Received("p1", news))
    swarm.run(lambda: bool(swarm.hosts["p2"].reported("cloned")))
    return Stage(swarm, "p2")


def clock() -> Stage:
    swarm = started(3)
    swarm.run(lambda: _round(swarm, "p0") == 1)
    for contact in swarm.hosts["p0"].peer.gossip.detector.contacts.values():
        contact.skew_s = 34.0
    return Stage(swarm, "p0")


def coming_back() -> Stage:
    swarm = apart("p4")
    swarm.run(lambda: "p4" in swarm.hosts["p0"].peer.gossip.facts.evicted)
    out = swarm.hosts["p0"].peer.gossip.facts.evicted["p4"]
    swarm.run(lambda: _round(swarm, "p0") >= swarm.manifest.rounds_per_epoch * out + 1)
    swarm.cut = lambda a, b, message: False
    swarm.run(lambda: bool(swarm.hosts["p4"].reported("rejoined")))
    swarm.run(lambda: _standing(swarm, "p4") is Standing.CATCHING_UP)
    return Stage(swarm, "p4")


def left() -> Stage:
    swarm = started(3, rounds=20)
    swarm.run(lambda: _round(swarm, "p0") == 1)
    swarm.event("p2", e.Leave())
    swarm.run(lambda: _standing(swarm, "p2") is Standing.LEFT)
    swarm.run_to(swarm.now + 0.5)
    return Stage(swarm, "p2")


def left_behind() -> Stage:
    stage = left()
    stage.name = "p0"
    return stage


def draining() -> Stage:
    stage = training()
    stage.change = _draining
    return stage


def _draining(node: Node) -> None:
    _training(node)
    node.ending.ask(30.0)
    node.ending.check()


# --- With a trouble ------------------------------------------------------------------


def peer_silent() -> Stage:
    swarm = started(3)
    swarm.run(lambda: _round(swarm, "p0") == 1)
    swarm.kill("p2")
    swarm.run_to(swarm.now + 7.0)
    return Stage(swarm, "p0")


def apart(*names: str) -> Swarm:
    """Five peers, these cut off from the others for a while."""
    swarm = started(5, rounds=60)
    swarm.run(lambda: _round(swarm, "p0") == 1)
    swarm.cut = lambda a, b, message: (a in names) is not (b in names)
    swarm.run_to(swarm.now + 12.0)
    return swarm


def suspected() -> Stage:
    swarm = apart("p4")
    facts = swarm.hosts["p0"].peer.gossip.facts
    swarm.run(lambda: len(facts.accusers("p4")) == 2)
    return Stage(swarm, "p0")


def asymmetric() -> Stage:
    swarm = started(4, rounds=60)
    swarm.run(lambda: _round(swarm, "p0") == 1)
    swarm.cut = lambda a, b, message: (a, b) == ("p3", "p0")
    swarm.run_to(swarm.now + 9.0)
    return Stage(swarm, "p0")


def paused() -> Stage:
    return Stage(apart("p0", "p1"), "p0")


def majority() -> Stage:
    return Stage(apart("p0", "p1"), "p3")


def alone() -> Stage:
    swarm = started(1)
    swarm.run(lambda: _round(swarm, "p0") == 1)
    return Stage(swarm, "p0", change=_training)


def disk_full() -> Stage:
    stage = waiting_offers()
    stage.change = _full
    return stage


def _full(node: Node) -> None:
    node.disk._free_bytes = lambda: 3 << 20  # type: ignore[method-assign]
    node.disk.fill("no room for an offer", 40 << 20)


def out_of_memory() -> Stage:
    stage = training()
    stage.change = _too_large
    return stage


def _too_large(node: Node) -> None:
    _restarting(node)
    node.training.too_large("the trainer ran out of memory 3 times")


def too_slow() -> Stage:
    stage = training()
    stage.change = _too_slow
    return stage


def _too_slow(node: Node) -> None:
    _training(node)
    report = e.Report("too-slow", {"rounds": 3, "training_s": 9.0})
    node.history.note(report, sent_bytes=0, received_bytes=0)


def trainer_restarting() -> Stage:
    stage = training()
    stage.change = _restarting
    return stage


def _restarting(node: Node) -> None:
    node.apprentice.state, node.apprentice.samples = "restarting", None


BUILDERS: dict[str, Callable[[], Stage]] = {
    "no-swarm": no_swarm,
    "founding": founding,
    "knocking": knocking,
    "pending": pending,
    "stranger-waits": stranger_waits,
    "denied": denied,
    "fetching": fetching,
    "waiting-start": waiting_start,
    "waiting-start-founder": waiting_start_founder,
    "waiting-epoch": waiting_epoch,
    "training": training,
    "waiting-offers": waiting_offers,
    "exchanging": exchanging,
    "catching-up": catching_up,
    "returning": returning,
    "done": done,
    "done-and-lacking": done_and_lacking,
    "done-for-good": done_for_good,
    "put-out": put_out,
    "quarantined": quarantined,
    "convicted": convicted,
    "is-convicted": is_convicted,
    "cloned": cloned,
    "clock": clock,
    "draining": draining,
    "peer-silent": peer_silent,
    "coming-back": coming_back,
    "left": left,
    "left-behind": left_behind,
    "suspected": suspected,
    "asymmetric": asymmetric,
    "paused": paused,
    "majority": majority,
    "alone": alone,
    "too-slow": too_slow,
    "disk-full": disk_full,
    "out-of-memory": out_of_memory,
    "trainer-restarting": trainer_restarting,
}
"""Every state, by the name of its golden files."""
