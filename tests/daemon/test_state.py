"""What survives a restart, and what a damaged file says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.daemon.home import Home
from p2pfusion.daemon.pool import Pool
from p2pfusion.daemon.state import SwarmState
from p2pfusion.errors import DataError, P2PFusionError, ResourceError, VerificationError
from p2pfusion.protocol.messages import Facts
from p2pfusion.protocol.statements import sign_start
from p2pfusion.split.homes import Homes
from p2pfusion.split.plan import plan_round
from p2pfusion.split.segment import Split
from p2pfusion.store import Store, copy_model, write_checkpoint
from p2pfusion.store.checksum import file_hash
from tests.protocol.names import NamedKey, accusation, membership, record, recovery
from tests.protocol.swarm import small_layout, small_manifest

LAYOUT = small_layout()
MANIFEST = small_manifest()
FACTS = (
    Facts(start=sign_start(MANIFEST.swarm_id, ["a", "b"], NamedKey("p0"))),
    Facts((membership(record("a", name="lab"), MANIFEST.swarm_id),)),
    Facts(accusations=(accusation("a", MANIFEST.swarm_id, by="b", epoch=4),)),
    Facts(recoveries=(recovery("a", "b", swarm=MANIFEST.swarm_id, reason="fire"),)),
)


def later_homes() -> Homes:
    """A table after one round."""
    full = {"a": Split.full(LAYOUT)}
    plan = plan_round(
        LAYOUT,
        seed=0,
        round_index=0,
        current=full,
        following=full,
        homes=Homes.initial(LAYOUT),
    )
    return plan.homes_after()


@pytest.fixture
def state(tmp_path: Path) -> SwarmState:
    """A swarm on disk, one round old."""
    made = SwarmState(tmp_path / "swarm")
    made.open_store(MANIFEST)
    made.save_facts(FACTS)
    made.save_progress(1, later_homes())
    return made


def test_everything_comes_back(state: SwarmState) -> None:
    again = SwarmState(state.directory)
    assert again.load_manifest() == MANIFEST
    assert again.load_facts() == FACTS
    number, homes = again.load_progress(LAYOUT)
    assert (number, homes.digest) == (1, later_homes().digest)
    assert again.open_store(MANIFEST).versions(0).max() == 0
    assert again.offers.is_dir()


def test_a_new_home_has_nothing(tmp_path: Path) -> None:
    state = SwarmState(tmp_path / "swarm")
    assert state.load_manifest() is None
    assert state.load_facts() == ()
    number, homes = state.load_progress(LAYOUT)
    assert (number, homes.digest) == (0, Homes.initial(LAYOUT).digest)
    assert not state.directory.exists()


def test_incarnations_grow_over_restarts_and_are_kept_before_use(
    tmp_path: Path,
) -> None:
    drawn = [SwarmState(tmp_path / "swarm").next_incarnation() for _ in range(3)]
    assert drawn == [1, 2, 3]
    assert (tmp_path / "incarnation").read_text() == "3"


def test_a_first_start_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    state = SwarmState(tmp_path / "swarm")
    state.open_store(MANIFEST)
    manifest = state.directory / "manifest.msgpack"
    manifest.unlink()  # the crash came after the store and before the manifest
    state.open_store(MANIFEST)
    assert state.load_manifest() == MANIFEST
    # ... or inside the making of the store: then nothing says that it is one.
    manifest.unlink()
    (state.store / "store.json").unlink()
    state.open_store(MANIFEST)
    assert state.load_manifest() == MANIFEST


def test_a_swarm_begins_with_the_checkpoint_of_the_pool(tmp_path: Path) -> None:
    layout, pool = MANIFEST.layout, Pool(Home(tmp_path).pool)
    file = tmp_path / "any.safetensors"
    with write_checkpoint(file, layout, {}) as writer:
        copy_model(Store.create(tmp_path / "any", layout, 99), writer)
    manifest = small_manifest(pretrained=file_hash(file))
    state = SwarmState(Home(tmp_path).swarm)
    with pytest.raises(DataError, match=manifest.pretrained) as caught:
        state.open_store(manifest)
    assert "p2pfusion pool add FILE" in caught.value.hint
    assert state.load_manifest() is None
    name = pool.add(file)
    first = state.open_store(manifest)
    full = tuple(Split.full(layout).segments(layout))
    begins = Store.open(tmp_path / "any", layout, 99).read_flat(full)
    assert np.array_equal(first.read_flat(full), begins)
    # The swarm has one of its own: the pool may lose it. Readers need no pool at all.
    pool.path(name).unlink()
    for store in (
        state.open_store(manifest),
        Store.open(state.store, layout, manifest.seed),
    ):
        assert np.array_equal(store.read_flat(full), begins)
    with pytest.raises(VerificationError, match="another swarm"):
        state.open_store(MANIFEST)


def test_the_store_of_another_swarm_is_refused(state: SwarmState) -> None:
    with pytest.raises(VerificationError, match="another swarm"):
        state.open_store(small_manifest(seed=9))


FILES = ["manifest.msgpack", "facts.msgpack", "progress.bin"]


def load(state: SwarmState, name: str) -> object:
    """Reads what is in one of the files."""
    return {
        "manifest.msgpack": state.load_manifest,
        "facts.msgpack": state.load_facts,
        "progress.bin": lambda: state.load_progress(LAYOUT),
    }[name]()


@pytest.mark.parametrize("name", FILES)
def test_any_changed_byte_is_noticed_and_the_file_named(
    state: SwarmState, name: str
) -> None:
    path = state.directory / name
    whole = path.read_bytes()
    step = max(1, len(whole) // 40)
    for place in (*range(0, len(whole), step), len(whole) - 1):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(VerificationError, match=name) as caught:
            load(state, name)
        assert "damaged" in caught.value.message and caught.value.hint
    path.write_bytes(whole)
    load(state, name)


@pytest.mark.parametrize("name", FILES)
@given(content=st.binary(max_size=64))
def test_any_other_content_is_a_damaged_file(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    state = SwarmState(tmp_path_factory.getbasetemp() / "fuzzed")
    state.directory.mkdir(exist_ok=True)
    (state.directory / name).write_bytes(content)
    with pytest.raises(VerificationError, match=name):
        load(state, name)


@pytest.mark.parametrize("name", FILES)
def test_what_cannot_be_read_is_an_error_and_no_traceback(
    state: SwarmState, name: str
) -> None:
    (state.directory / name).unlink()
    (state.directory / name).mkdir()
    with pytest.raises(P2PFusionError, match=name):
        load(state, name)


@pytest.mark.parametrize("text", ["", "one", "1.5", "\xff"])
def test_a_damaged_incarnation_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "incarnation").write_text(text, encoding="latin-1")
    with pytest.raises(VerificationError, match="incarnation is damaged"):
        SwarmState(tmp_path / "swarm").next_incarnation()


def test_a_disk_that_takes_nothing_is_reported_and_keeps_the_old(
    state: SwarmState,
) -> None:
    blocked = state.directory / "progress.tmp"
    blocked.mkdir()
    with pytest.raises(ResourceError, match=r"progress\.bin"):
        state.save_progress(2, later_homes())
    assert state.load_progress(LAYOUT)[0] == 1


def test_what_was_found_out_is_kept_for_its_split_fraction(tmp_path: Path) -> None:
    state = SwarmState(tmp_path)
    assert state.load_announced("1/2") is None
    state.save_announced("1/2", b"said\nand more")
    assert SwarmState(tmp_path).load_announced("1/2") == b"said\nand more"
    assert state.load_announced("1/4") is None
    (tmp_path / "announced.bin").write_bytes(b"x" * 40)
    with pytest.raises(VerificationError, match=r"announced\.bin is damaged"):
        state.load_announced("1/2")
