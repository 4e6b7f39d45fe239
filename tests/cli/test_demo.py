"""What the demo asks of its daemons."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from p2pfusion.cli.demo import Plan
from p2pfusion.cli.demo_swarms import DEMO_SWARMS, PERCEPTRON, demo_swarm
from p2pfusion.cli.pretraining import Pretrained
from p2pfusion.cli.splits import Swarm
from p2pfusion.cli.toml_text import toml_text
from p2pfusion.daemon.config import load_profile, parse_profile
from p2pfusion.methods import METHODS, Member, PlanContext, build_method
from tests.layouts import resnet18

DEMO = Path(__file__).parents[2] / "peers" / "demo.toml"


def plan() -> Plan:
    roster = tuple(Member(f"peer-{rank}", Fraction(1, 2)) for rank in range(4))
    context = PlanContext(
        seed=0, rounds=PERCEPTRON.rounds, layout=resnet18(), roster=roster
    )
    return Plan(
        peers=4,
        rounds=PERCEPTRON.rounds,
        method="msfusion",
        model="mlp",
        model_arguments={},
        settings=PERCEPTRON.swarm,
        pretraining={},
        data="digits",
        split_fraction=Fraction(1, 2),
        seed=0,
        layout=context.layout,
        swarm=Swarm(context, build_method("msfusion", {}), {}),
    )


def test_the_founder_is_the_shipped_profile() -> None:
    founder = parse_profile(toml_text(plan().profile(0)), str(DEMO))
    shipped = load_profile(DEMO)
    assert (founder.peer, founder.data) == (shipped.peer, shipped.data)
    assert founder.swarm is not None and shipped.swarm is not None
    assert founder.swarm.values == {**shipped.swarm.values, "model_arguments": {}}
    assert founder.swarm.values["local_epochs"] == 2


def test_only_a_demo_that_is_told_so_encrypts_nothing() -> None:
    for rank in (0, 1):
        table = plan().profile(rank)["peer"]
        assert "insecure_loopback" not in table
        open_one = replace(plan(), insecure=True).profile(rank)
        profile = parse_profile(toml_text(open_one), "x")
        assert profile.peer.insecure_loopback


def test_finetuning_begins_with_what_was_pretrained(tmp_path: Path) -> None:
    begins = Pretrained(tmp_path / "begins.safetensors", 0.5)
    profile = replace(plan(), pretrained=begins).profile(0)
    assert profile["swarm"]["pretrained"] == str(begins.file)
    assert demo_swarm("layer-finetune", None).pretraining
    # Another model begins as its seed says, or is refused.
    assert not demo_swarm("layer-finetune", "transformer-classifier").pretraining


def test_a_strong_peer_trains_the_whole_model_whatever_the_others_do() -> None:
    demo = replace(plan(), strong=1)
    fractions = [demo.profile(rank)["peer"]["split_fraction"] for rank in range(4)]
    assert fractions == [1.0, 0.5, 0.5, 0.5]
    assert demo_swarm("co-s2p", None).strong == 1


def test_the_others_have_another_share_and_no_swarm() -> None:
    for rank in (1, 3):
        profile = parse_profile(toml_text(plan().profile(rank)), "x")
        assert profile.swarm is None
        assert profile.data.partition is not None
        assert profile.data.partition.share == f"{rank}/4"


def test_a_method_has_a_model_that_it_can_train() -> None:
    assert DEMO_SWARMS.keys() <= METHODS.keys()
    assert demo_swarm("msfusion", None) is PERCEPTRON
    encoder = demo_swarm("lw-fedssl", None)
    assert encoder is demo_swarm("lw-fedssl", "vit")
    assert (
        encoder.swarm["objective"] == "moco"
        and "head_hidden" in encoder.model_arguments
    )
    # Another model has its own arguments, and perhaps no heads to compare with.
    other = demo_swarm("lw-fedssl", "transformer-classifier")
    assert other.model_arguments == {} and "objective" not in other.swarm
