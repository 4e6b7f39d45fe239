"""What the commands about access ask of the daemon, and how they show the answer."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from p2pfusion.cli.main import main
from tests.cli.samples import ALONE, ANN, BOB, CAT, INVITES, JOINED, TRUST
from tests.cli.stub import answering

Capture = pytest.CaptureFixture[str]

TICKET = "p2pf1abcdefgh"
CREATED = {
    **INVITES[0],
    "ticket": TICKET,
    "addresses": ["192.0.2.10:7788"],
    "only_this_machine": False,
}
PUT_OUT = {
    "id": BOB,
    "name": "bob",
    "put_out": [{"id": BOB, "name": "bob"}, {"id": CAT, "name": "cat"}],
}


def test_a_ticket_is_alone_on_standard_output(tmp_path: Path, capsys: Capture) -> None:
    with answering(tmp_path, {"status": JOINED, "invite-create": CREATED}) as asked:
        assert main(["--home", str(tmp_path), "invite", "create"]) == 0
    out, err = capsys.readouterr()
    assert out == TICKET + "\n"
    assert "Lets in 3 peers as members until 2026-11-21 17:20 UTC" in err
    assert "warning" not in err
    assert asked[-1].arguments == {"uses": 1, "life_s": 86_400.0, "role": "member"}


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("90s", 90), ("30m", 1_800), ("24h", 86_400), ("7d", 604_800), ("never", 0)],
)
def test_how_long_a_ticket_is_good(typed: str, seconds: int, tmp_path: Path) -> None:
    arguments = ["invite", "create", "--uses", "0", "--role", "admin"]
    with answering(tmp_path, {"status": JOINED, "invite-create": CREATED}) as asked:
        assert main(["--home", str(tmp_path), *arguments, "--expires", typed]) == 0
    assert asked[-1].arguments == {"uses": 0, "life_s": seconds, "role": "admin"}


def test_a_ticket_for_programs(tmp_path: Path, capsys: Capture) -> None:
    with answering(tmp_path, {"status": JOINED, "invite-create": CREATED}):
        assert main(["--home", str(tmp_path), "invite", "create", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["schema"], err) == ("p2pfusion.invite-create/v1", "")
    assert document["data"]["ticket"] == TICKET
    assert document["data"]["expires"] == "2026-11-21T17:20:00Z"


def test_a_ticket_that_leads_nowhere_comes_with_a_warning(
    tmp_path: Path, capsys: Capture
) -> None:
    local = {**CREATED, "addresses": ["127.0.0.1:7788"], "only_this_machine": True}
    with answering(tmp_path, {"status": JOINED, "invite-create": local}):
        assert main(["--home", str(tmp_path), "invite", "create", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["data"]["only_this_machine"] is True
    assert "warning: other machines cannot reach 127.0.0.1:7788" in err


def test_a_code_is_drawn_beside_the_ticket(tmp_path: Path, capsys: Capture) -> None:
    with answering(tmp_path, {"status": JOINED, "invite-create": CREATED}):
        assert main(["--home", str(tmp_path), "invite", "create", "--qr"]) == 0
    out, err = capsys.readouterr()
    assert out == TICKET + "\n"
    assert "█▀▀▀▀▀█" in err or "▄▄▄▄▄" in err


def test_a_founder_without_a_swarm_yet_is_waited_for(
    tmp_path: Path, capsys: Capture
) -> None:
    founding = {**JOINED, "swarm": None}
    answers = {"status": founding, "wait": {}, "invite-create": CREATED}
    with answering(tmp_path, answers) as asked:
        assert main(["--home", str(tmp_path), "invite", "create"]) == 0
    assert [each.command for each in asked] == ["status", "wait", "invite-create"]
    assert asked[1].arguments["for"] == "joined"
    assert "Waiting until the swarm is founded" in capsys.readouterr().err
    with answering(tmp_path, {**answers, "status": ALONE}) as asked:
        assert main(["--home", str(tmp_path), "invite", "create"]) == 0
    assert [each.command for each in asked] == ["status", "invite-create"]


def test_invitations_are_listed_and_ended(tmp_path: Path, capsys: Capture) -> None:
    answers = {"invite-ls": {"invites": INVITES}, "invite-revoke": {"id": "7kq2m4rx"}}
    home = ["--home", str(tmp_path)]
    with answering(tmp_path, answers) as asked:
        assert main([*home, "invite", "ls"]) == 0
        assert "1 of 3" in capsys.readouterr().out
        assert main([*home, "invite", "ls", "--json"]) == 0
        listed = json.loads(capsys.readouterr().out)["data"]["invites"]
        assert [each["expires"] for each in listed] == ["2026-11-21T17:20:00Z", None]
        assert main([*home, "invite", "revoke", "7kq"]) == 0
    assert "7kq2m4rx" in capsys.readouterr().out
    assert asked[-1].arguments == {"id": "7kq"}


def test_strangers_are_listed_let_in_and_sent_away(
    tmp_path: Path, capsys: Capture
) -> None:
    waiting = {"id": BOB, "name": "bob", "address": "192.0.2.7:7788"}
    decided = {"id": BOB, "name": "bob"}
    answers = {
        "pending-ls": {"admission": "pending", "pending": [waiting]},
        "pending-accept": {**decided, "accepted": True},
        "pending-deny": {**decided, "accepted": False},
    }
    home = ["--home", str(tmp_path)]
    with answering(tmp_path, answers) as asked:
        for arguments in (["ls"], ["accept", BOB[:6]], ["deny", BOB[:6]]):
            assert main([*home, "pending", *arguments]) == 0
            assert BOB in capsys.readouterr().out
    assert [each.arguments for each in asked] == [{}, *[{"id": BOB[:6]}] * 2]


def test_trust_is_shown_with_names(tmp_path: Path, capsys: Capture) -> None:
    data = {"peers": TRUST, "first_contacts": {"192.0.2.10:7788": ANN}}
    with answering(tmp_path, {"trust-ls": data}):
        assert main(["--home", str(tmp_path), "trust", "ls"]) == 0
    shown = capsys.readouterr().out
    assert all(peer in shown for peer in (ANN, BOB, CAT))
    assert "put out by ann: stolen" in shown and "192.0.2.10:7788" in shown


def test_putting_out_with_yes_asks_nobody(tmp_path: Path, capsys: Capture) -> None:
    arguments = ["trust", "revoke", "bob", "--yes", "--reason", "stolen"]
    with answering(tmp_path, {"trust-revoke": PUT_OUT}) as asked:
        assert main(["--home", str(tmp_path), *arguments]) == 0
    assert [each.arguments for each in asked] == [{"peer": "bob", "reason": "stolen"}]
    out, err = capsys.readouterr()
    assert out.startswith("Put out: bob, cat.")
    assert "p2pfusion invite ls" in err


FORGIVEN = {"id": BOB, "name": "bob", "was_quarantined": True, "kind": "values"}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"why": "not finite"}, "Forgave bob: not finite.\n"),
        (
            {"why": "not finite", "was_quarantined": False},
            "Forgave bob: not finite. It was not in quarantine yet.\n",
        ),
        (
            {"why": None, "kind": None, "was_quarantined": False},
            "Nothing is held against bob here.\n",
        ),
    ],
)
def test_a_pardon_says_what_it_forgives(
    changes: dict[str, object], text: str, tmp_path: Path, capsys: Capture
) -> None:
    with answering(tmp_path, {"trust-pardon": {**FORGIVEN, **changes}}) as asked:
        assert main(["--home", str(tmp_path), "trust", "pardon", "bob"]) == 0
    assert [each.arguments for each in asked] == [{"peer": "bob"}]
    assert capsys.readouterr().out == text


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_putting_out_at_a_terminal_names_who_and_asks(
    answer: str,
    code: int,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    typed = tmp_path / "typed"
    typed.write_text(answer + "\n")
    with (
        typed.open() as terminal,
        answering(tmp_path, {"trust-revoke": PUT_OUT}) as asked,
    ):
        monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys, "stdin", terminal)
        assert main(["--home", str(tmp_path), "trust", "revoke", "bob"]) == code
    out, err = capsys.readouterr()
    assert f"  cat  {CAT}" in err and "Go on?" in err
    assert asked[0].arguments == {"peer": "bob", "reason": None, "dry_run": True}
    assert len(asked) == (2 if code == 0 else 1)
    assert out == "" if code else out.startswith("Put out")
    assert ("nobody was put out" in err) == (code == 1)
