"""GPT-2 from a configuration, trained by three peers on text files.

    python examples/gpt2_text.py DIRECTORY [ROUNDS]

The directory has files ``*.txt``; each peer gets some of them. The model is Hugging
Face's own class (``pip install p2pfusion[libraries]``), untrained and small. What comes
out is loaded by its ``from_pretrained``, which needs the configuration beside the file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

import p2pfusion

TEXT = {"level": "byte", "size": 256}


def build(vocabulary: int = 256, length: int = 32, width: int = 64) -> nn.Module:
    """A GPT-2 of two layers for so many tokens; its head shares the tokens' table."""
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=length,
        n_embd=width,
        n_layer=2,
        n_head=4,
        use_cache=False,
        bos_token_id=None,  # what a configuration has by default is beyond these tokens
        eos_token_id=None,
    )
    return GPT2LMHeadModel(config)


if __name__ == "__main__":
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    out = Path("gpt2-by-a-swarm")
    out.mkdir(exist_ok=True)
    found = p2pfusion.simulate(
        model=build,
        data=sys.argv[1],
        vocabulary=TEXT,
        peers=3,
        rounds=rounds,
        local_steps=20,
        optimiser="adamw",
        learning_rate=0.003,
        partition="by-document",
        save=out / "model.safetensors",
    )
    for point in found["curve"]:
        print(f"round {point['round']}: perplexity {point['perplexity']:.1f} per byte")
    # What the data made of the arguments stands in the file beside the model.
    told = json.loads((out / "model.manifest.json").read_text())["model_arguments"]
    mine = {key: told[key] for key in ("vocabulary", "length", "width")}
    build(**mine).config.save_pretrained(out)
    loaded = GPT2LMHeadModel.from_pretrained(out)
    print(
        f"{out} has {loaded.num_parameters():,} parameters, which GPT-2's class loads"
    )
