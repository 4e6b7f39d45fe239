"""What a daemon announces in its network, and what it makes of what it hears."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import ServiceInfo

from p2pfusion.daemon.address import write_address
from p2pfusion.daemon.lan import (
    KIND,
    MAX_ADDRESSES,
    SWARM_CHARACTERS,
    Announced,
    announcement,
    elsewhere,
    read,
)
from p2pfusion.limits import MAX_NAME_CHARACTERS

HOSTS = ("10.0.0.1", "10.0.0.2", "fe80::1")
ANN = Announced("ann-id", "ann", "swarm-of-ann", ("10.0.0.1",), 7788)

announced = st.builds(
    Announced,
    peer=st.sampled_from(["a", "b", "c"]),
    name=st.just("somebody"),
    swarm=st.sampled_from(["ours", "theirs", ""]),
    addresses=st.lists(st.sampled_from(HOSTS), min_size=1, unique=True).map(tuple),
    port=st.integers(1, 3),
)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from(["a", "b", "c"]),
            "online": st.booleans(),
            "address": st.builds(
                write_address, st.sampled_from(HOSTS), st.integers(1, 3)
            ),
        }
    ),
    unique_by=lambda row: row["id"],
)


def test_what_is_announced_is_read_again() -> None:
    assert read(ANN.info()) == ANN


@given(
    st.dictionaries(
        st.sampled_from([b"peer", b"name", b"swarm", b"more"]),
        st.none() | st.binary(max_size=200),
    ),
    st.integers(0, 65_535),
    st.lists(st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)),
)
def test_whatever_is_heard_gives_a_bounded_word_or_none(
    properties: dict[bytes, bytes | None], port: int, addresses: list[bytes]
) -> None:
    info = ServiceInfo(
        KIND, f"x.{KIND}", port=port, addresses=addresses, properties=properties
    )
    said = read(info)
    if said is not None:
        assert said.peer and said.port and 0 < len(said.addresses) <= MAX_ADDRESSES
        assert len(said.name) <= MAX_NAME_CHARACTERS
        assert len(said.swarm) <= SWARM_CHARACTERS
        assert (said.peer + said.name + said.swarm).isprintable()


@given(rows, st.lists(announced, max_size=5))
def test_only_members_that_are_missed_are_looked_for_and_only_where_they_were_not(
    members: list[dict[str, object]], heard: list[Announced]
) -> None:
    slow = []
    for said, row in itertools.product(heard, members):
        for host in said.addresses:
            is_news = row["address"] != write_address(host, said.port)
            is_missed = row["id"] == said.peer and not row["online"]
            if said.swarm == "ours" and is_missed and is_news:
                slow.append((said.peer, host, said.port))
    assert sorted(elsewhere(members, heard, "ours")) == sorted(slow)


def test_who_cannot_be_dialled_announces_nothing() -> None:
    own = {
        "id": "ann-id",
        "name": "ann",
        "addresses": ["192.0.2.1:80"],
        "listen": "0.0.0.0:7788",
    }
    status: dict[str, object] = {"self": own, "swarm": {"id": "swarm-of-ann-and-bob"}}
    assert announcement(status, ["10.0.0.1"]) == ANN
    assert announcement({**status, "self": {**own, "addresses": []}}, HOSTS) is None
    without = announcement({**status, "swarm": None}, ["10.0.0.1"])
    assert without is not None and without.swarm == ""


def test_without_the_library_the_user_is_told_how_to_get_it() -> None:
    code = (
        "import sys; sys.modules['zeroconf'] = None\n"
        "from p2pfusion.cli.main import main; sys.exit(main(['discover']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 8
    assert (
        "zeroconf is not installed" in done.stderr and "p2pfusion[lan]" in done.stderr
    )


def test_one_listens_for_some_time_at_least() -> None:
    code = (
        "import sys; from p2pfusion.cli.main import main\n"
        "sys.exit(main(['discover', '--seconds', '0']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and "--seconds" in done.stderr


@pytest.mark.parametrize("missed", [True, False])
def test_one_that_listens_only_here_is_looked_for_here(missed: bool) -> None:
    row = {"id": "ann-id", "online": not missed, "address": "127.0.0.1:1"}
    found = elsewhere([row], [ANN], ANN.swarm)
    assert found == ([("ann-id", "10.0.0.1", 7788)] if missed else [])
