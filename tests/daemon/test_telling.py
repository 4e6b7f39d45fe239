"""Events in words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from p2pfusion.daemon.telling import SENTENCES, told

PACKAGE = Path(__file__).resolve().parents[2] / "p2pfusion"


@pytest.mark.parametrize(
    ("kind", "details", "text"),
    [
        ("peer-online", {"peer": "b"}, "B is online"),
        ("started", {"members": ["a", "b"]}, "the swarm begins with A, B"),
        ("revoked", {"peer": "b", "by": "a"}, "A has put B out of the swarm"),
        ("protocol-error", {"reason": "odd"}, "unknown broke the rules: odd"),
        ("never-heard-of", {"peer": "b", "why": 3}, "peer B, why 3"),
        ("denied", {"text": "no\nERROR: all"}, "was turned away: no ERROR: all"),
        ("denied", {"text": "{peer}{0}"}, "was turned away: {peer}{0}"),
        (
            "round-sealed",
            {"round": 3, "seconds": 1.5, "loss": 0.25, "missing": [{"peer": "b"}]},
            "round 3 sealed after 1.50 s, loss 0.25, without B",
        ),
        ("round-sealed", {"round": 3, "loss": None}, "round 3 sealed"),
    ],
)  # fmt: skip
def test_an_event_in_words(kind: str, details: dict[str, object], text: str) -> None:
    assert told(kind, details, str.upper) == text


@pytest.mark.parametrize("kind", SENTENCES)
def test_a_report_without_details_is_told_all_the_same(kind: str) -> None:
    assert told(kind, {}, str.upper)


def test_every_report_of_the_protocol_has_its_sentence() -> None:
    sources = (path.read_text() for path in (PACKAGE / "protocol").glob("*.py"))
    found = {kind for text in sources for kind in REPORT.findall(text)}
    assert len(found) > 10
    assert found <= {*SENTENCES, "round-sealed"}


REPORT = re.compile(r'Report\(\s*"([a-z-]+)"')
