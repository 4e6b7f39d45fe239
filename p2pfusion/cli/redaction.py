"""Taking names out of texts that go to strangers: the same name, the same placeholder.

Who reads a redacted text still sees that it was always the same peer that was silent,
and not which. Pure. What nobody told it is a name, it cannot know.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

TICKET = re.compile(r"(?<![a-z0-9])p2pf[0-9][a-z0-9]{4,}", re.IGNORECASE)
PEER_ID = re.compile(r"(?<![a-z2-7-])[a-z2-7]{6}(?:-[a-z2-7]{6}){5}(?![a-z2-7-])")
HASH = re.compile(r"(?<![0-9a-z])(?:[0-9a-f]{64}|[a-z2-7]{32,52})(?![0-9a-z])")
IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
IPV6 = re.compile(r"(?<![\w:])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])", re.I)

NAME_KEYS = {"name": "name", "contributors": "name", "swarm": "name", "id": "id"}
"""Keys of answers and events whose texts are names, with the kind of each."""

ADDRESS_KEYS = {"address", "addresses", "listen", "host", "at_address"}


def without_tickets(text: str) -> str:
    """The text without anything that could let somebody in; always done."""
    return TICKET.sub("<ticket>", text)


@dataclass
class Redaction:
    """Placeholders for names, given out in the order in which they are met."""

    words: dict[str, str] = field(default_factory=dict)
    """Names that are known beforehand, and what stands for each."""
    _met: dict[str, str] = field(default_factory=dict)
    _count: dict[str, int] = field(default_factory=dict)

    def learn(self, document: object) -> None:
        """Remembers the names and hosts in an answer or an event."""
        for kind, word in named(document):
            if not word or PEER_ID.fullmatch(word):
                continue  # ids of peers are found wherever they stand
            for written in spellings(word):
                self.words.setdefault(written, self._placeholder(kind, word))

    def text(self, text: str) -> str:
        """The text with placeholders."""
        text = without_tickets(text)
        text = PEER_ID.sub(lambda found: self._placeholder("peer", found[0]), text)
        text = self._known(text)
        text = HASH.sub(lambda found: self._placeholder("hash", found[0]), text)
        text = IPV4.sub(lambda found: self._placeholder("address", found[0]), text)
        return IPV6.sub(self._ipv6, text)

    def _known(self, text: str) -> str:
        if not self.words:
            return text
        # The longest first, or "lab" would take a part out of "lab-a".
        longest = sorted(self.words, key=lambda word: (-len(word), word))
        either = "|".join(map(re.escape, longest))
        pattern = rf"(?<![\w<-])(?:{either})(?![\w>-])"
        return re.sub(pattern, lambda found: self.words[found[0]], text)

    def _ipv6(self, found: re.Match[str]) -> str:
        """Only what is an address: times and digests have colons, too."""
        try:
            ipaddress.IPv6Address(found[0])
        except ValueError:
            return found[0]
        return self._placeholder("address", found[0])

    def _placeholder(self, kind: str, word: str) -> str:
        if word not in self._met:
            self._count[kind] = self._count.get(kind, 0) + 1
            self._met[word] = f"<{kind}-{self._count[kind]}>"
        return self._met[word]


def spellings(word: str) -> set[str]:
    """A word as it stands in a text, and in JSON with and without other letters."""
    return {word, json.dumps(word)[1:-1], json.dumps(word, ensure_ascii=False)[1:-1]}


def named(document: object, key: str = "") -> Iterator[tuple[str, str]]:
    """What stands in a document under a key for names, with its kind."""
    if isinstance(document, Mapping):
        for inner, value in document.items():
            yield from named(value, str(inner))
    elif isinstance(document, list | tuple):
        for value in document:
            yield from named(value, key)
    elif isinstance(document, str):
        if key in NAME_KEYS:
            yield NAME_KEYS[key], document
        elif key in ADDRESS_KEYS and " " not in document:  # else there is none
            yield "address", document.rpartition(":")[0].strip("[]") or document


def documents(lines: Iterable[str]) -> Iterator[object]:
    """The JSON documents among lines."""
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue
