"""Every command block of README.md, as ``pages.py`` runs them.

``make`` only says what it would do: it would install.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.end_to_end.pages import TICKET, WAIT, Machine, Page, begun
from tests.end_to_end.programs import ROOT

pytestmark = pytest.mark.slow

README = Page.read(ROOT / "README.md")

Machines = Callable[[str], Machine]


def named(machines: Machines, name: str) -> Machine:
    """A machine with a peer of that name."""
    machine = machines(name)
    assert machine.program.run("init", "--name", name).code == 0
    return machine


def test_the_blocks_are_those_that_are_run_here() -> None:
    beginnings = [block[0].split(" ")[:3] for block in README.blocks]
    assert beginnings == [
        ["make", "demo"],
        ["p2pfusion", "start", "peers/founder.toml"],
        ["p2pfusion", "start", "peers/laptop-cpu.toml"],
        ["p2pfusion", "status"],
        ["p2pfusion", "invite", "create"],
        ["p2pfusion", "pending", "ls"],
    ]


def test_make_has_what_the_first_block_says() -> None:
    told = {}
    for line in README.block_with("make"):
        make, target = line.split()
        done = subprocess.run(
            [make, "--dry-run", target], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done
        told[target] = done.stdout
    assert "cli.py demo" in told["demo"] and "-m pytest" in told["test"]


def test_two_machines_and_all_that_follows(
    machines: Machines,
) -> None:
    founder, lab_b, lab_c = (
        named(machines, name) for name in ("first", "lab-b", "lab-c")
    )
    start, invite = README.block_with("p2pfusion start peers/founder.toml")
    founder.succeeds(start)
    ticket = founder.succeeds(invite).strip()

    (join,) = README.block_with("p2pfusion start peers/laptop-cpu.toml")
    (shown,) = TICKET.findall(join)
    for machine in (lab_c, lab_b):
        machine.copied[shown] = ticket
        begun(machine, join)
    assert lab_b.program.run("wait", "--for", "peers=3", *WAIT).code == 0

    printed = {
        line: lab_b.succeeds(line) for line in README.block_with("p2pfusion status")
    }
    assert printed["p2pfusion status"].startswith("Swarm   digits")
    assert "of it ever trained" in printed["p2pfusion export model.safetensors"]
    assert (lab_b.folder / "model.safetensors").stat().st_size > 0
    evaluated = printed["p2pfusion evaluate model.safetensors --data digits"]
    assert evaluated.startswith("Accuracy ")
    assert lab_b.program.run("status").code == 3, "it was stopped"

    for line in README.block_with("p2pfusion invite create --uses 1"):
        if "revoke ID" in line:
            rows = founder.program.run("invite", "ls", "--json").data["invites"]
            founder.copied["ID"] = rows[-1]["id"]  # type: ignore[index]
        founder.succeeds(line)
    assert "put out" in founder.program.run("peers").out


def test_knocking_without_a_ticket(machines: Machines) -> None:
    admin, knocker = (named(machines, name) for name in ("admin", "knocker"))
    text = (ROOT / "peers" / "founder.toml").read_text()
    changed = text.replace('admission = "ticket"', 'admission = "pending"')
    assert changed != text
    (admin.folder / "founder.toml").write_text(changed)
    start = "p2pfusion start founder.toml --listen 0.0.0.0:7788 --detach"
    address = admin.succeeds(start).split("address ")[1].split()[0]
    assert admin.program.run("wait", "--for", "joined", *WAIT).code == 0
    begun(knocker, f"p2pfusion start --join {address}")

    listing, asking, accepting = README.block_with("p2pfusion pending ls")
    peer = knocker.succeeds(asking).strip()
    while peer not in admin.succeeds(listing):
        pass  # the knock is on its way
    admin.copied["ID"] = peer
    admin.succeeds(accepting)
    assert knocker.program.run("wait", "--for", "joined", *WAIT).code == 0
