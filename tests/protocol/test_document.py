"""``docs/protocol.md`` says what the code does: its tables and diagram are generated.

``pytest tests/protocol/test_document.py --rewrite-transcripts`` writes them anew.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from p2pfusion.protocol.messages import Chunk, Message, StreamStart
from p2pfusion.protocol.phases import TRANSITIONS, Phase
from p2pfusion.protocol.wire import HOPS, REFUSAL_REASONS, REFUSED_CODES, SCHEMAS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "protocol.md"
PACKAGE = ROOT / "p2pfusion"


def diagram() -> str:
    """The phases of a round, as a state diagram."""
    rows = ["```mermaid", "stateDiagram-v2", f"    [*] --> {Phase.PLAN}"]
    for phase, following in TRANSITIONS.items():
        rows += [f"    {phase} --> {to}: {signal}" for signal, to in following.items()]
        if not following:
            rows.append(f"    {phase} --> [*]")
    return "\n".join([*rows, "```"])


def messages() -> str:
    """Every message: code, plane, fields."""
    rows = ["| code | message | plane | fields |", "|---|---|---|---|"]
    for kind, (code, _) in sorted(SCHEMAS.items(), key=lambda item: item[1][0]):
        plane = "data" if kind in (StreamStart, Chunk) else "control"
        names = [field.name for field in dataclasses.fields(kind)]
        if kind is Chunk:
            names[-1] += " (second frame)"
        rows.append(
            f"| {code} | `{kind.__name__}` | {plane} | {', '.join(names) or 'none'} |"
        )
    return "\n".join(rows)


def words() -> str:
    """The closed lists of words that fields may have."""
    rows = [
        f"- `hop`: {', '.join(sorted(HOPS))}",
        f"- `reason` of a `Refusal`: {', '.join(sorted(REFUSAL_REASONS))}",
        f"- `code` of a `Refused`: {', '.join(sorted(REFUSED_CODES))}",
    ]
    return "\n".join(rows)


GENERATED = {"diagram": diagram, "messages": messages, "words": words}


def generated(page: str) -> str:
    """The page with its generated parts made anew."""
    for name, make in GENERATED.items():
        pattern = rf"(<!-- {name} -->\n).*?(\n<!-- end of {name} -->)"
        page, count = re.subn(
            pattern,
            lambda found, make=make: found[1] + make() + found[2],
            page,
            flags=re.S,
        )
        assert count == 1, f"the page has no place for the {name}"
    return page


def test_the_page_is_up_to_date(rewrites: bool) -> None:
    if rewrites:
        PAGE.write_text(generated(PAGE.read_text()))
    page = PAGE.read_text()
    assert page == generated(page)


def test_the_page_explains_every_message_and_word() -> None:
    page = PAGE.read_text()
    prose = re.sub(r"<!-- (\w+) -->.*?<!-- end of \1 -->", "", page, flags=re.S)
    for kind in Message.__args__:
        assert f"`{kind.__name__}`" in prose, kind
    for word in [*HOPS, *REFUSAL_REASONS, *REFUSED_CODES, *map(str, Phase)]:
        assert f"`{word}`" in prose or f"**{word}**" in prose, word


def test_the_page_names_every_domain_of_statements() -> None:
    sources = [*(PACKAGE / "security").glob("*.py"), PACKAGE / "protocol/statements.py"]
    text = "".join(path.read_text() for path in sources)
    signed = set(re.findall(r'"(\w+/v\d+)"', text))
    assert len(signed) == 9
    assert set(re.findall(r"`(\w+/v\d+)`", PAGE.read_text())) == signed


def test_a_page_that_is_out_of_date_is_noticed() -> None:
    page = PAGE.read_text()
    broken = page.replace("offer --> exchange: announced", "offer --> seal: announced")
    assert broken != page and generated(broken) == page
