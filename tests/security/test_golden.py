"""Values that must not change, because other versions and machines compute them too.

Everything here follows from fixed seeds. A difference means that peers of two versions
no longer understand each other, or that stored keys and credentials become void. If
that is meant, write the file anew and read the difference:
``pytest tests/security/test_golden.py --rewrite-golden``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pfusion.security.credential import issue
from p2pfusion.security.identity import DeviceKey, transport_public
from p2pfusion.security.session import (
    AES,
    CHACHA,
    End,
    ExchangeKey,
    PlainSession,
    Session,
)
from p2pfusion.security.ticket import Ticket, invite_secret_key, proof

GOLDEN = Path(__file__).parent / "golden.json"

SWARM = "mfrggzdfmztwq2lkmfrggzdfmy"
SECRET = bytes(range(16))
KEYS = [DeviceKey.from_seed(bytes([number] * 32)) for number in range(3)]


def identities() -> dict[str, dict[str, str]]:
    """What follows from a device key alone, by peer id."""
    return {
        key.peer: {
            "stored": key.to_pem().decode().splitlines()[1],
            "public": key.public.hex(),
            "signature": key.sign("record/v1", b"payload").hex(),
            "transport secret": key.derived("transport").hex(),
            "transport public": transport_public(key.derived("transport")).hex(),
        }
        for key in KEYS
    }


def credentials() -> dict[str, str]:
    """Chains of one and of two links."""
    founder, admin, member = KEYS
    one = issue(
        founder, b"", swarm=SWARM, public=admin.public, role="admin", invite="i1"
    )
    two = issue(admin, one, swarm=SWARM, public=member.public, role="member", invite="")
    return {"admin": one.hex(), "member": two.hex()}


def invitations() -> dict[str, str]:
    """Tickets, and what proves that one has one."""
    founder, _, member = KEYS
    shared = (founder.peer, transport_public(founder.derived("transport")), SWARM)
    small = Ticket(("127.0.0.1:7788",), *shared, "i1", SECRET, "member", 1, 0)
    addresses = ("example.org:7788", "[2001:db8::1]:7788")
    large = Ticket(addresses, *shared, "i2", SECRET, "admin", 0, 1_800_000_000)
    return {
        "ticket": small.encode(),
        "ticket of an admin": large.encode(),
        "secret key": invite_secret_key(SECRET).hex(),
        "proof": proof(SECRET, swarm=SWARM, peer=member.peer).hex(),
    }


def sealed(cipher: str, rekey_after: int) -> dict[str, object]:
    """Tokens, and four messages under one or several keys."""
    secrets = [ExchangeKey.from_bytes(bytes([number] * 32)) for number in (8, 9)]
    me, other = (
        End(key.peer, secret.public, incarnation, cipher)
        for key, secret, incarnation in zip(KEYS, secrets, (1, 7), strict=False)
    )
    session = Session(secrets[0], me, other, swarm=SWARM, rekey_after=rekey_after)
    plain = PlainSession(secrets[0], me, other, swarm=SWARM)
    frames = [session.seal([b"head", bytes(range(24))]) for _ in range(3)]
    return {
        "public": [end.public.hex() for end in (me, other)],
        "tokens": [session.sending_token.hex(), session.receiving_token.hex()],
        "plain tokens": [plain.sending_token.hex(), plain.receiving_token.hex()],
        "messages": [
            [frame.hex() for frame in message]
            for message in [*frames, session.seal([b"head"])]
        ],
    }


def computed() -> dict[str, object]:
    """All golden values, as JSON can hold them."""
    return {
        "identities": identities(),
        "credentials": credentials(),
        "invitations": invitations(),
        "sessions": {
            f"{cipher}, {rekey_after} per key": sealed(cipher, rekey_after)
            for cipher in (AES, CHACHA)
            for rekey_after in (2, 1 << 32)
        },
    }


def text_of(values: object) -> str:
    """The text of the file with these values."""
    return json.dumps(values, indent=1) + "\n"


def test_nothing_golden_has_changed(rewrites_golden: bool) -> None:
    happened = text_of(computed())
    if rewrites_golden:
        GOLDEN.write_text(happened)
    assert happened == GOLDEN.read_text()


@pytest.mark.parametrize(
    "part", ["identities", "credentials", "invitations", "sessions"]
)
def test_every_part_is_there_and_can_fail(part: str) -> None:
    values = json.loads(GOLDEN.read_text())
    assert values[part]
    del values[part]
    assert text_of(values) != text_of(computed())
