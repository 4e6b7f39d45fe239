"""Chains that hold, and every way in which one can be wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from itertools import pairwise

import msgpack
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from p2pfusion.errors import LocalProtocolError, RemoteProtocolError
from p2pfusion.limits import MAX_CHAIN_BYTES, MAX_CHAIN_LINKS, MAX_NAME_CHARACTERS
from p2pfusion.security.credential import ROLES, Credential, check, issue
from p2pfusion.security.identity import ED25519, DeviceKey
from tests.security import by_hand
from tests.strategies import plain_data

SWARM = "swarm"
KEYS = [DeviceKey.from_seed(bytes([number] * 32)) for number in range(7)]
FOUNDER, ANNA, BERT, CARL = KEYS[:4]


def by_founder(key: DeviceKey, role: str = "member", invite: str = "i1") -> bytes:
    return issue(FOUNDER, b"", swarm=SWARM, public=key.public, role=role, invite=invite)


def by_admin(
    admin: DeviceKey, chain: bytes, key: DeviceKey, role: str = "member"
) -> bytes:
    return issue(admin, chain, swarm=SWARM, public=key.public, role=role, invite="")


def checked(chain: bytes) -> Credential:
    return check(chain, swarm=SWARM, founder=FOUNDER.public, scheme=ED25519)


def refused(chain: bytes) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        checked(chain)
    return caught.value.message


def link(
    issuer: DeviceKey,
    subject: DeviceKey,
    role: str = "admin",
    *,
    swarm: str = SWARM,
    domain: str = "admission/v1",
) -> list[bytes]:
    """A link as ``issue`` makes it, without any of its checks."""
    packed = msgpack.packb([swarm, issuer.public, subject.public, role, ""])
    return [packed, issuer.sign(domain, packed)]


def chained(*keys: DeviceKey, role: str = "member") -> bytes:
    """Links from each key to the next, the last one with another role."""
    pairs = list(pairwise(keys))
    links = [link(*pair) for pair in pairs[:-1]]
    return msgpack.packb([*links, link(*pairs[-1], role)])


# --- What holds ----------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_whom_the_founder_admits_is_in(role: str) -> None:
    assert checked(by_founder(ANNA, role)) == Credential(
        swarm=SWARM,
        subject=ANNA.peer,
        public=ANNA.public,
        role=role,
        invite="i1",
        issuers=(FOUNDER.peer,),
    )


@given(st.permutations(KEYS[1:]), st.integers(1, MAX_CHAIN_LINKS))
def test_admins_admit_admins_up_to_the_bound(
    order: Sequence[DeviceKey], length: int
) -> None:
    chain, admin = b"", FOUNDER
    for key in order[:length]:
        chain, issuer, admin = by_admin(admin, chain, key, "admin"), admin, key
        found = checked(chain)
        assert (found.subject, found.public) == (key.peer, key.public)
        assert found.issuers[-1] == issuer.peer
    ids = tuple(key.peer for key in [FOUNDER, *order[: length - 1]])
    assert found.issuers == ids
    assert chain == chained(FOUNDER, *order[:length], role="admin")


def test_equal_admissions_have_equal_bytes() -> None:
    assert by_founder(ANNA) == by_founder(ANNA)
    assert by_founder(ANNA) != by_founder(ANNA, invite="i2")


def test_the_longest_names_and_chain_fit_their_bound() -> None:
    chain, admin = b"", FOUNDER
    name = "n" * MAX_NAME_CHARACTERS
    for key in KEYS[1 : MAX_CHAIN_LINKS + 1]:
        chain = issue(
            admin, chain, swarm=name, public=key.public, role="admin", invite=name
        )
        admin = key
    assert len(chain) <= MAX_CHAIN_BYTES
    found = check(chain, swarm=name, founder=FOUNDER.public, scheme=ED25519)
    assert found.invite == name


# --- What we may not issue -----------------------------------------------------------


def test_nobody_admits_beyond_the_longest_chain() -> None:
    chain, admin = b"", FOUNDER
    for key in KEYS[1 : MAX_CHAIN_LINKS + 1]:
        chain, admin = by_admin(admin, chain, key, "admin"), key
    with pytest.raises(LocalProtocolError, match="too long"):
        by_admin(admin, chain, KEYS[-1])


@pytest.mark.parametrize(
    ("signer", "chain"),
    [
        (ANNA, by_founder(ANNA)),
        (BERT, by_founder(ANNA, "admin")),
        (ANNA, b"no chain"),
        (ANNA, msgpack.packb([[b"", bytes(64)]])),
    ],
    ids=["member", "not its own chain", "no chain", "no link"],
)
def test_only_admins_admit(signer: DeviceKey, chain: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        by_admin(signer, chain, CARL)


@pytest.mark.parametrize(
    "wrong",
    [
        {"public": bytes(31)},
        {"role": "founder"},
        {"swarm": "s" * (MAX_NAME_CHARACTERS + 1)},
        {"invite": "i" * (MAX_NAME_CHARACTERS + 1)},
        {"invite": "two\nlines"},
        {"invite": "\ud800"},
    ],
)
def test_nothing_is_issued_that_would_be_refused(wrong: dict[str, str]) -> None:
    fields = {"swarm": SWARM, "public": ANNA.public, "role": "member", "invite": ""}
    issue(FOUNDER, b"", **fields)
    with pytest.raises(LocalProtocolError):
        issue(FOUNDER, b"", **fields | wrong)


def test_a_chain_of_too_many_bytes_is_not_issued() -> None:
    wide = "\N{GRINNING FACE}" * MAX_NAME_CHARACTERS
    chain, admin = b"", FOUNDER
    with pytest.raises(LocalProtocolError, match="too long"):
        for key in KEYS[1 : MAX_CHAIN_LINKS + 1]:
            chain = issue(
                admin, chain, swarm=wide, public=key.public, role="admin", invite=wide
            )
            assert len(chain) <= MAX_CHAIN_BYTES
            admin = key


# --- What is refused -----------------------------------------------------------------


def test_every_wrong_bit_is_found() -> None:
    chain = by_admin(ANNA, by_founder(ANNA, "admin"), BERT)
    assert checked(chain)
    for wrong in by_hand.flipped_bits(chain):
        refused(wrong)


def test_every_cut_and_every_addition_is_found() -> None:
    chain = by_founder(ANNA)
    for length in range(len(chain)):
        refused(chain[:length])
    refused(chain + b"\0")


def test_a_chain_holds_in_one_swarm_only() -> None:
    chain = by_founder(ANNA)
    for swarm, founder in (("other", FOUNDER), (SWARM, BERT)):
        with pytest.raises(RemoteProtocolError):
            check(chain, swarm=swarm, founder=founder.public, scheme=ED25519)
    with pytest.raises(RemoteProtocolError):
        check(chain, swarm=SWARM, founder=b"", scheme=ED25519)
    mixed = [link(FOUNDER, ANNA), link(ANNA, BERT, swarm="other")]
    assert "another swarm" in refused(msgpack.packb(mixed))


def test_members_admit_nobody() -> None:
    links = [link(FOUNDER, ANNA, "member"), link(ANNA, BERT)]
    assert "no admin" in refused(msgpack.packb(links))


def test_links_stand_in_their_order() -> None:
    links = [link(FOUNDER, ANNA), link(ANNA, BERT), link(BERT, CARL)]
    assert checked(msgpack.packb(links)).subject == CARL.peer
    for wrong in (links[::-1], links[1:], links[::2], [links[0], *links]):
        assert "founder to its subject" in refused(msgpack.packb(wrong))


def test_nobody_admits_itself() -> None:
    refused(chained(ANNA, ANNA, role="admin"))
    packed = msgpack.packb([SWARM, FOUNDER.public, ANNA.public, "admin", ""])
    forged = [packed, ANNA.sign("admission/v1", packed)]
    assert "signature" in refused(msgpack.packb([forged]))


def test_a_signature_for_another_purpose_admits_nobody() -> None:
    assert checked(msgpack.packb([link(FOUNDER, ANNA)]))
    other = [link(FOUNDER, ANNA, domain="record/v1")]
    assert "signature" in refused(msgpack.packb(other))


def test_signatures_of_two_links_cannot_be_swapped() -> None:
    (first, signature), (second, other) = link(FOUNDER, ANNA), link(ANNA, BERT)
    assert "signature" in refused(msgpack.packb([[first, other], [second, signature]]))


def test_only_the_shortest_encoding_counts() -> None:
    (entry,) = msgpack.unpackb(by_founder(ANNA))
    assert "canonical" in refused(b"\xdc\x00\x01" + msgpack.packb(entry))
    values = msgpack.packb([SWARM, FOUNDER.public, ANNA.public, "member", ""])
    longer = b"\xdc\x00\x05" + values[1:]
    signed = [longer, FOUNDER.sign("admission/v1", longer)]
    assert "canonical" in refused(msgpack.packb([signed]))


class CountingScheme:
    """The real scheme, and how often it was asked for a signature."""

    peer_id = staticmethod(ED25519.peer_id)

    def __init__(self) -> None:
        self.count = 0

    def verify(self, public: bytes, domain: str, data: bytes, signed: bytes) -> bool:
        self.count += 1
        return ED25519.verify(public, domain, data, signed)


@pytest.mark.parametrize("links", [1, MAX_CHAIN_LINKS, MAX_CHAIN_LINKS + 1, 1_000])
def test_the_work_is_bounded(links: int) -> None:
    chain = chained(FOUNDER, *(KEYS[1 + i % 6] for i in range(links)))
    scheme = CountingScheme()
    if links <= MAX_CHAIN_LINKS:
        check(chain, swarm=SWARM, founder=FOUNDER.public, scheme=scheme)
        assert scheme.count == links
    else:
        with pytest.raises(RemoteProtocolError):
            check(chain, swarm=SWARM, founder=FOUNDER.public, scheme=scheme)
        assert not scheme.count


# --- Hostile bytes -------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_no_bytes_raise_another_error(chain: bytes) -> None:
    refused(chain)


@given(plain_data, st.lists(plain_data, min_size=5, max_size=5))
def test_no_values_raise_another_error(value: object, fields: list[object]) -> None:
    for hostile in (value, [[value, bytes(64)]], [fields], [[_packed(fields), value]]):
        refused(_packed(hostile))
    packed = _packed(fields)
    refused(msgpack.packb([[packed, FOUNDER.sign("admission/v1", packed)]]))


def _packed(value: object) -> bytes:
    packed = b""
    # Some of these values are too large for msgpack; then there is nothing to send.
    with contextlib.suppress(ValueError, OverflowError):
        packed = msgpack.packb(value)
    return packed


@given(
    st.integers(0, 4),
    st.none() | st.integers() | st.binary(max_size=40) | st.text(max_size=70),
)
def test_one_wrong_field_is_refused_even_if_signed(place: int, value: object) -> None:
    fields: list[object] = [SWARM, FOUNDER.public, ANNA.public, "member", ""]
    # Another invitation is another admission, and no error.
    assume(place != 4 or type(value) is not str)
    fields[place] = value
    packed = _packed(fields)
    refused(msgpack.packb([[packed, FOUNDER.sign("admission/v1", packed)]]))
