"""Records and credentials, one of each per peer; the rest is tested with the facts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.errors import RemoteProtocolError
from p2pfusion.protocol.memberships import Memberships, check_fractions
from p2pfusion.protocol.tally import Tally
from tests.protocol.family import CHAINS, SWARM, member
from tests.protocol.names import NAMES, NamedKey, record

said = st.lists(
    st.builds(
        lambda peer, sequence, which: member(
            peer, sequence=sequence, which=which % len(CHAINS[peer])
        ),
        st.sampled_from(sorted(CHAINS)),
        st.integers(0, 2),
        st.integers(0, 1),
    ),
    max_size=20,
)


@given(said)
def test_what_is_remembered_beside_the_records_fits_them(known) -> None:
    tally = Tally()
    members = Memberships(NAMES, SWARM, NamedKey("p0").public, tally)
    for each in known:
        found = members.read(each)
        if found is not None:
            members.keep(found)
        assert (
            members.read(members.signed[NAMES.peer_id(each.record.payload[:32])])
            is None
        )
    assert members.sorted == sorted(members.records)
    assert set(members.ids.values()) == members.records.keys()
    for peer in CHAINS:
        through = {p for p, s in members.standings.items() if peer in s.issuers}
        assert members.admitted_through(peer) == through
    again = Tally()
    for peer, kept in members.signed.items():
        again.add("member", peer.encode(), kept)
    assert again.digest == tally.digest


@pytest.mark.parametrize(
    "changes",
    [{"split_fraction": "0"}, {"split_fraction": "2"}, {"former_fraction": "x"}],
)
def test_fractions_that_are_none_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(RemoteProtocolError, match="split fraction"):
        check_fractions(record("a", **changes))
    check_fractions(record("a", former_fraction="", split_fraction="0.25"))
