"""What ``status`` says, as OpenMetrics over HTTP for Prometheus.

A thread of its own serves one scrape after another. It asks the daemon over the local
socket, as the command line does, so it shares nothing with the loop, and a scrape costs
the loop one ``status``. What is unknown is left out: no sample says more than
``status`` does. The only file that imports prometheus_client, and itself imported only
if somebody wants metrics.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
)
from prometheus_client.exposition import MetricsHandler
from prometheus_client.registry import Collector

from p2pfusion.daemon.address import listening, write_address
from p2pfusion.daemon.diagnosis import STATES
from p2pfusion.errors import P2PFusionError

Table = Mapping[str, object]
Ask = Callable[[], Table]

SILENT_TIMEOUT_S = 5.0
"""Who connects and says nothing for so long is hung up on: others wait behind it."""

log = logging.getLogger("p2pfusion")


@dataclass(frozen=True)
class Number:
    """A number of ``status``, by its place, as a metric."""

    name: str
    place: tuple[str, str]
    text: str
    is_counter: bool = False


NUMBERS = (
    Number("uptime_seconds", ("daemon", "uptime_s"), "Since the daemon's start."),
    Number("split_fraction", ("self", "split_fraction"), "Part of every width."),
    Number("samples", ("self", "samples"), "Training examples of this peer."),
    Number("swarm_rounds", ("swarm", "rounds"), "Rounds that the swarm will train."),
    Number("swarm_members", ("roster", "members"), "Members that rounds count on."),
    Number("swarm_epoch", ("roster", "epoch"), "Epoch of the roster."),
    Number("round", ("round", "number"), "The round that this peer is in."),
    Number("round_age_seconds", ("round", "started_s_ago"), "Since its beginning."),
    Number(
        "round_deadline_seconds",
        ("round", "deadline_in_s"),
        "Until the round goes on without those that it waits for.",
    ),
    Number("sent_bytes", ("traffic", "sent_bytes"), "Sent to peers.", True),
    Number("received_bytes", ("traffic", "received_bytes"), "From peers.", True),
    Number("relayed_bytes", ("traffic", "relayed_bytes"), "Between others.", True),
    Number("full_model_bytes", ("traffic", "full_model_bytes"), "Of all parameters."),
    Number("sub_model_bytes", ("traffic", "sub_model_bytes"), "Of what it trains now."),
    Number("store_version_min", ("store", "version_min"), "Of its oldest values."),
    Number("store_version_max", ("store", "version_max"), "Of its newest values."),
    Number(
        "ever_trained_ratio",
        ("store", "ever_trained_fraction"),
        "Part of the model that somebody has trained.",
    ),
    Number(
        "replication_min", ("store", "replication_min"), "Fewest copies of a range."
    ),
    Number("stale_ranges", ("store", "stale_ranges"), "Ranges of an older version."),
    Number("loss", ("metrics", "loss"), "Training loss of the last round."),
    Number(
        "accuracy_ratio", ("metrics", "accuracy"), "On this peer's own held-out data."
    ),
    Number("encrypted", ("security", "encrypted"), "1 if connections are encrypted."),
    Number("pending_peers", ("security", "pending"), "Strangers that wait."),
    Number("revoked_peers", ("security", "revoked"), "Peers that were put out."),
    Number(
        "quarantined_peers",
        ("security", "quarantined"),
        "Peers of which nothing is used here.",
    ),
)


def families(status: Table) -> Iterator[Metric]:
    """The metrics of one answer to ``status``."""
    daemon = _part(status, "daemon")
    version = {"version": str(daemon.get("version"))}
    yield InfoMetricFamily("p2pfusion_build", "Version, as a label.", version)
    code = _part(status, "state").get("code")
    states = {state: state == code for state in STATES}
    text = "1 for the state that the daemon is in."
    yield StateSetMetricFamily("p2pfusion_state", text, states)
    for number in NUMBERS:
        value = _part(status, number.place[0]).get(number.place[1])
        if isinstance(value, int | float):
            yield _family(number, float(value))
    waits = _part(status, "round").get("waiting_for")
    waited = len(waits) if isinstance(waits, list) else 0
    yield GaugeMetricFamily("p2pfusion_waiting_for", "How many are waited for.", waited)
    yield _troubles(status)
    yield _refused(status)


def _family(number: Number, value: float) -> Metric:
    name = f"p2pfusion_{number.name}"
    if number.is_counter:
        return CounterMetricFamily(name, number.text, value)
    return GaugeMetricFamily(name, number.text, value)


def _troubles(status: Table) -> Metric:
    """How many troubles of each code there are: a swarm may have two silent peers."""
    text = "How much is not as it should be, by level and code."
    found = GaugeMetricFamily("p2pfusion_troubles", text, labels=("level", "code"))
    counts: dict[tuple[str, str], int] = {}
    health = status.get("health")
    for row in health if isinstance(health, list) else []:
        key = (str(row["level"]), str(row["code"]))
        counts[key] = counts.get(key, 0) + 1
    for key, count in sorted(counts.items()):
        found.add_metric(key, count)
    return found


def _refused(status: Table) -> Metric:
    text = "What was turned away, by reason; at most 64 that peers cause."
    found = CounterMetricFamily("p2pfusion_refused", text, labels=("reason",))
    for reason, count in sorted(_part(_part(status, "security"), "refused").items()):
        found.add_metric((reason,), float(str(count)))
    return found


def _part(data: Table, key: str) -> Table:
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


class MetricsServer:
    """Answers scrapes at an address until it is closed."""

    def __init__(self, host: str, port: int, ask: Ask) -> None:
        """``ask`` gives the answer to ``status``; raises ``ConflictError`` if the port
        is taken, ``ConfigError`` for an address that is not this machine's."""
        self._server = _listen(host, port, ask)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Where to scrape."""
        host, port = self._server.server_address[:2]
        return f"http://{write_address(str(host), port)}/metrics"

    def close(self) -> None:
        """Ends it; a scrape that is under way is finished or fails."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Asking(Collector):
    """Asks anew for every scrape."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def collect(self) -> Iterator[Metric]:
        return families(self._ask())


class _Server(socketserver.TCPServer):
    """One connection at a time."""

    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A scrape that fails is the scraper's to notice, and a line in the log."""
        log.warning("a scrape of the metrics failed: %r", sys.exc_info()[1])


class _Server6(_Server):
    address_family = socket.AF_INET6


def _listen(host: str, port: int, ask: Ask) -> _Server:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Asking(ask))
    fields = {"registry": registry, "timeout": SILENT_TIMEOUT_S}
    handler = type("Scrape", (_Scrape,), fields)
    with listening("--metrics", host, port, example="127.0.0.1:9464"):
        return (_Server6 if ":" in host else _Server)((host, port), handler)


class _Scrape(MetricsHandler):
    """A scrape of a daemon that does not answer is answered with 503 and its words."""

    def do_GET(self) -> None:
        try:
            super().do_GET()
        except P2PFusionError as error:
            self.send_error(503, "the daemon does not answer", str(error))
