"""Models of well-kept libraries, as they are: from configurations, not downloaded.

A library that is not installed is skipped; ``pip install p2pfusion[libraries]``
brings all. Every model is cut to a half and to a quarter of every width.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from p2pfusion.split.segment import Split
from p2pfusion.split.windows import rolling_window, window_cells
from p2pfusion.training.tracing import trace
from tests.training.tracing.silence import assert_silenced

CLASSES, TOKENS = 7, 50
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "vocab_size": TOKENS,
}

Make = Callable[[], nn.Module]


def vision(name: str, **options: object) -> Make:
    def make() -> nn.Module:
        models = pytest.importorskip("torchvision.models", exc_type=Exception)
        found: nn.Module = getattr(models, name)(num_classes=CLASSES, **options)
        return found

    return make


def timm(name: str, **options: object) -> Make:
    def make() -> nn.Module:
        library = pytest.importorskip("timm", exc_type=Exception)
        found: nn.Module = library.create_model(name, num_classes=CLASSES, **options)
        return found

    return make


def hugging(kind: str, head: str, **options: object) -> Make:
    def make() -> nn.Module:
        pytest.importorskip("transformers", exc_type=Exception)
        library = importlib.import_module("transformers")
        config = getattr(library, f"{kind}Config")(use_cache=False, **options)
        found: nn.Module = getattr(library, f"{kind}{head}")(config)
        return found

    return make


VIT = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 64, "num_heads": 4}
IMAGES: dict[str, Make] = {
    "torchvision resnet18": vision("resnet18"),
    "torchvision resnext50": vision("resnext50_32x4d"),
    "torchvision mobilenet_v2": vision("mobilenet_v2"),
    "torchvision shufflenet": vision("shufflenet_v2_x0_5"),
    "torchvision vit": vision(
        "VisionTransformer",
        image_size=32,
        patch_size=8,
        num_layers=2,
        num_heads=4,
        hidden_dim=32,
        mlp_dim=64,
    ),
    "timm vit": timm("vit_tiny_patch16_224", **VIT),
    "timm resnet": timm("resnet10t"),
    "timm convnext": timm("convnext_atto"),
}
TEXTS: dict[str, Make] = {
    "transformers gpt2": hugging(
        "GPT2",
        "LMHeadModel",
        vocab_size=TOKENS,
        n_positions=16,
        n_embd=32,
        n_layer=2,
        n_head=4,
    ),
    "transformers bert": hugging(
        "Bert",
        "ForSequenceClassification",
        num_labels=CLASSES,
        num_attention_heads=4,
        **SMALL,
    ),
    "transformers llama": hugging(
        "Llama",
        "ForCausalLM",
        num_attention_heads=8,
        num_key_value_heads=4,
        **SMALL,
    ),
    "transformers gpt-neox": hugging(
        "GPTNeoX", "ForCausalLM", num_attention_heads=4, **SMALL
    ),
}
MODELS = {**IMAGES, **TEXTS}


def records(name: str) -> Tensor:
    if name in IMAGES:
        return torch.randn(3, 3, 32, 32)
    return torch.randint(TOKENS, (3, 12))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_library_s_model_is_split_without_a_word_about_it(name: str) -> None:
    torch.manual_seed(0)
    module, given = MODELS[name](), records(name)
    found = trace(module, given)
    assert len(found.layout.axes) > 4
    for fraction in (Fraction(1, 2), Fraction(1, 4)):
        split = Split.of(
            {
                axis.name: rolling_window(axis, window_cells(axis, fraction), 3)
                for axis in found.layout.axes
            }
        )
        assert split.size(found.layout) < fraction * found.layout.size * 1.5
        assert_silenced(module, found, split, given, training=False, double=False)
