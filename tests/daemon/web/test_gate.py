"""Who may read what: browsers led here by other pages, and those without the token."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.daemon.web.gate import Question, refusal

TOKEN = "rGk1-token"
GOOD = Question("GET", "/api/view", "127.0.0.1:8477", "", f"Bearer {TOKEN}")
PAGE = Question("GET", "/", "127.0.0.1:8477")


def status(question: Question, name: str = "127.0.0.1") -> str:
    found = refusal(question, token=TOKEN, name=name)
    return "200" if found is None else found.status.split()[0]


def asked(**changes: str) -> str:
    return status(dataclasses.replace(GOOD, **changes))


def test_the_page_needs_no_token_and_what_it_shows_does() -> None:
    assert status(PAGE) == status(GOOD) == "200"
    assert asked(authorization="") == "401"


@pytest.mark.parametrize(
    "authorization",
    [TOKEN, f"Basic {TOKEN}", f"bearer {TOKEN}", "Bearer ", "Bearer rGk1-toke\u00f1"],
)
def test_another_scheme_or_another_token_is_none(authorization: str) -> None:
    assert asked(authorization=authorization) == "401"


@given(st.text())
def test_no_other_text_is_the_token(text: str) -> None:
    assert asked(authorization=f"Bearer {text}") == ("200" if text == TOKEN else "401")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8477", "127.0.0.1", "localhost:9", "[::1]:8477", "[::1]", "10.0.0.4:1"],
)
def test_numbers_and_localhost_mean_this_machine(host: str) -> None:
    assert asked(host=host) == "200"


@pytest.mark.parametrize(
    "host",
    ["", "evil.example:8477", "localhost.evil.example", "127.0.0.1.evil.example:8477"],
)
def test_a_name_that_somebody_points_here_is_refused(host: str) -> None:
    """DNS rebinding: the browser takes the foreign name for the page's own."""
    assert asked(host=host) == status(dataclasses.replace(PAGE, host=host)) == "403"


def test_a_name_that_the_start_has_named_is_ours() -> None:
    named = dataclasses.replace(GOOD, host="lab-a.lan:8477")
    assert (status(named, "Lab-A.lan"), status(named)) == ("200", "403")


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        ("http://127.0.0.1:8477", "200"),
        ("http://127.0.0.1:9000", "403"),
        ("https://127.0.0.1:8477", "403"),
        ("http://localhost:8477", "403"),
        ("https://evil.example", "403"),
        ("null", "403"),
    ],
)
def test_only_this_page_may_ask(origin: str, told: str) -> None:
    assert asked(origin=origin) == told


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "get"])
def test_nothing_but_reading(method: str) -> None:
    assert asked(method=method) == "405"
