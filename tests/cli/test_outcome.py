"""How the demo's result reads."""

from __future__ import annotations

from p2pfusion.cli.outcome import result_text

RESULT: dict[str, object] = {
    "peers": 4,
    "rounds": 40,
    "method": "msfusion",
    "data": "digits",
    "accuracy": 0.969,
    "chance_accuracy": 0.145,
    "samples": 359,
    "held_out": True,
    "bytes_sent": 4_740_000,
    "bytes_full_exchange": 25_077_120,
    "strong_peers": 0,
    "sub_model_parameters": 8970,
    "full_model_parameters": 26_122,
    "seconds": 31.2,
    "checkpoint": "p2pfusion-demo/mlp-msfusion.safetensors",
    "killed": 1,
    "killed_peers": ["peer-3"],
    "contributions_missed": 2,
    "encrypted": True,
}

TEXT = """\
Accuracy    96.9 % on 359 held-out examples; guessing gives 14.5 %
            4 peers with unequal shares of digits, 40 rounds of msfusion
            2 contributions came too late or not at all
Each peer   trained 8,970 of 26,122 parameters at a time (34.3 %)
Traffic     4.7 MB sent by all peers, encrypted; exchanging whole models: 25 MB
Killed      peer-3; restarted and back
Time        31s
Checkpoint  p2pfusion-demo/mlp-msfusion.safetensors"""


def test_the_result_reads_well() -> None:
    assert result_text(RESULT) == TEXT
    calm = {**RESULT, "killed_peers": [], "contributions_missed": 0}
    leaky = {**RESULT, "held_out": False}
    assert ", NOT ENCRYPTED;" in result_text({**RESULT, "encrypted": False})
    assert "on 359 examples, NOT held out;" in result_text(leaky)
    assert "Killed" not in result_text(calm) and "too late" not in result_text(calm)


def test_an_encoder_is_compared_with_a_random_one() -> None:
    probed = {**RESULT, "probe_labels": 900, "random_encoder_accuracy": 0.515}
    assert (
        "trained without labels; 900 of them for a linear classifier on top, with "
        "which a random encoder has 51.5 %"
    ) in result_text(probed)


def test_a_finetuned_model_is_compared_with_its_beginning() -> None:
    begun = {**RESULT, "pretrained": "a.safetensors", "pretrained_accuracy": 0.7}
    told = "began as a model that one peer had trained to 70.0 %: a.safetensors"
    assert told in result_text(begun)


def test_who_trains_the_whole_model_is_not_counted_among_the_others() -> None:
    told = "Each peer   but 1 trained 8,970 of 26,122 parameters"
    assert told in result_text({**RESULT, "strong_peers": 1})
