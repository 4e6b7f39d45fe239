"""The pages about models, data and files of one's own, from block to block, as somebody
who has read nothing else would type them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from p2pfusion.cli.toml_text import toml_text
from tests.clean_python import run_clean
from tests.end_to_end.pages import TICKET, Machine, Page
from tests.end_to_end.programs import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.soak]

MODELS, DATA, FILES = (
    Page.read(ROOT / "docs" / f"{name}.md")
    for name in ("models", "data", "checkpoints")
)
CNN = """
from safetensors.torch import load_file
Cnn().load_state_dict(load_file("cnn.safetensors"), strict=True)
"""
THEIRS = """
from safetensors.torch import save_file
from garage.models import build
save_file(build(width=32).state_dict(), "theirs.safetensors")
"""


Machines = Callable[[str], Machine]


@pytest.fixture
def founder(machines: Machines) -> Machine:
    return written(machines("founder"))


def written(machine: Machine) -> Machine:
    """With all files of the pages."""
    (machine.folder / "garage").mkdir()
    for page in (MODELS, DATA, FILES):
        for name, text in page.files.items():
            machine.write(name, text)
    return machine


def typed(machine: Machine, block: tuple[str, ...]) -> list[str]:
    return [machine.succeeds(line) for line in block]


def test_a_model_of_ones_own_from_the_first_block_to_a_file_that_begins_a_swarm(
    founder: Machine, machines: Machines
) -> None:
    before, found, join, loss, memory = MODELS.blocks
    typed(founder, before)
    typed(founder, loss)
    (told,) = typed(founder, memory)
    assert "activations" in told
    *_, ticket = typed(founder, found)

    other = written(machines("other"))
    typed(other, before[:1])
    shown = TICKET.search("\n".join(join))
    assert shown is not None
    other.copied[shown[0]] = ticket.strip()
    assert typed(other, join)[-1].startswith("Accuracy ")

    out, into = FILES.blocks
    typed(other, out)
    run_clean(FILES.files["load.py"], other.folder, path=other.folder)

    beginner = written(machines("beginner"))
    typed(beginner, before[:1])
    run_clean(THEIRS, beginner.folder, path=beginner.folder)
    (told,) = typed(beginner, into)
    begins = FILES.files["begins.toml"].replace("HASH", told.split()[0])
    beginner.write("begins.toml", begins)
    typed(
        beginner,
        (
            "p2pfusion start begins.toml --listen 127.0.0.1:0 --detach",
            "p2pfusion wait --for round=2 --timeout 240",
            "p2pfusion stop",
        ),
    )


def test_a_model_of_the_table_fits_the_module_that_is_shown(founder: Machine) -> None:
    typed(
        founder,
        (
            "p2pfusion sim --train --model cnn --data digits --rounds 1"
            " --save cnn.safetensors",
        ),
    )
    run_clean(FILES.files["cnn.py"] + CNN, founder.folder, path=founder.folder)


def test_data_of_ones_own(founder: Machine) -> None:
    arrays = {
        f"{part}_{what}": values
        for part in ("train", "test")
        for what, values in (
            ("x", np.zeros((20, 8, 8), np.uint8)),
            ("y", np.arange(20) % 10),
        )
    }
    np.savez(founder.folder / "mine.npz", **arrays)  # type: ignore[arg-type]
    typed(founder, ("export PYTHONPATH=$PWD", *DATA.blocks[0]))


def test_tokens_of_ones_own_train_a_model(
    founder: Machine,
) -> None:
    rows = (np.arange(400)[:, None] + np.arange(9)) % 50
    (founder.folder / "tokens").mkdir()
    for part, each in (("train", rows[:300]), ("test", rows[300:])):
        np.save(founder.folder / "tokens" / f"{part}.npy", each)
    garage = founder.folder / "garage"
    written_so = (garage / "tokens.py").read_text()
    (garage / "tokens.py").write_text(written_so.replace("50_257", "50"))
    typed(founder, ("export PYTHONPATH=$PWD", *DATA.blocks[1]))
    small = {"width": 32, "heads": 4, "layers": 1, "inner": 64, "group": 4}
    settings = {"name": "tokens", "model": "transformer", "model_arguments": small}
    training = {"rounds": 5, "optimiser": "adamw", "learning_rate": 0.01}
    profile = {
        "data": {"kind": "garage.tokens:load", "path": "tokens"},
        "swarm": {**settings, **training},
    }
    founder.write("tokens.toml", toml_text(profile))
    typed(
        founder,
        (
            "p2pfusion start tokens.toml --listen 127.0.0.1:0 --detach",
            "p2pfusion wait --for done --timeout 240",
            "p2pfusion export tokens.safetensors",
            "p2pfusion stop",
            "p2pfusion evaluate tokens.safetensors --data own-tokens.toml",
        ),
    )
