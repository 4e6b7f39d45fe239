"""A peer's profile: this machine, its data and, for a founder, the swarm.

A profile is a TOML file that states only what differs from the defaults below. Unknown
keys are errors with a suggestion; every error names the file and the key. Nothing here
opens a socket, reads data or knows a model: the trainer has the tables of models and of
data kinds. The daemon never writes a profile.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from p2pfusion.daemon.address import parse_address
from p2pfusion.daemon.logs import LOG_FORMATS
from p2pfusion.daemon.memory import parse_size
from p2pfusion.daemon.privacy import PrivacySettings, check_privacy
from p2pfusion.daemon.rates import parse_rate
from p2pfusion.daemon.sections import Place, Table, read_section, suggestion
from p2pfusion.daemon.swarm_settings import SwarmSettings, read_swarm
from p2pfusion.errors import ConfigError
from p2pfusion.limits import MAX_NAME_CHARACTERS, MAX_ROSTER

SECTIONS = ("peer", "data", "swarm")
NOWHERE = "none"
"""What is advertised by a peer that nobody can dial."""

CAPS = ("up_limit", "down_limit")
PARTITION_RULES = ("dirichlet", "shards", "iid", "by-document")
MAX_CPU_THREADS = 1_024
MAX_PROCESSES = 64
MAX_EVERY = 1_000_000
MAX_BATCH = 1_000_000
DEVICE = re.compile(r"(cpu|cuda|mps)(:\d{1,3})?")
PRECISIONS = ("float32", "bfloat16")
"""The trainer's table says the same; a test compares them."""


@dataclass(frozen=True, kw_only=True)
class PeerSettings:
    """``[peer]``: this machine."""

    name: str | None = None
    """What people call this peer; default: the name from ``init``, else the host's."""
    listen: str = "127.0.0.1:0"
    """``host:port`` to listen on; data goes to the next port. Loopback by default, so
    that nothing is offered to a network unasked; port 0 lets the system choose."""
    advertise: str | None = None
    """``host:port`` by which others reach this peer; default: where it listens.
    ``none``: this machine can only dial out, as behind a router that lets nobody in;
    others reach it over connections that it keeps at those whom it can dial."""
    lan: bool = False
    """Announce this peer in the local network, where everybody hears it, and find
    members there whose address has changed."""
    relay: bool = True
    """Whether members that can only dial out may reach each other through this peer.
    What goes through is sealed between them, and counts under the limits below."""
    device: str = "cpu"
    """Where the trainer computes, in torch's words: every machine has a ``cpu``, some a
    ``cuda`` or a ``mps``."""
    processes: int = 1
    """Processes of the trainer, each with the whole sub-model and a part of every
    batch: one for each graphics card from ``device`` on."""
    precision: str = "float32"
    """What products are computed in: ``float32``, or ``bfloat16``, which takes half of
    the memory for activations. Parameters and sums stay ``float32``."""
    batch: int | None = None
    """Examples per step at this peer; default: as many as the swarm says."""
    accumulation: int = 1
    """In so many parts a batch goes through the model; the gradient is that of all of
    it, and activations take as much memory as one part's."""
    checkpointing: bool = False
    """Compute activations again in the backward pass in place of keeping them: less
    memory, a third more time."""
    split_fraction: Fraction = Fraction(1, 2)
    """Part of every width that this peer trains, in (0, 1]; half needs a quarter of the
    weights of a wide layer. ``"auto"``: as much as ``memory`` suffices for, and less
    when that proves too much."""
    memory: str | None = None
    """What the trainer may use, as ``"4 GiB"``, for ``"auto"``; default: half of the
    machine's, the other half is its owner's."""
    checkpoint_every: int = 0
    """Keep the whole model in the home after so many rounds, and after the last one; 0
    is never, because each is pulled from the swarm whole."""
    checkpoints_kept: int = 3
    """How many of them are kept: the newest may be of a model that has gone wrong."""
    checkpoint_directory: str | None = None
    """Where they go instead of the home, as to a disk that others read, too; a relative
    one starts at the profile's directory."""
    cpu_threads: int = 1
    """Threads of each process; one leaves the machine usable for its owner."""
    privacy: PrivacySettings | None = None
    """What this peer's data may tell others; none: whatever its changes tell."""
    log_format: str = "text"
    """Of the log and of standard error: ``text`` for people, ``json`` for programs that
    collect logs, with each event's kind and details beside its words."""
    models: tuple[str, ...] = ()
    """Functions, as ``package.module:function``, that this machine may import as models
    because a swarm trains them; by default none: a name from a peer is no reason to run
    code. A founder's own ``[swarm] model`` is among them."""
    objectives: tuple[str, ...] = ()
    """The same for objectives. A data kind of one's own is named where it is used."""
    up_limit: float | None = None
    """Bulk that this peer sends at most: bytes per second, or ``"2 MB/s"``; default:
    as much as the line takes. Probes and news do not count, and never wait for it."""
    down_limit: float | None = None
    """The same for what it receives."""
    insecure_loopback: bool = False
    """Neither encryption nor authentication, for measuring what they cost; refused
    anywhere but on loopback."""

    @property
    def has_card(self) -> bool:
        """Whether the trainer computes on graphics cards with torch's CUDA."""
        return self.device.startswith("cuda")


@dataclass(frozen=True, kw_only=True)
class PartitionSettings:
    """``[data] partition``: this peer's share of files that all peers have."""

    rule: str | None = None
    """``dirichlet`` draws every class' shares, ``shards`` gives each peer few classes,
    ``iid`` deals evenly, ``by-document`` is for running text. The default is that for
    running text and else ``dirichlet``, for which non-IID results are usually given."""
    alpha: float = 0.5
    """Concentration of ``dirichlet``: smaller is more skewed; 0.5 is the usual test."""
    shards: int = 2
    """Classes per peer for ``shards``; two is the usual hard case."""
    share: str = "0/1"
    """``i/n``: share i, counted from 0, of n; default: everything."""


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """``[data]``: what this peer trains on. It never leaves the machine."""

    kind: str = "digits"
    """Format of the data, or a function that loads it, as ``package.module:function``;
    the default ships with the package."""
    path: str | None = None
    """File or directory; a relative one starts at the profile's directory."""
    partition: PartitionSettings | None = None
    """Which share of it; none: all of it is this peer's own."""
    validation: float = 0.1
    """Part that is held back to measure accuracy each round, in [0, 1)."""
    limit: int | None = None
    """Deal out at most so many training examples in all; none: all there are."""

    def to_data(self) -> Table:
        """Plain values, for the trainer, whose limits name the part they are for."""
        data = dataclasses.asdict(self)
        data["limit"] = None if self.limit is None else {"train": self.limit}
        return data


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One whole profile."""

    peer: PeerSettings = PeerSettings()
    data: DataSettings = DataSettings()
    swarm: SwarmSettings | None = None
    """Only a founder has one; everybody else learns the manifest on joining."""
    source: str = "defaults"
    """Where it comes from, for errors."""
    auto_fraction: bool = False
    """Whether the split fraction follows from the memory, once there is a model."""

    @property
    def models(self) -> tuple[str, ...]:
        """Functions that the trainer may import: those that this profile names."""
        founded = "" if self.swarm is None else self.swarm.model
        return _with_own(self.peer.models, founded)

    @property
    def objectives(self) -> tuple[str, ...]:
        """The same, as objectives."""
        founded = "" if self.swarm is None else self.swarm.objective
        return _with_own(self.peer.objectives, founded)

    def check_data(self) -> None:
        """``ConfigError`` if nothing is where the profile says that the data is."""
        path = self.data.path
        if path is not None and not Path(path).exists():
            raise ConfigError(
                f"{self.source}: key 'path' in [data] is {path!r}: nothing is there",
                hint="a relative path starts at the profile's directory",
            )

    def with_overrides(
        self,
        *,
        name: str | None = None,
        listen: str | None = None,
        advertise: str | None = None,
        lan: bool = False,
        insecure_loopback: bool = False,
        swarm: SwarmSettings | None = None,
    ) -> Profile:
        """This profile with what the command line says instead."""
        if name is not None:
            _check_text(name, "--name")
        if listen is not None:
            parse_address(listen, "--listen")
        if advertise is not None and advertise != NOWHERE:
            parse_address(advertise, "--advertise")
        peer = dataclasses.replace(
            self.peer,
            name=name or self.peer.name,
            listen=listen or self.peer.listen,
            advertise=advertise or self.peer.advertise,
            lan=lan or self.peer.lan,
            insecure_loopback=insecure_loopback or self.peer.insecure_loopback,
        )
        return dataclasses.replace(self, peer=peer, swarm=swarm or self.swarm)


def _with_own(named: tuple[str, ...], founded: str) -> tuple[str, ...]:
    return (*named, founded) if ":" in founded else named


def load_profile(path: Path) -> Profile:
    """The profile in a file; ``ConfigError`` names the file and what is wrong in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file",
            hint="name a profile, for example one of those in peers/",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    profile = parse_profile(text, str(path))
    if profile.swarm is not None:
        swarm = profile.swarm.beside(path.parent)
        profile = dataclasses.replace(profile, swarm=swarm)
    data = dataclasses.replace(profile.data, path=_from(path, profile.data.path))
    directory = _from(path, profile.peer.checkpoint_directory)
    peer = dataclasses.replace(profile.peer, checkpoint_directory=directory)
    return dataclasses.replace(profile, data=data, peer=peer)


def _from(profile: Path, stated: str | None) -> str | None:
    """A path that a profile states, as one that is right wherever a process is."""
    if stated is None:
        return None
    return str((profile.parent / Path(stated).expanduser()).absolute())


def parse_profile(text: str, source: str) -> Profile:
    """The profile in a TOML text; ``source`` names it in errors."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{source}: not a TOML file: {error}",
            hint='texts stand in quotes: name = "lab-a"',
        ) from None
    for section, value in document.items():
        if section not in SECTIONS:
            what = "section" if isinstance(value, dict) else "key"
            raise ConfigError(
                f"{source}: unknown {what} {section!r}",
                hint=suggestion(section, SECTIONS),
            )
        if not isinstance(value, dict):
            raise ConfigError(
                f"{source}: {section!r} must be a section, not a value",
                hint=f"write [{section}] on a line of its own",
            )
    peer = dict(document.get("peer", {}))
    auto_fraction = peer.get("split_fraction") == "auto"
    if auto_fraction:
        del peer["split_fraction"]
    settings = _peer(peer, source)
    if auto_fraction and settings.has_card and settings.memory is None:
        raise ConfigError(
            f"{Place(source, 'peer')('split_fraction')} is 'auto', and nothing says "
            "how much memory the graphics card has for it",
            hint='state it: memory = "22 GiB"',
        )
    return Profile(
        peer=settings,
        auto_fraction=auto_fraction,
        data=_data(document.get("data", {}), source),
        swarm=read_swarm(document["swarm"], source) if "swarm" in document else None,
        source=source,
    )


def parse_share(text: str, where: str) -> tuple[int, int]:
    """Index and count of ``i/n``."""
    index, _, count = text.partition("/")
    digits = all(part.isascii() and part.isdigit() for part in (index, count))
    if not digits or len(text) > 12 or not int(index) < int(count) <= MAX_ROSTER:
        raise ConfigError(
            f"{where} is {text!r}: it must be i/n with i from 0 to n - 1",
            hint="0/4 is the first of four shares",
        )
    return int(index), int(count)


def _peer(table: Table, source: str) -> PeerSettings:
    where = Place(source, "peer")
    rates = {key: parse_rate(table[key], where(key)) for key in CAPS if key in table}
    peer = read_section(PeerSettings, {**table, **rates}, where)
    if not DEVICE.fullmatch(peer.device):
        raise ConfigError(
            f"{where('device')} is {peer.device!r}: it must be cpu, mps, cuda or cuda:N"
        )
    if peer.memory is not None and parse_size(peer.memory) is None:
        raise ConfigError(
            f"{where('memory')} is {peer.memory!r}: it must be a size",
            hint='for example "4 GiB"',
        )
    if peer.name is not None:
        _check_text(peer.name, where("name"))
    if peer.privacy is not None:
        check_privacy(peer.privacy, f"{source}: [peer.privacy]")
    _check_functions(peer.models, where("models"))
    _check_functions(peer.objectives, where("objectives"))
    parse_address(peer.listen, where("listen"))
    if peer.advertise is not None and peer.advertise != NOWHERE:
        parse_address(peer.advertise, where("advertise"))
    _check_choice(peer.log_format, LOG_FORMATS, where("log_format"))
    _check_choice(peer.precision, PRECISIONS, where("precision"))
    if peer.batch is not None:
        _check_range(peer.batch, 1, MAX_BATCH, where("batch"))
    most = peer.batch or MAX_BATCH
    _check_range(peer.accumulation, 1, most, where("accumulation"))
    _check_range(peer.checkpoint_every, 0, MAX_EVERY, where("checkpoint_every"))
    _check_range(peer.checkpoints_kept, 1, MAX_EVERY, where("checkpoints_kept"))
    _check_range(peer.cpu_threads, 1, MAX_CPU_THREADS, where("cpu_threads"))
    _check_range(peer.processes, 1, MAX_PROCESSES, where("processes"))
    return peer


def _check_functions(names: tuple[str, ...], where: str) -> None:
    for name in names:
        _check_text(name, where)
        if ":" not in name:
            raise ConfigError(
                f"{where} has {name!r}: it must be package.module:function",
                hint="what is in the tables, or an entry point, need not be named",
            )


def _data(table: Table, source: str) -> DataSettings:
    where = Place(source, "data")
    data = read_section(DataSettings, table, where)
    _check_text(data.kind, where("kind"))
    if not 0 <= data.validation < 1:
        raise ConfigError(
            f"{where('validation')} is {data.validation}: it must be in [0, 1)",
            hint="0.1 holds back a tenth",
        )
    if data.limit is not None:
        _check_range(data.limit, 1, 2**62, where("limit"))
    if data.partition is not None:
        _check_partition(data.partition, Place(source, "data.partition"))
    return data


def _check_partition(partition: PartitionSettings, where: Place) -> None:
    if partition.rule is not None:
        _check_choice(partition.rule, PARTITION_RULES, where("rule"))
    if not 1e-3 <= partition.alpha <= 1e6:
        raise ConfigError(
            f"{where('alpha')} is {partition.alpha}: it must be from 0.001 to 1000000",
            hint="0.5 is skewed, 100 is even",
        )
    _check_range(partition.shards, 1, 10_000, where("shards"))
    parse_share(partition.share, where("share"))


def _check_text(value: str, where: str) -> None:
    if not 0 < len(value) <= MAX_NAME_CHARACTERS or not value.isprintable():
        raise ConfigError(
            f"{where} is {value!r}: it must be a short printable text",
            hint=f"up to {MAX_NAME_CHARACTERS} characters, and no line breaks",
        )


def _check_choice(value: str, known: Sequence[str], where: str) -> None:
    if value not in known:
        raise ConfigError(
            f"{where} is {value!r}: it must be one of " + ", ".join(known),
            hint=suggestion(value, known),
        )


def _check_range(value: int, low: int, high: int, where: str) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{where} is {value}: it must be from {low} to {high}")
