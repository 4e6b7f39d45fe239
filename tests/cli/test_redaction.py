"""Placeholders: nothing that was learned is left, and the same stands for the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.cli.redaction import Redaction, documents, named, without_tickets
from tests.cli.samples import ANN, BOB, JOINED, PEERS

WORDS = st.text('abcxyz019-_.é"\\ß', min_size=1, max_size=8)
FILLERS = ("is", "silent", "round", "{", "12", "for")


def learned(*names: str) -> Redaction:
    redaction = Redaction()
    for name in names:
        redaction.learn({"name": name})
    return redaction


@given(st.lists(WORDS, min_size=1, max_size=6), st.data())
def test_every_word_that_is_a_name_is_replaced_and_no_other(
    names: list[str], data: st.DataObject
) -> None:
    """Against the obvious way, word by word."""
    words = data.draw(st.lists(st.sampled_from([*names, *FILLERS]), max_size=12))
    redaction = learned(*names)
    placeholders = dict(redaction.words)
    expected = [placeholders.get(word, word) for word in words]
    assert redaction.text(" ".join(words)) == " ".join(expected)
    assert len({placeholders[name] for name in names}) == len(set(names))


@given(st.text(min_size=2, max_size=12), st.booleans())
def test_a_name_is_found_in_json_however_it_is_written(name: str, ascii: bool) -> None:
    line = json.dumps({"name": name, "x": 1}, ensure_ascii=ascii)
    found = learned(name).text(line)
    assert json.loads(found) == {"name": "<name-1>", "x": 1} or name in '"name": x1,}{'


def test_the_longest_name_goes_first_and_parts_of_words_stay() -> None:
    redaction = learned("lab", "lab-a")
    text = "lab-a and lab; labour, collab, lab-b"
    assert redaction.text(text) == "<name-2> and <name-1>; labour, collab, lab-b"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{ANN} lets in {BOB}; {ANN}", "<peer-1> lets in <peer-2>; <peer-1>"),
        (
            "at 10.0.0.4:7788 or 10.0.0.5:7788",
            "at <address-1>:7788 or <address-2>:7788",
        ),
        ("at [fe80::1:2]:7788", "at [<address-1>]:7788"),
        ("at 20:15:03 version 0.1.0", "at 20:15:03 version 0.1.0"),
        ("hash " + "ab12" * 16, "hash <hash-1>"),
        ("join p2pf1tgi26mjsabc now", "join <ticket> now"),
        ("join P2PF1TGI26MJSABC", "join <ticket>"),
        ("what p2pfusion says", "what p2pfusion says"),
    ],
)
def test_what_is_found_without_being_told(text: str, found: str) -> None:
    assert Redaction().text(text) == found


def test_tickets_go_from_everything() -> None:
    assert (
        without_tickets("--join p2pf1aaaabbbb --name x") == "--join <ticket> --name x"
    )


def test_names_and_hosts_of_real_answers_are_learned() -> None:
    kinds = {word: kind for kind, word in named([JOINED, PEERS])}
    assert kinds["blue-heron"] == kinds["lab-a"] == "name"
    assert kinds["10.0.0.4"] == "address"
    assert kinds["k3v9aaaabbbbccccddddtq2a"] == "id"
    redaction = Redaction()
    redaction.learn([JOINED, PEERS])
    text = redaction.text(json.dumps([JOINED, PEERS]))
    for word in ("blue-heron", "lab-a", "lab-c", "10.0.0.4", "7kq2m4r7abcdefgh"):
        assert word not in text
    assert json.loads(text)[0]["round"]["number"] == 12


def test_lines_that_are_no_documents_are_left_out() -> None:
    assert list(documents(['{"a": 1}', "{", "", "2"])) == [{"a": 1}, 2]


def test_one_without_an_address_has_none_to_hide() -> None:
    said = {"address": "dials out only", "listen": "10.0.0.4:7788"}
    assert list(named(said)) == [("address", "10.0.0.4")]
