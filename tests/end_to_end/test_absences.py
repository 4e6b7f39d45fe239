"""What counts as a wrong name in a sealed round."""

from __future__ import annotations

import pytest

from tests.end_to_end.absences import Absence, Row, wrong_names

EPOCH = 5
GONE = Absence("c", missed_from=3, gone_from=5)
BACK = Absence("c", missed_from=3, gone_from=5, back_from=9)


def row(number: int, contributors: str, missing: str = "") -> Row:
    entries = [{"name": name, "reason": "silent"} for name in missing]
    return {"number": number, "contributors": list(contributors), "missing": entries}


def found(rounds: dict[str, list[Row]], *absences: Absence) -> list[str]:
    return wrong_names(rounds, absences, rounds_per_epoch=EPOCH)


def test_a_quiet_swarm_misses_nobody() -> None:
    assert found({"a": [row(n, "abc") for n in range(9)]}) == []


@pytest.mark.parametrize("until_round", [10, 15])
def test_the_dead_are_named_until_they_are_out_of_the_roster(until_round: int) -> None:
    rows = [row(n, "abc") for n in range(4)]
    rows += [row(n, "ab", "c") for n in range(4, until_round)]
    rows += [row(n, "ab") for n in range(until_round, 20)]
    assert found({"a": rows, "b": rows}, GONE) == []


def test_a_round_under_way_may_have_the_values_of_the_dead_or_not() -> None:
    with_values = [row(3, "abc"), row(4, "abc"), row(5, "ab", "c")]
    without = [row(3, "ab", "c"), row(4, "ab", "c"), row(5, "ab", "c")]
    assert found({"a": with_values, "b": without}, GONE) == []


def test_who_comes_back_may_be_slow_until_it_contributes() -> None:
    rows = [row(n, "ab", "c") for n in range(5, 12)]
    rows += [row(n, "abc") for n in range(12, 15)]
    assert found({"a": rows}, BACK) == []
    (told,) = found({"a": [*rows, row(15, "ab", "c")]}, BACK)
    assert "round 15: c is missing (silent), but was there" in told


def test_a_contribution_of_the_dead_is_wrong() -> None:
    told = found({"a": [row(5, "abc")]}, GONE)
    assert "a, round 5: c contributed, but was gone" in told


def test_who_is_there_is_never_missing() -> None:
    (told,) = found({"a": [row(5, "a", "bc")]}, GONE)
    assert "b is missing" in told
    (told,) = found({"a": [row(2, "ab", "c")]}, GONE)
    assert "c is missing" in told


def test_all_name_the_same_missing() -> None:
    rounds = {"a": [row(6, "ab", "c")], "b": [row(6, "ab")]}
    assert any("unlike in others' rounds" in told for told in found(rounds, GONE))


def test_nobody_is_forgotten_inside_an_epoch() -> None:
    rows = [*(row(n, "ab", "c") for n in range(5, 8)), row(8, "ab")]
    (told,) = found({"a": rows}, GONE)
    assert told == "round 8: c left inside an epoch"


def test_a_name_has_a_reason_and_is_not_also_a_contributor() -> None:
    unexplained = {"missing": [{"name": "c", "reason": ""}]}
    (told,) = found({"a": [{**row(5, "ab"), **unexplained}]}, GONE)
    assert "without a reason" in told
    (told,) = found({"a": [row(4, "abc", "c")]}, GONE)
    assert "missing and contributed" in told
