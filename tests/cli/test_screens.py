"""What the tables of members and rounds look like."""

from __future__ import annotations

import pytest

from p2pfusion.cli.fields import rows
from p2pfusion.cli.screens import peers_table, round_screen, rounds_table
from tests.cli.samples import PEERS, ROUNDS

ROUNDS_WIDE = """\
ROUND  TOOK   FROM     MISSING  SENT   RECEIVED  LOSS   ACCURACY      STALE
11     1m37s  2 peers  nobody   41 MB  39 MB     0.430  87.1 %        0
12     1m50s  1 peer   lab-c    41 MB  22 MB     none   not measured  3"""

ROUND = """\
Round 12  took 1m50s
From    lab-a
Missing lab-c: missed the deadline
Waited  at most so long as nothing was measured for others' offers
Net     41 MB sent, 22 MB received
Metrics loss unknown   accuracy not measured   update norm unknown
Stale   3"""

ROUND_WITH_ALL = """\
Round 11  took 1m37s
Time    training 1m00s   waiting for offers 7.0s   exchanging 30s
From    lab-a, lab-c
Missing nobody
Late    lab-c: trained in round 10
Waited  at most 1m50s for others' offers
        until 2m50s after its beginning
        measured: late by 7.0s, give or take 1.5s, in 12 offers
Net     41 MB sent, 39 MB received
Metrics loss 0.430   accuracy 87.1 %   update norm 1.020
Stale   none

OFFERED  AFTER  SAMPLES  LOSS   NORM
lab-c    1m07s  360      0.500  1.250"""

PEERS_NARROW = """\
NAME    STATE           ROUND    SENT    RECEIVED
lab-a*  self            12       here    here
lab-c   silent for 3 s  not yet  1.0 kB  0 B"""


def test_rounds() -> None:
    assert rounds_table(rows(ROUNDS, "rounds"), 100) == ROUNDS_WIDE
    assert rounds_table([], 100).startswith("No round is complete yet")


def test_one_round() -> None:
    assert round_screen(rows(ROUNDS, "rounds")[1]) == ROUND


def test_one_round_with_all_that_is_known() -> None:
    done = {
        **rows(ROUNDS, "rounds")[0],
        "phases": {"train": 60.0, "offers": 7.0, "exchange": 30.2},
        "deadlines": {
            "gives_up_s": 170.0,
            "median_s": 7.0,
            "mad_s": 1.5,
            "measured": 12,
        },
        "offers": {
            "9z": {
                "name": "lab-c",
                "after_s": 67.0,
                "samples": 360,
                "loss": 0.5,
                "norm": 1.25,
                "base_round": 10,
            }
        },
    }
    assert round_screen(done) == ROUND_WITH_ALL


def test_a_narrow_screen_drops_what_is_missed_least() -> None:
    assert peers_table(rows(PEERS, "peers"), 60) == PEERS_NARROW


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 160])
def test_no_table_is_wider_than_its_screen(width: int) -> None:
    wide = peers_table(rows(PEERS, "peers"), width)
    assert max(map(len, wide.splitlines())) <= max(width, 38)
