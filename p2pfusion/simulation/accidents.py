"""What each kind of fault does to a world."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from p2pfusion.protocol.access import Invited
from p2pfusion.protocol.admission import Invite
from p2pfusion.protocol.events import ChangeFraction, Leave, Recover
from p2pfusion.simulation.disk import SYNC_S
from p2pfusion.simulation.faults import Fault, Script
from p2pfusion.simulation.machine import Life, State
from p2pfusion.simulation.world import World

JOIN_PAUSE_S = 0.2
"""Between two newcomers of a storm, unless the script says another."""

SLOW_SYNC_S = 0.5
"""An fsync of a disk that loses writes, unless the script says another."""

CONDITIONS = ("loss", "duplicates", "latency_s", "jitter_s", "bytes_per_s", "in_order")


class Accidents:
    """Lets the faults of a script strike when their time has come."""

    def __init__(
        self, world: World, script: Script, *, fraction: str, training_s: float = 1.0
    ) -> None:
        """``fraction``: the split fraction of newcomers; ``training_s``: how long a
        round takes them."""
        self._world = world
        self._training_s = training_s
        self._fraction = fraction
        self._invites = 0
        self._kinds: dict[str, Callable[[Fault], None]] = {
            "kill": self._kill,
            "restart": self._restart,
            "stop": self._stop,
            "leave": self._leave,
            "recover": self._recover,
            "fraction": self._change_fraction,
            "pause": self._pause,
            "resume": self._resume,
            "slow": self._slow,
            "fail-trainer": self._fail_trainer,
            "lost-writes": self._lost_writes,
            "join": self._join,
            "join-storm": self._join,
            "rolling-restart": self._rolling_restart,
            "mass-restart": self._mass_restart,
            "partition": self._partition,
            "cut": self._cut,
            "break": self._break,
            "clog": self._clog,
            "unclog": self._unclog,
            "outward": self._outward,
            "network": self._network,
            "heal": self._heal,
        }
        for fault in script.faults:
            world.at(fault.at_s, self._strike, fault)
        self.quiet_at = max((fault.ends_s for fault in script.faults), default=0.0)
        rolling = [f for f in script.faults if f.kind == "rolling-restart"]
        for fault in rolling:
            steps = len(self._names(fault))
            lasts = fault.number("down_s", 0.0) + fault.number("pause_s", 0.0)
            self.quiet_at = max(self.quiet_at, fault.at_s + steps * lasts)

    def _strike(self, fault: Fault) -> None:
        self._world.note(f"fault {fault.kind} {dict(fault.values)}")
        self._kinds[fault.kind](fault)

    def _names(self, fault: Fault, key: str = "peers") -> list[str]:
        return fault.names(key, list(self._world.machines))

    # --- Machines --------------------------------------------------------------------

    def _kill(self, fault: Fault) -> None:
        for name in self._names(fault):
            self._world.kill(name, power=fault.flag("power"))

    def _restart(self, fault: Fault) -> None:
        for name in self._names(fault):
            if self._world.machines[name].has_run:
                self._world.start(name)

    def _stop(self, fault: Fault) -> None:
        for name in self._names(fault):
            self._world.stop(name)

    def _leave(self, fault: Fault) -> None:
        for life in self._lives(fault):
            self._world.give(life, Leave())

    def _recover(self, fault: Fault) -> None:
        admin = self._admin(str(fault.values.get("by", "p0")))
        if admin is not None:
            lost = tuple(sorted(self._names(fault)))
            self._world.give(admin, Recover(lost, "will not come back"))

    def _change_fraction(self, fault: Fault) -> None:
        fraction = str(fault.values["fraction"])
        for life in self._lives(fault):
            life.machine.fraction = fraction
            self._world.give(life, ChangeFraction(fraction))

    def _lives(self, fault: Fault) -> list[Life]:
        """The daemons of these names that run."""
        names = set(self._names(fault))
        return [life for life in self._world.alive() if life.name in names]

    def _pause(self, fault: Fault) -> None:
        for name in self._names(fault):
            self._world.pause(name)

    def _resume(self, fault: Fault) -> None:
        for name in self._names(fault):
            self._world.resume(name)

    def _slow(self, fault: Fault) -> None:
        for name in self._names(fault):
            self._world.machines[name].slowness = fault.number("factor", 1.0)

    def _fail_trainer(self, fault: Fault) -> None:
        for name in self._names(fault):
            self._world.machines[name].failing += int(fault.number("rounds", 1))

    def _lost_writes(self, fault: Fault) -> None:
        slowest = fault.number("sync_s", SLOW_SYNC_S)
        for name in self._names(fault):
            disk = self._world.machines[name].disk
            disk.loss, disk.sync_s = 1.0, (SYNC_S[0], max(SYNC_S[0], slowest))

    def _rolling_restart(self, fault: Fault) -> None:
        world, at = self._world, self._world.now
        for name in self._names(fault):
            world.at(at, self._down, (name, fault))
            at += fault.number("down_s", 0.0) + fault.number("pause_s", 0.0)

    def _mass_restart(self, fault: Fault) -> None:
        for name in self._names(fault):
            self._down((name, fault))

    def _down(self, what: tuple[str, Fault]) -> None:
        name, fault = what
        world = self._world
        if world.machines[name].state is not State.DEAD:
            world.kill(name, power=fault.flag("power"))
            world.at(world.now + fault.number("down_s", 0.0), world.start, name)

    # --- Newcomers -------------------------------------------------------------------

    def _join(self, fault: Fault) -> None:
        world, at = self._world, self._world.now
        for _ in range(int(fault.number("count", 1))):
            name = f"p{len(world.machines)}"
            world.add(name, fraction=self._fraction, training_s=self._training_s)
            world.at(at, self._newcomer, (name, fault))
            at += fault.number("pause_s", JOIN_PAUSE_S)

    def _newcomer(self, what: tuple[str, Fault]) -> None:
        name, fault = what
        by = str(fault.values.get("by", "p0"))
        life = self._admin(by) if fault.flag("ticket") else None
        if life is None:
            self._world.join(name, by)
            return
        invite = self._invite(life)
        # Nobody sees a ticket before it is saved.
        ready_at = max(self._world.now, life.busy_until)
        self._world.at(ready_at, self._with_ticket, (name, by, life, invite))

    def _with_ticket(self, what: tuple[str, str, Life, Invite]) -> None:
        name, by, life, invite = what
        if life.is_current and invite.id in life.peer.door.admission.invites:
            self._world.join(name, by, invite)
        else:
            self._world.join(name, by)

    def _admin(self, name: str) -> Life | None:
        """The daemon of this name, if it can make a ticket now."""
        machine = self._world.machines[name]
        life = machine.life
        if life is None or machine.state is not State.ALIVE:
            return None
        can = life.peer.manifest is not None and life.peer.door.is_admin
        return life if can else None

    def _invite(self, life: Life) -> Invite:
        self._invites += 1
        secret = hashlib.sha256(b"ticket %d" % self._invites).digest()[:16]
        invite = Invite(f"ticket-{self._invites}", secret, "member", 1, 0)
        self._world.give(life, Invited(invite))
        return invite

    # --- The network -----------------------------------------------------------------

    def _pairs(self, fault: Fault) -> Iterator[tuple[str, str]]:
        others = self._names(fault, "others")
        for source in self._names(fault):
            yield from ((source, target) for target in others if target != source)

    def _partition(self, fault: Fault) -> None:
        groups = fault.values["groups"]
        assert isinstance(groups, tuple)
        for group in groups:
            rest = [name for other in groups if other is not group for name in other]
            self._world.network.cut((a, b) for a in group for b in rest)

    def _cut(self, fault: Fault) -> None:
        self._world.network.cut(self._pairs(fault))

    def _break(self, fault: Fault) -> None:
        self._world.network.break_(self._pairs(fault))

    def _clog(self, fault: Fault) -> None:
        self._world.network.clog(self._pairs(fault))

    def _unclog(self, fault: Fault) -> None:
        self._world.carrier.flow(self._world.network.unclog(self._pairs(fault)))

    def _outward(self, fault: Fault) -> None:
        """From their next start on nobody can dial these."""
        for name in self._names(fault):
            self._world.machines[name].is_outward = True

    def _network(self, fault: Fault) -> None:
        changes = {k: v for k, v in fault.values.items() if k in CONDITIONS}
        self._world.network.change(self._pairs(fault), **changes)

    def _heal(self, fault: Fault) -> None:
        self._world.carrier.flow(self._world.network.heal())
