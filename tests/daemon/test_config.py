"""Profiles: what is read, and what each mistake is told."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfusion.daemon.config import (
    PRECISIONS,
    DataSettings,
    PartitionSettings,
    PeerSettings,
    Profile,
    load_profile,
    parse_profile,
    parse_share,
)
from p2pfusion.daemon.trainer_requests import setup_request
from p2pfusion.errors import ConfigError
from p2pfusion.limits import MAX_ROSTER
from p2pfusion.protocol.manifest import Manifest
from p2pfusion.split.layout import Layout
from p2pfusion.training import devices as trainers

FULL = """
[peer]
name = "lab-a"
listen = "0.0.0.0:7788"
advertise = "lab-a.lan:7788"
device = "cuda:1"
split_fraction = 0.1
cpu_threads = 4

[data]
kind = "npz"
path = "mine.npz"
partition = { rule = "shards", shards = 3, share = "2/5" }
validation = 0
limit = 100

[swarm]
name = "blue-heron"
model = "mlp"
model_arguments = { hidden = [64, 32] }
rounds = 5
learning_rate = 1
"""


def test_a_full_profile_is_read_exactly() -> None:
    profile = parse_profile(FULL, "x.toml")
    assert profile.peer == PeerSettings(
        name="lab-a",
        listen="0.0.0.0:7788",
        advertise="lab-a.lan:7788",
        device="cuda:1",
        split_fraction=Fraction(1, 10),
        cpu_threads=4,
    )
    assert profile.data == DataSettings(
        kind="npz",
        path="mine.npz",
        partition=PartitionSettings(rule="shards", shards=3, share="2/5"),
        validation=0.0,
        limit=100,
    )
    assert profile.swarm is not None
    assert profile.swarm.model == "mlp"
    assert profile.swarm.model_arguments == {"hidden": [64, 32]}
    assert profile.source == "x.toml"


def test_caps_are_bytes_per_second_however_they_are_written() -> None:
    text = "[peer]\nup_limit = '2 MB/s'\ndown_limit = 50_000"
    peer = parse_profile(text, "x").peer
    assert (peer.up_limit, peer.down_limit) == (2 * 2**20, 50_000.0)


def test_how_a_peer_trains_is_its_own() -> None:
    text = "[peer]\nbatch = 8\naccumulation = 4\nprecision = 'bfloat16'\n"
    peer = parse_profile(text + "checkpointing = true\nprocesses = 2", "x").peer
    assert (peer.batch, peer.accumulation, peer.processes) == (8, 4, 2)
    assert (peer.precision, peer.checkpointing) == ("bfloat16", True)
    assert PRECISIONS == trainers.PRECISIONS
    manifest = Manifest(name="t", model="mlp", layout=Layout((), ()), batch=64)
    told = setup_request(manifest, peer, DataSettings())
    assert (told["batch"], told["accumulation"], told["processes"]) == (8, 4, 2)
    assert (told["precision"], told["checkpointing"]) == ("bfloat16", True)
    assert setup_request(manifest, PeerSettings(), DataSettings())["batch"] == 64


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("batch = 0", "'batch' in [peer] is 0"),
        ("accumulation = 0", "'accumulation' in [peer] is 0"),
        ("batch = 4\naccumulation = 5", "'accumulation' in [peer] is 5"),
        ("precision = 'bfloat61'", "did you mean 'bfloat16'"),
        ("checkpointing = 1", "must be true or false"),
        ("models = ['cnn']", "must be package.module:function"),
        ("objectives = ['task']", "must be package.module:function"),
    ],
)
def test_other_ways_to_train_are_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_profile(f"[peer]\n{text}", "x")
    assert told in f"{caught.value.message}; {caught.value.hint}"


def test_an_empty_profile_is_all_defaults() -> None:
    assert parse_profile("", "x") == Profile(source="x")


def test_whole_numbers_become_the_fields_type() -> None:
    profile = parse_profile("[data]\nvalidation = 0", "x")
    assert isinstance(profile.data.validation, float)
    swarm = parse_profile(FULL, "x").swarm
    assert swarm is not None and isinstance(swarm.values["learning_rate"], float)


def test_the_trainer_gets_plain_values_with_its_own_limits() -> None:
    data = parse_profile(FULL, "x").data.to_data()
    assert data["limit"] == {"train": 100}
    assert data["partition"] == {
        "rule": "shards",
        "alpha": 0.5,
        "shards": 3,
        "share": "2/5",
    }
    assert DataSettings().to_data()["limit"] is None


MISTAKES = [
    ("[peer]\nsplitfraction = 0.5", "unknown key 'splitfraction' in [peer]"),
    ("[data]\npartition = { alfa = 1 }", "unknown key 'alfa' in [data.partition]"),
    ("[swarm]\nname = 'a'\nmodel = 'mlp'\nround = 3", "unknown key 'round' in [swarm]"),
    ("[pear]\nname = 'x'", "unknown section 'pear'"),
    ("name = 'x'", "unknown key 'name'"),
    ("peer = 3", "'peer' must be a section"),
    ("[peer]\ncpu_threads = 'two'", "key 'cpu_threads' in [peer] is 'two'"),
    ("[peer]\ncpu_threads = true", "key 'cpu_threads' in [peer] is True"),
    ("[peer]\ncpu_threads = 0", "key 'cpu_threads' in [peer] is 0"),
    ("[peer]\nprocesses = 0", "key 'processes' in [peer] is 0"),
    ("[peer]\ndevice = 'tpu'", "key 'device' in [peer] is 'tpu'"),
    ("[peer]\ndevice = 'cuda:one'", "key 'device' in [peer] is 'cuda:one'"),
    (
        "[peer]\ndevice = 'cuda:1'\nsplit_fraction = 'auto'",
        "nothing says how much memory the graphics card has",
    ),
    ("[peer]\nup_limit = 'fast'", "key 'up_limit' in [peer] is 'fast'"),
    ("[peer]\ndown_limit = 12", "key 'down_limit' in [peer] is 12"),
    ("[peer]\nname = 3", "key 'name' in [peer] is 3"),
    ("[peer]\nname = ''", "key 'name' in [peer] is ''"),
    ("[peer]\nlisten = '7788'", "key 'listen' in [peer] is '7788'"),
    ("[peer]\nadvertise = 'host:99999'", "key 'advertise' in [peer]"),
    ("[peer]\nsplit_fraction = 1.5", "key 'split_fraction' in [peer]"),
    ("[peer]\nsplit_fraction = 0", "key 'split_fraction' in [peer]"),
    ("[peer]\nsplit_fraction = true", "key 'split_fraction' in [peer]"),
    ("[peer]\nsplit_fraction = nan", "key 'split_fraction' in [peer]"),
    ("[data]\nvalidation = 1", "key 'validation' in [data]"),
    ("[data]\nvalidation = nan", "key 'validation' in [data]"),
    ("[data]\nlimit = 0", "key 'limit' in [data]"),
    ("[data]\npartition = 'mine'", "key 'partition' in [data]"),
    ("[data]\npartition = { rule = 'fair' }", "key 'rule' in [data.partition]"),
    ("[data]\npartition = { alpha = 0 }", "key 'alpha' in [data.partition]"),
    ("[data]\npartition = { share = '4/4' }", "key 'share' in [data.partition]"),
    ("[data]\npartition = { shards = 0 }", "key 'shards' in [data.partition]"),
    ("[swarm]\nname = 'a'", "[swarm] lacks the key 'model'"),
    ("[swarm]\nname = 'a'\nmodel = 'mlp'\nrounds = 0", "'rounds' is 0"),
    ("[swarm]\nname = 'a'\nmodel = 'mlp'\nmethod = 'msfusin'", "'msfusin'"),
    ("[swarm]\nname = 'a'\nmodel = 'mlp'\nmodel_arguments = 3", "'model_arguments'"),
    ("[swarm]\nname = 'a'\nmodel = 'mlp'\nlabel_mask = 1", "'label_mask'"),
    ("[peer\nname = 'x'", "not a TOML file"),
    ("[peer]\nname = lab", "line 2"),
]


@pytest.mark.parametrize(("text", "told"), MISTAKES)
def test_every_mistake_names_file_and_key(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_profile(text, "peers/x.toml")
    assert caught.value.message.startswith("peers/x.toml: ")
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[peer]\nsplitfraction = 0.5", "did you mean 'split_fraction'?"),
        ("[pear]", "did you mean 'peer'?"),
        ("[data]\npartition = { rule = 'dirichlett' }", "did you mean 'dirichlet'?"),
        ("[peer]\nqqqq = 1", "known: name, listen"),
    ],
)
def test_a_misspelt_word_gets_a_suggestion(text: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_profile(text, "x")
    assert caught.value.hint.startswith(hint)


@given(st.text())
def test_any_text_is_a_profile_or_a_config_error(text: str) -> None:
    try:
        profile = parse_profile(text, "x")
    except ConfigError as error:
        assert error.message.startswith("x: ")
    else:
        assert profile.source == "x"


@given(st.text(alphabet="0123456789/ -", max_size=10))
def test_a_share_is_a_position_among_so_many(text: str) -> None:
    try:
        index, count = parse_share(text, "share")
    except ConfigError:
        return
    assert 0 <= index < count <= MAX_ROSTER
    left, right = text.split("/")
    assert (int(left), int(right)) == (index, count)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load_profile(tmp_path / "none.toml")


def test_a_directory_or_other_bytes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_profile(tmp_path)
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"x\.toml: cannot be read"):
        load_profile(tmp_path / "x.toml")


def test_a_relative_path_starts_at_the_profile(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('[data]\nkind = "npz"\npath = "sub/mine.npz"')
    assert load_profile(file).data.path == str(tmp_path / "sub" / "mine.npz")
    file.write_text('[data]\nkind = "npz"\npath = "/elsewhere/mine.npz"')
    assert load_profile(file).data.path == "/elsewhere/mine.npz"


def test_the_command_line_overrides_what_it_names_only() -> None:
    profile = parse_profile(FULL, "x")
    other = parse_profile("[swarm]\nname='o'\nmodel='cnn'", "o.toml").swarm
    changed = profile.with_overrides(name="b", listen="[::1]:1", swarm=other)
    assert (changed.peer.name, changed.peer.listen) == ("b", "[::1]:1")
    assert changed.peer.advertise == profile.peer.advertise
    assert changed.swarm is other
    assert profile.with_overrides() == profile


@pytest.mark.parametrize(
    "override", [{"name": ""}, {"listen": "nowhere"}, {"advertise": ":1"}]
)
def test_overrides_are_checked_too(override: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="--" + next(iter(override))):
        Profile().with_overrides(**override)  # type: ignore[arg-type]


PROFILES = sorted((Path(__file__).parents[2] / "peers").glob("*.toml"))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.name)
def test_the_shipped_profiles_are_good(path: Path) -> None:
    profile = load_profile(path)
    assert profile.source == str(path)


def test_there_are_shipped_profiles() -> None:
    assert {path.stem for path in PROFILES} >= {
        "demo",
        "laptop-cpu",
        "jetson-8gb",
        "gpu-workstation",
    }


def test_models_of_ones_own_are_those_that_the_profile_names() -> None:
    named = parse_profile('[peer]\nmodels = ["a.b:c"]', "file")
    assert named.models == ("a.b:c",)
    text = '[swarm]\nname = "x"\nmodel = "d:e"'
    assert parse_profile(text, "file").models == ("d:e",)
    assert parse_profile(text.replace("d:e", "mlp"), "file").models == ()


@pytest.mark.parametrize("value", ['"a:b"', "[1]", '["mlp"]', '[""]'])
def test_models_that_are_none_are_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="'models'"):
        parse_profile(f"[peer]\nmodels = {value}", "file")
