"""``[peer.privacy]``: its keys, what the trainer is told, what status says."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfusion.daemon.config import parse_profile
from p2pfusion.daemon.privacy import (
    PrivacySettings,
    check_private,
    private_request,
    private_status,
)
from p2pfusion.errors import ConfigError
from p2pfusion.store import Spent
from p2pfusion.training.privacy import Privacy
from tests.protocol.stage import small_manifest


def test_a_profile_states_it_and_the_trainer_hears_it(tmp_path: Path) -> None:
    text = "[peer.privacy]\nnoise = 8\nepsilon = 4.5\n"
    found = parse_profile(text, "a.toml").peer.privacy
    assert found == PrivacySettings(noise=8.0, epsilon=4.5)
    told = private_request(found, tmp_path / "privacy.json")
    assert told is not None
    privacy = Privacy.from_data(told)
    assert (privacy.noise, privacy.clip, privacy.budget) == (8.0, 1.0, 4.5)
    assert privacy.spent == tmp_path / "privacy.json"
    assert private_request(None, tmp_path) is None
    assert parse_profile("", "a.toml").peer.privacy is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'noise' is 0"),
        ("noise = -1", "'noise' is -1"),
        ("noise = 1\nclip = 0", "'clip' is 0"),
        ("noise = 1\ndelta = 0.5", "'delta' is 0.5"),
        ("noise = 1\nepsilon = 0.0", "'epsilon' is 0"),
        ("noise = nan", "'noise' is nan"),
        ("noise = 1\nsigma = 2", "unknown key 'sigma' in [peer.privacy]"),
        ("noise = 'much'", "it must be a number"),
    ],
)
def test_what_means_nothing_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_profile(f"[peer.privacy]\n{text}\n", "a.toml")
    assert said in str(caught.value) and "a.toml" in str(caught.value)


def test_a_swarm_that_weighs_by_samples_is_refused() -> None:
    settings = PrivacySettings(noise=1.0)
    check_private(settings, small_manifest())
    check_private(None, small_manifest(weighting="samples"))
    with pytest.raises(ConfigError, match="samples"):
        check_private(settings, small_manifest(weighting="samples"))


def test_status_says_what_was_told(tmp_path: Path) -> None:
    path = tmp_path / "privacy.json"
    settings = PrivacySettings(noise=8.0, epsilon=4.0)
    assert private_status(None, path) is None
    fresh = private_status(settings, path)
    assert fresh is not None and (fresh["rounds"], fresh["epsilon"]) == (0, None)
    Spent(7, 0.4375, 1e-5, 3.9, 4.2).write(path)
    told = private_status(settings, path)
    assert told is not None
    assert (told["rounds"], told["epsilon"], told["spent"]) == (7, 3.9, True)
    # Another delta has another epsilon, which only the trainer can compute.
    other = private_status(PrivacySettings(noise=8.0, delta=1e-6), path)
    assert other is not None and (other["epsilon"], other["spent"]) == (None, False)
    path.write_text("nothing")
    damaged = private_status(settings, path)
    assert damaged is not None and damaged["rounds"] is None
