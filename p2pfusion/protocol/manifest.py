"""The swarm's immutable description: what every member must agree on.

The manifest names a model, its layout (as data), a method and the rules of a round. It
carries no code: names are looked up in each machine's own tables. Its canonical msgpack
bytes are what travels and what is hashed; the hash is the swarm's id. Keys are sorted
and every number has one encoding, so equal manifests have equal bytes.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property

import msgpack

from p2pfusion.errors import ConfigError, RemoteProtocolError
from p2pfusion.limits import (
    MAX_MANIFEST_BYTES,
    MAX_NAME_CHARACTERS,
    MAX_REPLICATION,
    MAX_ROSTER,
)
from p2pfusion.methods import Method, build_method, sharing
from p2pfusion.protocol.contents import (
    check,
    check_hex,
    check_maskable,
    check_plain,
    check_second_opinions,
    check_versions,
    check_vocabulary,
    in_order,
)
from p2pfusion.protocol.delay import check_delay
from p2pfusion.protocol.objectives import check_objective, objective_options
from p2pfusion.split.forms import HIDDEN, WIRE, Wire
from p2pfusion.split.layout import Layout
from p2pfusion.split.segment import Split

SCHEDULES = ("constant", "cosine")
OPTIMISERS = ("sgd", "adamw")
WEIGHTINGS = ("uniform", "samples")
SECURE_AGGREGATION = ("off", "withhold", "clear")
FUSIONS = ("mean", "clipped", "trimmed", "median", "centred")
POLICIES = ("majority", "fork")
NETWORKS = ("local", "lan", "wan")
ADMISSIONS = ("ticket", "pending", "open")
AUGMENTATIONS = ("none", "flip-crop")

Arguments = Mapping[str, object]

LATER: Arguments = {
    **{"delay": 0, "pretrained": "", "proximal": 0.0, "versions": {}},
    **{"secure_aggregation": "off", "fusion": "mean"},
    **{"second_opinions": False, "clip_relative": 0.0},
}
"""Keys that a manifest states only where their values are others than these: those from
before there were such keys keep their bytes, and their ids."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Every field is part of the swarm id; two peers with the same id agree on all."""

    name: str
    """What people call the swarm."""
    seed: int = 0
    """Fixes initial values, windows, reducers and the order of batches."""
    model: str
    """A name in each machine's table of models."""
    model_arguments: Arguments = field(default_factory=dict)
    """Passed to the model; plain numbers, texts and lists."""
    vocabulary: Arguments = field(default_factory=dict)
    """How text becomes tokens: ``level`` (``word``, ``character`` or ``byte``), their
    number at most (``size``), and ``tokens``, which the founder's text gives."""
    layout: Layout
    """The model's axes and parameters, so that a daemon plans without torch."""
    versions: Arguments = field(default_factory=dict)
    """Packages that model and objective come from, if these are none of the tables',
    with their versions as far as they have any: nobody joins with others."""
    pretrained: str = ""
    """SHA-256, in hex, of the checkpoint whose values the model begins with; empty:
    with values that the seed gives. Newcomers get the file from members."""
    method: str = "msfusion"
    """Who trains what: a name in the table of methods."""
    method_arguments: Arguments = field(default_factory=dict)
    """Passed to the method."""
    objective: str = "task"
    """What every peer minimises: ``task``, the loss on its own answers, or
    ``contrastive``, which adds a comparison with what it received and what it had."""
    objective_arguments: Arguments = field(default_factory=dict)
    """Passed to the objective: of ``contrastive`` ``weight``, ``temperature``, and
    ``previous``, the number of own past sub-models to compare with."""
    rounds: int = 20
    """The swarm is done after this many."""
    rounds_per_epoch: int = 5
    """Membership changes take effect between epochs: at least one full one ahead."""
    min_peers: int = 1
    """The founder starts round 0 when so many members are connected."""
    batch: int = 32
    """Examples per training step, at every peer."""
    local_epochs: int = 1
    """Passes over a peer's own data in a round, where ``local_steps`` is 0."""
    local_steps: int = 0
    """Steps in a round; 0 counts epochs instead."""
    learning_rate: float = 0.05
    """Rate of the first round."""
    schedule: str = "cosine"
    """How the rate moves over the rounds: ``constant``, or ``cosine`` down to zero."""
    optimiser: str = "sgd"
    """Of local steps: ``sgd``, or ``adamw``, which transformers need. It starts afresh
    each round (the baselines' rule)."""
    momentum: float = 0.9
    """Of SGD; of AdamW the first coefficient."""
    weight_decay: float = 0.0
    """Part of the gradient in SGD, decoupled from it in AdamW."""
    clip: float = 1.0
    """Bound on the gradient's norm in a local step; 0 is none."""
    clip_relative: float = 0.0
    """The same for each tensor, as a part of the tensor's own norm; 0 is none."""
    proximal: float = 0.0
    """FedProx's mu: half of it times the squared distance from what was received is
    added to the loss; 0 is off."""
    outer_momentum: float = 0.0
    """Of the swarm's own steps: how much of the change that the last round brought to
    what a peer trains is added to what this round brings."""
    delay: int = 0
    """By how many rounds averages come late: 1 lets a peer whose split stays train the
    next round while the present one is exchanged, from its own values, to which what
    the others have changed is added as it comes; 0 lets it wait."""
    label_mask: bool = False
    """While training, logits of classes absent from a peer's data are set to 0."""
    logit_adjustment: float = 1.0
    """While training, so many times the logarithm of how common a class is in a peer's
    data is added to its logit; 0 is off. Not for running text."""
    augment: str = "none"
    """What is done to training images: ``none``, or ``flip-crop``, a random crop with
    four blank pixels around the image, and a flip of every second one."""
    weighting: str = "uniform"
    """Weight of a contribution in the mean: ``uniform``, or ``samples``."""
    fusion: str = "mean"
    """What several peers' values of the same become: their ``mean``, or, where some may
    lie, ``clipped``, ``trimmed``, ``median`` or ``centred``."""
    second_opinions: bool = False
    """Whether everything is fused twice, and compared, because a reducer may lie, too.
    It goes with every ``fusion`` but the mean, and makes four fifths more traffic."""
    wire_dtype: str = "float32"
    """What values travel as: ``float32``; ``bfloat16`` or ``float16``; ``int8`` or
    ``top-k``, in which changes are contributed, in a byte each or only the largest, and
    all else travels as float16. Sums are kept in higher precision."""
    secure_aggregation: str = "off"
    """Whether reducers see sums of contributions only. With ``withhold`` ranges of
    fewer than three holders, which cannot be hidden, stay as they are; with ``clear``
    they are contributed as without it. ``max_staleness`` is 0 then, unless stated."""
    deadline_min_s: float = 2.0
    """A round waits at least so long after the own offer for missing ones."""
    deadline_max_s: float = 120.0
    """... and at most so long; also the wait while nothing has been measured."""
    deadline_mads: float = 6.0
    """Between the two: median of recent lateness plus so many median deviations."""

    partition_policy: str = "majority"
    """What a part of the swarm does that has no contact to the rest: without a quorum
    it pauses (``majority``), or every part goes on by itself (``fork``)."""
    replication: int = 2
    """Copies of everything; fewer only where fewer peers are there."""
    max_staleness: int = 3
    """What was trained too late still counts, with less weight, so many rounds on."""

    network: str = "lan"
    """How far apart the members are: ``local`` (one machine), ``lan`` or ``wan``. It
    decides how often they are probed and how soon one counts as silent, or gone."""
    admission: str = "ticket"
    """Who may join: holders of a ``ticket``; who knocked and was accepted
    (``pending``); everybody (``open``). Tickets are good in every mode."""
    founder: str = ""
    """Public key of the founder, in hex: all admissions are traced back to it."""

    def __post_init__(self) -> None:
        _check_text(self)
        _check_numbers(self)
        for key in ("model_arguments", "method_arguments", "objective_arguments"):
            value = getattr(self, key)
            check(isinstance(value, Mapping), key, value, "a table of plain values")
            check_plain(key, value)
        check_vocabulary(self.vocabulary)
        check_second_opinions(self.fusion, self.second_opinions, self.replication)
        check_versions(self.versions)
        check_objective(self.objective, self.objective_arguments, self.layout)
        if self.secure_aggregation != "off":
            check_maskable(self.method, self.adds_changes, vars(self))
        if self.delay:
            sent = "changes" if self.sends_changes else "values"
            check_delay(self.trained_by, self.layout, self.objective, sent)
        if self.pretrained and self.layout.blocks > 1:
            raise ConfigError(
                "a model that begins silent cannot begin with pretrained values",
                hint='set start = "dense" in method_arguments, or leave out pretrained',
            )

    def to_bytes(self) -> bytes:
        """Canonical msgpack: keys sorted, floats as floats, layout as plain lists."""
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        data["layout"] = self.layout.to_data()
        for key, unstated in LATER.items():
            if data[key] == unstated:
                del data[key]
        packed: bytes = msgpack.packb(in_order(data))
        return packed

    @classmethod
    def from_bytes(cls, packed: bytes) -> Manifest:
        """The manifest in bytes from a peer or a file.

        Raises ``RemoteProtocolError`` for anything that ``to_bytes`` cannot produce.
        """
        if len(packed) > MAX_MANIFEST_BYTES:
            raise RemoteProtocolError("a manifest is larger than this version allows")
        try:
            data = msgpack.unpackb(packed, strict_map_key=True)
            known = {f.name for f in fields(cls)}
            if not isinstance(data, dict) or {*data, *LATER} != known:
                raise RemoteProtocolError("a manifest has other keys than expected")
            layout = Layout.from_data(data.pop("layout"))
            manifest = cls(**data, layout=layout)
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            raise RemoteProtocolError(f"malformed manifest: {error}") from None
        except ConfigError as error:
            raise RemoteProtocolError(f"unusable manifest: {error}") from None
        if manifest.to_bytes() != packed:
            raise RemoteProtocolError("a manifest is not in canonical form")
        return manifest

    @cached_property
    def swarm_id(self) -> str:
        """Base32 of the first 16 bytes of the hash of the canonical bytes."""
        digest = hashlib.sha256(self.to_bytes()).digest()[:16]
        return base64.b32encode(digest).decode().rstrip("=").lower()

    @cached_property
    def trained_by(self) -> Method:
        """The method as an object; ``ConfigError`` if this machine does not know it."""
        method = build_method(self.method, self.method_arguments)
        if self.fusion != "mean" and sharing(method) is not None:
            raise ConfigError(
                f"fusion means nothing to the method {self.method!r}",
                hint="it adds shares of changes; leave fusion out",
            )
        return method

    @cached_property
    def adds_changes(self) -> bool:
        """Whether shares of changes are added, in place of a mean of values."""
        return sharing(self.trained_by) is not None

    @property
    def weighs(self) -> bool:
        """Whether whoever gets fused values compares them before they count."""
        return self.second_opinions

    @cached_property
    def wire(self) -> Wire:
        """The forms in which values travel."""
        return WIRE[self.wire_dtype] if self.secure_aggregation == "off" else HIDDEN

    @property
    def sends_changes(self) -> bool:
        """Whether contributions are changes of what a round began with, not values: who
        reduces a range trains it then, and so has what changes."""
        return self.adds_changes or self.wire.sends_changes or self.fusion != "mean"

    def overlaps(self, split: Split | None, following: Split | None) -> bool:
        """Whether a peer trains the split of the next round while this one is
        exchanged."""
        return self.delay > 0 and split is not None and split == following

    @property
    def founder_key(self) -> bytes:
        """Public key of the founder; empty in a manifest that nobody signed for."""
        return bytes.fromhex(self.founder)

    @property
    def objective_options(self) -> dict[str, object]:
        """What a trainer is told of the objective."""
        told = objective_options(self.objective, self.objective_arguments)
        masks = {"label_mask": self.label_mask}
        return {**told, **masks, "logit_adjustment": self.logit_adjustment}

    @property
    def step_settings(self) -> dict[str, object]:
        """What a trainer is told of its steps."""
        return {
            "rule": self.optimiser,
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "clip": self.clip,
            "clip_relative": self.clip_relative,
            "proximal": self.proximal,
        }

    def learning_rate_at(self, round_index: int) -> float:
        """The rate of one round, the same at every peer."""
        if self.schedule == "constant":
            return self.learning_rate
        turn = math.pi * round_index / self.rounds
        return self.learning_rate * 0.5 * (1.0 + math.cos(turn))

    def epoch(self, round_index: int) -> int:
        """The epoch that a round belongs to."""
        return round_index // self.rounds_per_epoch

    def first_difference(self, other: Manifest) -> str | None:
        """The first key, in alphabetical order, in which two manifests differ.

        Who founded a swarm is not stated by whoever expects one, so it comes last.
        """
        keys = sorted(f.name for f in fields(self) if f.name != "founder")
        for key in [*keys, "founder"]:
            if getattr(self, key) != getattr(other, key):
                return key
        return None


def _check_text(manifest: Manifest) -> None:
    for key in ("name", "model", "method"):
        value = getattr(manifest, key)
        good = isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARACTERS
        check(good and value.isprintable(), key, value, "a short printable text")
    for key, allowed in (
        ("admission", ADMISSIONS),
        ("augment", AUGMENTATIONS),
        ("fusion", FUSIONS),
        ("partition_policy", POLICIES),
        ("network", NETWORKS),
        ("optimiser", OPTIMISERS),
        ("schedule", SCHEDULES),
        ("secure_aggregation", SECURE_AGGREGATION),
        ("weighting", WEIGHTINGS),
        ("wire_dtype", tuple(WIRE)),
    ):
        value = getattr(manifest, key)
        check(value in allowed, key, value, "one of " + ", ".join(allowed))
    check_hex("founder", manifest.founder, "a public key")
    check_hex("pretrained", manifest.pretrained, "the SHA-256 of a checkpoint")
    mask = manifest.label_mask
    check(isinstance(mask, bool), "label_mask", mask, "true or false")


def _check_numbers(manifest: Manifest) -> None:
    whole: dict[str, tuple[int, int]] = {
        "seed": (0, 2**63 - 1),
        "rounds": (1, 1_000_000),
        "rounds_per_epoch": (1, 1_000_000),
        "min_peers": (1, MAX_ROSTER),
        "batch": (1, 1_000_000),
        "local_epochs": (1, 10_000),
        "local_steps": (0, 1_000_000),
        "replication": (1, MAX_REPLICATION),
        "max_staleness": (0, 1_000),
        "delay": (0, 1),
    }
    real: dict[str, tuple[str, Callable[[float], bool]]] = {
        "learning_rate": ("above 0 and up to 1000", lambda x: 0 < x <= 1000),
        "momentum": ("from 0 to below 1", lambda x: 0 <= x < 1),
        "outer_momentum": ("from 0 to below 1", lambda x: 0 <= x < 1),
        "logit_adjustment": ("from 0 to 10", lambda x: 0 <= x <= 10),
        "weight_decay": ("from 0 to 1", lambda x: 0 <= x <= 1),
        "clip": ("from 0, for none, to 1000000", lambda x: 0 <= x <= 1e6),
        "clip_relative": ("from 0, for none, to 1000", lambda x: 0 <= x <= 1000),
        "proximal": ("from 0 to 1000000", lambda x: 0 <= x <= 1e6),
        "deadline_min_s": ("above 0 and up to 86400", lambda x: 0 < x <= 86_400),
        "deadline_max_s": (
            f"from deadline_min_s, {manifest.deadline_min_s}, to 86400",
            lambda x: manifest.deadline_min_s <= x <= 86_400,
        ),
        "deadline_mads": ("above 0 and up to 100", lambda x: 0 < x <= 100),
    }
    for key, (low, high) in whole.items():
        value = getattr(manifest, key)
        good = isinstance(value, int) and not isinstance(value, bool)
        check(
            good and low <= value <= high,
            key,
            value,
            f"a whole number from {low} to {high}",
        )
    for key, (bounds, allowed) in real.items():
        value = getattr(manifest, key)
        good = isinstance(value, float) and math.isfinite(value)
        check(good and allowed(value), key, value, f"a number {bounds}")
