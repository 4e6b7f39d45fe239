"""A swarm of real daemons that learns running text, from founding to evaluation.

The peers have texts of their own. The vocabulary is the founder's, so what another peer
exports can be evaluated on any text.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pfusion.store.checksum import read_header
from tests.end_to_end.programs import Program
from tests.end_to_end.swarm import QUICK, Swarm

pytestmark = [pytest.mark.slow, pytest.mark.soak]

SMALL = {"length": 8, "width": 32, "heads": 4, "layers": 1, "inner": 32, "group": 4}
FOUNDERS = "to be or not to be , that is the question\n" * 60
OTHERS = "the answer is not to be or to have been\n" * 60


def test_text_is_learned_with_the_founders_words(swarm: Swarm, tmp_path: Path) -> None:
    settings = {
        **QUICK,
        "model": "transformer",
        "model_arguments": SMALL,
        "vocabulary": {"size": 11},
        "min_peers": 2,
        "method": "fedavg",
        "batch": 8,
        "rounds": 16,
        "local_epochs": 1,
        "learning_rate": 0.2,
    }
    made = []
    for name, text in (("founder.txt", FOUNDERS), ("other.txt", OTHERS)):
        path = tmp_path / name
        path.write_text(text)
        data = {"kind": "text", "path": str(path)}
        made.append(swarm.add(data=data, swarm=None if made else settings))
    founder, other = made
    founder.start()
    other.start("--join", founder.ticket())
    for daemon in made:
        daemon.wait("done")

    model = tmp_path / "model.safetensors"
    other.ask("export", path=str(model))
    vocabulary = json.loads(read_header(model)["vocabulary"])
    assert vocabulary["level"] == "word"
    special, words = vocabulary["tokens"][:3], set(vocabulary["tokens"][3:])
    assert special == ["<pad>", "<unk>", "<eos>"]
    # Of the founder's nine words the eight that fit; "answer" is none of them.
    assert len(words) == 8 and words < set(FOUNDERS.split())

    text = str(tmp_path / "other.txt")
    done = Program(other.home).run("evaluate", str(model), "--data", text, "--json")
    assert done.code == 0, done.err
    found = done.data
    assert found["held_out"] is True and found["samples"] == 65
    perplexity, chance = found["perplexity"], found["chance_perplexity"]
    assert isinstance(perplexity, float) and isinstance(chance, float)
    assert perplexity < 0.75 * chance, (perplexity, chance)
