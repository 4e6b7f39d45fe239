"""Signed statements: what was said, by whom, about which swarm, and nothing else."""

from __future__ import annotations

import dataclasses

import msgpack
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from p2pfusion.errors import LocalProtocolError, RemoteProtocolError
from p2pfusion.limits import (
    MAX_AMOUNT,
    MAX_ANNOUNCED_BYTES,
    MAX_BANNER_BYTES,
    MAX_RECORD_BYTES,
    MAX_REFUTED,
    MAX_ROSTER,
    MAX_START_BYTES,
    MAX_STATEMENT_BYTES,
)
from p2pfusion.protocol.messages import NEVER, Offer, PeerRecord, Signed
from p2pfusion.protocol.statements import (
    AccusationFact,
    OfferFact,
    RecoveryFact,
    RevocationFact,
    author,
    banner,
    read_accusation,
    read_banner,
    read_offer,
    read_record,
    read_recovery,
    read_revocation,
    read_start,
    sign_accusation,
    sign_offer,
    sign_record,
    sign_recovery,
    sign_revocation,
    sign_start,
)
from p2pfusion.security import ED25519, DeviceKey
from tests.protocol.kinds import KINDS, OTHER, REAL
from tests.protocol.names import NAMES, NamedKey, record

whole = st.integers(0, 2**63 - 1)
printable = st.characters(categories=["L", "N", "P", "S"])
text = st.text(printable, max_size=64)
key = st.binary(min_size=32, max_size=32)
epoch = st.integers(0, NEVER)
step = st.tuples(st.just(0), st.just(0), epoch)
real = st.floats(allow_nan=False, allow_infinity=False)
amount = st.floats(0.0, MAX_AMOUNT)

addresses = st.just({"host": "", "port": 0}) | st.fixed_dictionaries(
    {
        "host": st.text(printable, min_size=1, max_size=255),
        "port": st.integers(1, 65_534),
    }
)
placed = st.builds(
    PeerRecord,
    peer=st.just("a"),
    name=text,
    host=st.just(""),
    port=st.just(0),
    split_fraction=st.text(printable, min_size=1, max_size=32),
    incarnation=whole,
    sequence=whole,
    join_epoch=st.integers(-1, 2**63 - 1),
    swarm=text,
    key=st.just(NamedKey("a").public),
    transport_key=key,
    exchange_key=key,
    cipher=st.sampled_from(["aes-256-gcm", "chacha20-poly1305"]),
    former_fraction=st.text(printable, max_size=32),
    since_epoch=epoch,
    refutes_epoch=epoch,
    leave_epoch=epoch,
    announced=st.binary(max_size=MAX_ANNOUNCED_BYTES),
    announced_epoch=epoch,
    refuted=st.lists(
        st.tuples(st.just(0), st.just(0), epoch), max_size=MAX_REFUTED
    ).map(tuple),
    relays=st.booleans(),
)
records = st.builds(
    lambda record, address: dataclasses.replace(record, **address), placed, addresses
)
offers = st.builds(
    Offer,
    *(whole, st.binary(min_size=16, max_size=16), whole, real, real, real, whole),
    *(amount, amount),
)


# --- There and back ------------------------------------------------------------------


@given(records)
def test_a_record_comes_back_as_it_was_and_is_not_too_long(said: PeerRecord) -> None:
    signed = sign_record(said, NamedKey("a"))
    assert read_record(signed, NAMES) == said
    assert len(signed.payload) <= MAX_RECORD_BYTES
    assert author(signed) == said.key


def test_the_id_follows_from_the_key_and_not_from_what_is_said() -> None:
    liar = record("b", key=NamedKey("b").public)
    assert read_record(sign_record(liar, NamedKey("a")), NAMES).peer == "a"
    signed = sign_record(record("whoever"), REAL)
    assert read_record(signed, ED25519).peer == REAL.peer
    assert read_record(signed, ED25519).key == REAL.public


@given(st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, unique=True))
def test_a_start_comes_back_sorted(members: list[str]) -> None:
    signed = sign_start("swarm", sorted(members), NamedKey("a"))
    founder = NamedKey("a").public
    found = read_start(signed, NAMES, swarm="swarm", founder=founder)
    assert found == tuple(sorted(members))


def test_a_start_of_the_largest_swarm_fits_a_message() -> None:
    ids = [DeviceKey.from_seed(n.to_bytes(32, "big")).peer for n in range(4)]
    longest = max(len(each) for each in ids)
    members = [f"{n:0{longest}d}" for n in range(MAX_ROSTER)]
    signed = sign_start("x" * 26, members, REAL)
    assert len(signed.payload) <= MAX_START_BYTES


@given(text, st.text(printable, min_size=1, max_size=64), whole, text)
def test_a_revocation_comes_back(
    swarm: str, peer: str, epoch: int, reason: str
) -> None:
    signed = sign_revocation(
        swarm, peer=peer, epoch=epoch, reason=reason, signer=NamedKey("a")
    )
    found = read_revocation(signed, NAMES, swarm=swarm)
    assert found == RevocationFact("a", NamedKey("a").public, peer, epoch, reason)


@given(text, st.text(printable, min_size=1, max_size=64), whole, whole, epoch)
def test_an_accusation_comes_back(
    swarm: str, peer: str, incarnation: int, sequence: int, epoch: int
) -> None:
    assume(peer != "a")
    said = AccusationFact("a", peer, (incarnation, sequence), epoch)
    signed = sign_accusation(swarm, said, NamedKey("a"))
    assert read_accusation(signed, NAMES, swarm=swarm) == said
    assert len(signed.payload) <= MAX_STATEMENT_BYTES


@given(
    text,
    st.sets(st.text(printable, min_size=1, max_size=64), min_size=1),
    epoch,
    st.text(printable, max_size=200),
)
def test_a_recovery_comes_back(
    swarm: str, peers: set[str], epoch: int, reason: str
) -> None:
    lost = tuple(sorted(peers))
    signed = sign_recovery(
        swarm, peers=lost, epoch=epoch, reason=reason, signer=NamedKey("a")
    )
    found = read_recovery(signed, NAMES, swarm=swarm)
    assert found == RecoveryFact("a", NamedKey("a").public, lost, epoch, reason)


def test_a_recovery_from_the_loss_of_all_fits_a_message() -> None:
    longest = len(REAL.peer)
    lost = [f"{n:0{longest}d}" for n in range(MAX_ROSTER)]
    signed = sign_recovery(
        "x" * 26, peers=lost, epoch=NEVER, reason="漢" * 200, signer=REAL
    )
    assert len(signed.payload) <= MAX_START_BYTES


@pytest.mark.parametrize("peers", [[], ["b", "a"], ["a", "a"]])
def test_a_recovery_that_names_nobody_or_is_out_of_order_is_refused(
    peers: list[str],
) -> None:
    signed = sign_recovery("swarm", peers=peers, epoch=1, reason="", signer=REAL)
    with pytest.raises(RemoteProtocolError, match="out of order"):
        read_recovery(signed, ED25519, swarm="swarm")


def test_nobody_accuses_itself() -> None:
    said = AccusationFact(REAL.peer, REAL.peer, (1, 0), 3)
    with pytest.raises(RemoteProtocolError, match="its own author"):
        read_accusation(sign_accusation("s", said, REAL), ED25519, swarm="s")


@given(text, whole, whole, offers, whole)
def test_an_offer_comes_back(
    swarm: str, incarnation: int, sequence: int, offer: Offer, epoch: int
) -> None:
    said = OfferFact(incarnation, sequence, offer)
    signed = sign_offer(swarm, said, epoch, NamedKey("a"))
    by = NamedKey("a").public
    assert read_offer(signed, NAMES, swarm=swarm, key=by) == said
    assert len(signed.payload) <= MAX_STATEMENT_BYTES


@given(key)
def test_a_banner_comes_back_and_is_short(transport_key: bytes) -> None:
    said = banner(transport_key, NamedKey("a"))
    assert read_banner(said, NAMES) == ("a", transport_key)
    assert len(said) <= MAX_BANNER_BYTES


# --- What is wrong is refused --------------------------------------------------------


ALL = pytest.mark.parametrize("name", KINDS)


def flips(data: bytes) -> list[bytes]:
    """The same bytes with each bit changed, one at a time."""
    return [
        bytes([*data[:at], data[at] ^ 1 << bit, *data[at + 1 :]])
        for at in range(len(data))
        for bit in range(8)
    ]


@ALL
def test_every_flipped_bit_is_refused(name: str) -> None:
    kind = KINDS[name]
    good = kind.sign(REAL)
    kind.read(good, ED25519, REAL.public, "swarm")
    bad = [Signed(payload, good.signature) for payload in flips(good.payload)]
    bad += [Signed(good.payload, signature) for signature in flips(good.signature)]
    for signed in bad:
        with pytest.raises(RemoteProtocolError):
            kind.read(signed, ED25519, REAL.public, "swarm")


@ALL
@pytest.mark.parametrize("other", KINDS)
def test_what_was_said_as_one_thing_is_not_another(name: str, other: str) -> None:
    signed = KINDS[other].sign(REAL)
    if name == other:
        KINDS[name].read(signed, ED25519, REAL.public, "swarm")
        return
    # A banner has no room for a record: that is seen before anything else.
    with pytest.raises(RemoteProtocolError, match=r"wrong signature|wrong length"):
        KINDS[name].read(signed, ED25519, REAL.public, "swarm")


@pytest.mark.parametrize(
    "name", ["start", "revocation", "accusation", "recovery", "offer", "closing"]
)
def test_what_was_said_about_another_swarm_is_refused(name: str) -> None:
    signed = KINDS[name].sign(REAL)
    with pytest.raises(RemoteProtocolError):
        KINDS[name].read(signed, ED25519, REAL.public, "other")


@pytest.mark.parametrize("name", ["start", "offer"])
def test_what_another_said_is_refused(name: str) -> None:
    signed = KINDS[name].sign(OTHER)
    with pytest.raises(RemoteProtocolError):
        KINDS[name].read(signed, ED25519, REAL.public, "swarm")


@ALL
def test_who_puts_its_key_before_anothers_words_is_refused(name: str) -> None:
    good = KINDS[name].sign(REAL)
    stolen = Signed(OTHER.public + good.payload[32:], good.signature)
    with pytest.raises(RemoteProtocolError):
        KINDS[name].read(stolen, ED25519, OTHER.public, "swarm")


@ALL
def test_content_is_looked_at_only_when_its_signature_is_right(name: str) -> None:
    """Verify, then decode: behind a wrong signature, nonsense is a wrong signature."""
    good = KINDS[name].sign(REAL)
    for content in (b"", b"\xc1", b"\x91" * 50, good.payload[32:-1]):
        signed = Signed(REAL.public + content, good.signature)
        with pytest.raises(RemoteProtocolError, match="wrong signature"):
            KINDS[name].read(signed, ED25519, REAL.public, "swarm")


@ALL
@pytest.mark.parametrize(
    "content", [b"", b"\xc1", b"\x90", b"\x91" * 200, b"\x80", b"\x93\xc0\xc0\xc0"]
)
def test_nonsense_that_is_signed_is_nonsense(name: str, content: bytes) -> None:
    domain = f"{name}/v1"
    payload = REAL.public + content
    signed = Signed(payload, REAL.sign(domain, payload))
    with pytest.raises(RemoteProtocolError, match="malformed"):
        KINDS[name].read(signed, ED25519, REAL.public, "swarm")


@pytest.mark.parametrize("members", [[], ["b", "a"], ["a", "a"]])
def test_a_start_that_names_nobody_or_is_out_of_order_is_refused(
    members: list[str],
) -> None:
    signed = sign_start("swarm", members, REAL)
    with pytest.raises(RemoteProtocolError, match="out of order"):
        read_start(signed, ED25519, swarm="swarm", founder=REAL.public)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "x" * 65},
        {"name": "two\nlines"},
        {"host": ""},
        {"host": "x" * 256},
        {"port": 0},
        {"port": 65_535},
        {"split_fraction": ""},
        {"incarnation": -1},
        {"sequence": 2**63},
        {"join_epoch": -2},
        {"swarm": "x" * 65},
        {"transport_key": bytes(31)},
        {"exchange_key": bytes(33)},
        {"cipher": "rot13"},
        {"former_fraction": "1" * 33},
        {"since_epoch": -1},
        {"refutes_epoch": NEVER + 1},
        {"leave_epoch": NEVER + 1},
        {"announced_epoch": NEVER + 1},
        {"relays": 1},
        {"announced": bytes(MAX_ANNOUNCED_BYTES + 1)},
        {"refuted": ((1, 1, -1),)},
        {"refuted": ((1, 1),)},
        {"refuted": ((1, 1, 4),)},
        {"refuted": ((2, 0, 4),)},
        {"refuted": ((1, 1, 1),) * (MAX_REFUTED + 1)},
    ],
)
def test_a_field_out_of_its_bounds_is_neither_signed_nor_read(
    changes: dict[str, object],
) -> None:
    good = record("a")
    bad = dataclasses.replace(good, **changes)  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError, match="record/v1"):
        sign_record(bad, REAL)
    said = ("name", "host", "port", "split_fraction", "incarnation", "sequence")
    said += ("join_epoch", "swarm", "transport_key", "exchange_key", "cipher")
    said += ("former_fraction", "since_epoch", "refutes_epoch", "leave_epoch")
    said += ("refuted", "announced", "announced_epoch", "relays")
    for each, wanted in ((good, True), (bad, False)):
        payload = REAL.public + msgpack.packb([getattr(each, name) for name in said])
        signed = Signed(payload, REAL.sign("record/v1", payload))
        if wanted:
            assert read_record(signed, ED25519).name == "a"
        else:
            with pytest.raises(RemoteProtocolError, match=r"malformed|refutes"):
                read_record(signed, ED25519)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_banner_or_a_remote_error(packed: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_banner(packed, ED25519)


@given(st.binary(min_size=32, max_size=200), st.binary(min_size=64, max_size=64))
def test_a_statement_of_a_key_that_is_none_is_refused(
    payload: bytes, signature: bytes
) -> None:
    for kind in KINDS.values():
        with pytest.raises(RemoteProtocolError):
            kind.read(Signed(payload, signature), ED25519, payload[:32], "swarm")
