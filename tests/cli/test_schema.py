"""The schemas of what ``--json`` prints: whole, valid, and able to say no."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from p2pfusion.cli.daemon_shapes import STATUS
from p2pfusion.cli.main import COMMANDS, SUBCOMMANDS, main
from p2pfusion.cli.schema import record, schema_of
from p2pfusion.cli.shapes import LINES, SHAPES
from tests.documents import check_document, differences

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "status").glob("*.json"))


def paths() -> Iterator[list[str]]:
    """Every command, as it is typed."""
    for name in COMMANDS:
        for rest in SUBCOMMANDS.get(name, ("",)):
            yield [name, rest] if rest else [name]


@pytest.mark.parametrize("path", list(paths()), ids=" ".join)
def test_every_command_prints_the_schema_of_what_it_prints(
    path: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*path, "--schema"]) == 0
    out, err = capsys.readouterr()
    shape = json.loads(out)
    assert err == ""
    assert shape == schema_of("-".join(path))
    Draft202012Validator.check_schema(shape)


def test_there_is_no_shape_without_a_command() -> None:
    assert {"-".join(path) for path in paths()} == SHAPES.keys() | LINES.keys()
    assert not SHAPES.keys() & LINES.keys()


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_status_has_its_shape_in_every_state(path: Path) -> None:
    assert not differences(json.loads(path.read_text()), STATUS)


def test_a_reader_must_let_be_what_it_does_not_know() -> None:
    document = json.loads(GOLDEN[0].read_text())
    document["self"]["colour"] = "green"
    assert not list(Draft202012Validator(STATUS).iter_errors(document))
    assert differences(document, STATUS) == [
        "$.self: Additional properties are not allowed ('colour' was unexpected)"
    ]


@pytest.mark.parametrize("key", sorted(json.loads(GOLDEN[0].read_text())))
def test_a_field_that_is_missing_or_null_is_found(key: str) -> None:
    document = json.loads(GOLDEN[0].read_text())
    lacking = copy.deepcopy(document)
    del lacking[key]
    assert differences(lacking, STATUS)
    if key not in ("swarm", "roster", "privacy"):
        assert differences({**document, key: None}, STATUS)


def test_an_optional_field_may_be_missing_and_no_more() -> None:
    shape = record({"a": {"type": "string"}}, optional={"b": {"type": "string"}})
    assert not differences({"a": "x"}, shape)
    assert not differences({"a": "x", "b": "y"}, shape)
    assert differences({"a": "x", "b": 1}, shape)
    assert differences({"b": "y"}, shape)


def test_a_mistake_is_an_envelope_of_the_same_schema(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for typed, command in ((["status"], "status"), (["invite", "make"], "invite")):
        main(["--home", str(tmp_path), *typed, "--json"])
        assert check_document(capsys.readouterr().out) == command
