"""Fault scripts: read, checked, and refused with the file and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfusion.errors import ConfigError
from p2pfusion.simulation.faults import (
    KINDS,
    Fault,
    check_names,
    load_script,
    parse_script,
)

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "faults.toml"

VALUES = {
    "fraction": '"1/4"',
    "peers": '["p1"]',
    "others": '"all"',
    "groups": '[["p0"], ["p1", "p2"]]',
    "by": '"p0"',
    "power": "true",
    "ticket": "false",
    "in_order": "true",
    "factor": "2.5",
    "rounds": "2",
    "count": "3",
    "down_s": "0.5",
    "pause_s": "1",
    "sync_s": "0.1",
    "latency_s": "0.2",
    "jitter_s": "0.1",
    "bytes_per_s": "1000",
    "loss": "0.5",
    "duplicates": "0",
}


def table(kind: str, *keys: str, at: str = "1.5") -> str:
    rows = [f"{key} = {VALUES[key]}" for key in keys]
    return "\n".join(["[[fault]]", f"at = {at}", f'kind = "{kind}"', *rows, ""])


def one(text: str) -> Fault:
    (fault,) = parse_script(text, "x.toml").faults
    return fault


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_takes_its_keys_and_needs_some(kind: str) -> None:
    required, optional = KINDS[kind]
    full = one(table(kind, *required, *optional))
    assert (full.kind, full.at_s) == (kind, 1.5)
    assert full.values.keys() == {*required, *optional}
    assert one(table(kind, *required)).values.keys() == set(required)
    for missing in required:
        rest = [key for key in required if key != missing]
        with pytest.raises(ConfigError, match=f"x.toml: fault 1: .*{missing!r}"):
            parse_script(table(kind, *rest), "x.toml")


def test_faults_are_sorted_by_time() -> None:
    text = table("heal", at="3") + table("join", at="1") + table("unclog", at="2")
    assert [f.at_s for f in parse_script(text, "x").faults] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("text", "told", "hint"),
    [
        ("x = 1", "unknown key 'x'", "[[fault]] tables only"),
        ("[fault]\nat = 1", "'fault' is no list", "two brackets"),
        ("fault = [1]", "fault 1 is no table", "[[fault]]"),
        ("[[fault]\n", "not a TOML file", "quotes"),
        ("[[fault]]\nat = 1", "key 'kind' is None", "known:"),
        (table("kil", "peers"), "key 'kind' is 'kil'", "did you mean 'kill'?"),
        (table("kill", "peers", "factor"), "kill has no key 'factor'", "known:"),
        (table("kill", "peers", at='"soon"'), "key 'at' is 'soon'", ""),
        (table("kill", "peers", at="-1"), "key 'at' is -1", ""),
        (table("kill", "peers", at="nan"), "key 'at' is nan", ""),
        (table("kill").replace('"kill"', '"kill"\npeers = []'), "'peers' is []", ""),
        (table("kill") + 'peers = ["p1", 2]', "'peers' is ['p1', 2]", ""),
        (table("slow", "peers") + "factor = 0", "'factor' is 0", ""),
        (table("join") + "count = true", "'count' is True", ""),
        (table("network") + "loss = 1.5", "'loss' is 1.5", ""),
        (table("partition") + 'groups = [["p0"]]', "'groups' is", ""),
    ],
)
def test_a_bad_script_is_refused_by_file_and_key(
    text: str, told: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_script(text, "bad.toml")
    assert caught.value.message.startswith("bad.toml: ")
    assert told in caught.value.message and hint in caught.value.hint


def test_a_script_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_script(tmp_path / "none.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_script(binary)


def test_peers_that_the_swarm_does_not_have_are_told() -> None:
    script = parse_script(table("join") + table("kill", "peers"), "x.toml")
    check_names(script, 1)  # p1 is the newcomer
    lone = parse_script(table("kill", "peers"), "x.toml")
    with pytest.raises(ConfigError, match=r"x.toml: fault 1: key 'peers' names 'p1'"):
        check_names(lone, 1)
    groups = parse_script(table("partition", "groups"), "x.toml")
    with pytest.raises(ConfigError, match="'groups' names 'p2'"):
        check_names(groups, 2)


def test_the_values_of_a_fault_are_read_with_their_types() -> None:
    fault = one(table("join-storm", "count", "pause_s", "ticket"))
    assert fault.number("count", 1) == 3.0 and fault.number("down_s", 7.0) == 7.0
    assert not fault.flag("ticket") and one(table("kill", "peers", "power")).flag(
        "power"
    )
    assert fault.names("peers", ["p0", "p1"]) == ["p0", "p1"]
    assert one(table("kill", "peers")).names("peers", ["p0"]) == ["p1"]
    assert fault.ends_s == 1.5 + 3 * 1.0


def test_the_example_has_every_class_of_fault() -> None:
    script = load_script(EXAMPLE)
    kinds = {fault.kind for fault in script.faults}
    assert kinds >= {"kill", "restart", "partition", "cut", "clog", "network", "join"}
    assert script.newcomer_count == 3
    check_names(script, 6)
