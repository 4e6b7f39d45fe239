"""Large swarms whose members know each other from the beginning.

A thousand machines that join one after the other take their time, and are another
story. Here every disk has the manifest and all members' records, as after an evening
before: all that is left to do is to start the daemons.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from p2pfusion.protocol.facts import in_frames
from p2pfusion.protocol.messages import Facts, Membership
from p2pfusion.protocol.statements import sign_record, sign_start
from p2pfusion.security.credential import issue
from p2pfusion.simulation.machine import Machine
from p2pfusion.simulation.world import World


def acquaint(world: World, names: Sequence[str]) -> None:
    """These machines, which have never run, become members; the first one founds."""
    machines = [world.machines[name] for name in names]
    founder = machines[0]
    founder.is_founder = True
    swarm = world.manifest.swarm_id
    members = tuple(_membership(each, founder, swarm) for each in machines)
    start = sign_start(swarm, sorted(names), founder.signer)
    facts = tuple(in_frames(Facts(members, start)))
    for machine in machines:
        machine.disk.manifest.write(world.manifest, world.now, world.now)
        machine.disk.facts.write(facts, world.now, world.now)


def _membership(machine: Machine, founder: Machine, swarm: str) -> Membership:
    incarnation = machine.disk.next_incarnation()
    key = hashlib.sha256(f"exchange {machine.name} before".encode()).digest()
    record = replace(machine.record(incarnation, key), swarm=swarm, sequence=1)
    credential = b""
    if machine is not founder:
        credential = issue(
            founder.signer,
            b"",
            swarm=swarm,
            public=machine.signer.public,
            role="member",
            invite="",
        )
    return Membership(sign_record(record, machine.signer), credential)
