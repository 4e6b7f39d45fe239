"""The screen of ``split show``."""

from __future__ import annotations

from p2pfusion.cli.windows import MAX_PEER_COLUMNS, split_screen

PEER: dict[str, object] = {
    "peer": "peer-0",
    "name": "ann",
    "split_fraction": 0.5,
    "frozen": [],
    "windows": {"h1": [[0, 32], [96, 128]]},
    "parameters": 8970,
    "sub_model_bytes": 35_880,
    "sent_bytes": 28_200,
    "received_bytes": 0,
}
DATA: dict[str, object] = {
    "method": "msfusion",
    "model": "mlp",
    "round": 3,
    "rounds": 20,
    "seed": 7,
    "full_model_parameters": 26_122,
    "axes": [{"name": "h1", "size": 128, "covered": 0.5}],
    "peers": [PEER],
    "coverage": 0.343,
    "holders_mean": 0.3434,
    "ever_trained_fraction": 0.4,
    "ever_trained_fraction_at_end": 0.98,
    "warnings": ["axis 'h1' is in trouble"],
    "plot": "windows.png",
}

SCREEN = """\
msfusion on mlp, 1 peer, round 3 of 20 (counted from 0), seed 7

PEER  FRACTION  PARAMETERS  OF ALL  SIZE   SENT   RECEIVED
ann   0.5       8,970       34.3 %  36 kB  28 kB  0 B

AXIS  SIZE  COVERED  ann
h1    128   50.0 %   0-31 96-127

Coverage  34.3 % of the parameters this round, held by 0.3 peers on average
Trained   40.0 % of the parameters after this round, 98.0 % after the last

warn  axis 'h1' is in trouble

Wrote windows.png"""


def test_the_whole_screen() -> None:
    assert split_screen(DATA, 100) == SCREEN


def test_peers_that_find_no_column_are_counted() -> None:
    many = [{**PEER, "name": f"p{i}"} for i in range(MAX_PEER_COLUMNS + 3)]
    screen = split_screen({**DATA, "peers": many}, 200)
    assert "(3 more peers: see --peer)" in screen


def test_a_layer_is_trained_frozen_or_not_there() -> None:
    layers = {"layer 0": [[0, 1]], "layer 1": [[0, 1]], "layer 2": []}
    peer = {**PEER, "windows": layers, "frozen": ["layer 0"]}
    axes = [{"name": name, "size": 1, "covered": 1.0} for name in layers]
    lines = split_screen({**DATA, "peers": [peer], "axes": axes}, 100).splitlines()
    states = [line.split()[-1] for line in lines if line.startswith("layer")]
    assert states == ["frozen", "trained", "-"]
