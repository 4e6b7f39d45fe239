"""What the screen of ``status`` looks like; tests/golden has all states of a daemon."""

from __future__ import annotations

from p2pfusion.cli.fields import rows
from p2pfusion.cli.status_screen import status_screen
from tests.cli.samples import ALONE, JOINED, PEERS

STATUS = """\
Swarm   blue-heron (k3v9aa…2a)   msfusion on mlp, 20 rounds
State   round 12: trains its sub-model
Self    lab-a (7kq2m4…gh)   10.0.0.4:7788   split fraction 0.5   trainer training   \
up 3h12m
Roster  epoch 2   digest 9f31c2…18   3 members
Round   12  train  for 1m04s  (closes in 46s)
        waiting for lab-c (its offer, for at most 12s more), gpu-2 (silent for 6 s)
Store   versions 0 to 12   ever trained 98.2 %   copies at least 2   stale ranges none
Net     41 MB sent, 39 MB received   this round 2.1 MB sent, 990 B received   \
(full model: 612 MB)
Access  encrypted   entry by ticket   this peer is an admin
Metrics loss 0.412   accuracy not measured

NAME    ID         STATE           ADDRESS        RTT   ROUND    FRACTION  SHARED   \
SENT    RECEIVED
lab-a*  7kq2m4…gh  self            10.0.0.4:7788  here  12       0.5       here     \
here    here
lab-c   9zc4l0…gh  silent for 3 s  unknown        18ms  not yet  0.25      unknown  \
1.0 kB  0 B"""

STATUS_ALONE = """\
Daemon running, not in a swarm yet.
State   knocks at 10.0.0.5:7788; nobody has let it in yet
        do this: check the address
Self    lab-a (7kq2m4…gh)   10.0.0.4:7788   split fraction 0.5   trainer training   \
up 3h12m
Access  encrypted
  joining  10.0.0.5:7788   attempt 7, next in 8.2s
  last error: no answer yet

Health
  warn  no answer yet; check the address, and that a daemon listens there"""


def test_status_of_a_member() -> None:
    assert status_screen(JOINED, rows(PEERS, "peers"), 120) == STATUS


def test_status_shows_the_caps_that_there_are() -> None:
    counts = {**JOINED["traffic"], "up_limit_bytes_per_s": 2e6}  # type: ignore[dict-item]
    screen = status_screen({**JOINED, "traffic": counts}, [], 120)
    assert "\n        sends at most 2.0 MB/s\n" in screen
    both = {**counts, "down_limit_bytes_per_s": 50_000.0}
    screen = status_screen({**JOINED, "traffic": both}, [], 120)
    assert "\n        sends at most 2.0 MB/s, receives at most 50 kB/s\n" in screen


def test_status_of_a_peer_without_a_swarm() -> None:
    assert status_screen(ALONE, [], 120) == STATUS_ALONE


def test_status_of_a_founder_whose_trainer_is_still_starting() -> None:
    waiting = {"waiting_for": [{"peer": "trainer", "reason": "the model's layout"}]}
    status = {**JOINED, "swarm": None, "round": waiting}
    screen = status_screen(status, [], 120)
    assert screen.endswith("        waiting for trainer (the model's layout)")


def access_lines(**security: object) -> list[str]:
    known = JOINED["security"]
    assert isinstance(known, dict)
    screen = status_screen({**JOINED, "security": {**known, **security}}, [], 120)
    lines = screen.splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("Access"))
    last = next(n for n, line in enumerate(lines) if line.startswith("Metrics"))
    return lines[first:last]


def test_what_is_not_encrypted_says_so_loudly() -> None:
    assert "NOT ENCRYPTED" in access_lines(encrypted=False)[0]


def test_who_waits_and_who_was_put_out_is_counted() -> None:
    (line,) = access_lines(admission="pending", role="member", pending=2, revoked=1)
    assert line == (
        "Access  encrypted   entry by ticket or by an admin's consent   "
        "this peer is a member   to be let in, waiting: 2   put out: 1"
    )


def test_what_was_refused_is_shown_with_the_most_frequent_first() -> None:
    refused = {"queue full": 2, "cut off": 40, "no session": 7, "x": 1, "y": 1}
    _, line = access_lines(refused=refused)
    assert line == (
        "        refused or dropped: cut off (40), no session (7), queue full (2), "
        "2 other reasons"
    )


def test_a_daemon_that_says_nothing_gives_words_not_errors() -> None:
    screen = status_screen({"swarm": {}}, [{}], 120)
    assert "unknown" in screen and "None" not in screen
