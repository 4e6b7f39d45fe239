"""What Prometheus is told: the numbers of ``status``, each under a documented name."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from p2pfusion.daemon.metrics import NUMBERS, MetricsServer, families
from p2pfusion.errors import ConfigError, ConflictError, NotRunningError

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = sorted((ROOT / "tests" / "golden" / "status").glob("*.json"))
NAME = re.compile(r"\bp2pfusion_[a-z_]+")


def status(path: Path) -> dict[str, object]:
    found = json.loads(path.read_text())
    assert isinstance(found, dict)
    return found


def exposed(
    told: Mapping[str, object],
) -> dict[str, list[tuple[dict[str, str], float]]]:
    """The samples of an answer after the way through OpenMetrics and back, by name."""

    class Told(Collector):
        def collect(self) -> Iterator[Metric]:
            return families(told)

    registry = CollectorRegistry()
    registry.register(Told())
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_number_is_that_of_status_and_unknown_is_left_out(path: Path) -> None:
    told = status(path)
    samples = exposed(told)
    for number in NUMBERS:
        part = told[number.place[0]]
        value = part.get(number.place[1]) if isinstance(part, dict) else None
        name = f"p2pfusion_{number.name}" + "_total" * number.is_counter
        if value is None:
            assert name not in samples
        else:
            assert samples[name] == [({}, float(value))], name
    states = {
        labels["p2pfusion_state"] for labels, on in samples["p2pfusion_state"] if on
    }
    assert states == {told["state"]["code"]}  # type: ignore[index]
    health = told["health"]
    assert isinstance(health, list)
    counted = sum(value for _, value in samples.get("p2pfusion_troubles", []))
    assert counted == len(health)


def names_exposed() -> set[str]:
    found = {name for path in GOLDEN for name in exposed(status(path))}
    refused = exposed({"security": {"refused": {"bad-mac": 2}}})
    assert refused["p2pfusion_refused_total"] == [({"reason": "bad-mac"}, 2.0)]
    return found | set(refused)


def test_the_page_documents_every_metric_and_no_other() -> None:
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `p2p")]
    documented = {row[1].strip(" `") for row in rows}
    numbers = {f"p2pfusion_{n.name}" + "_total" * n.is_counter for n in NUMBERS}
    assert documented == names_exposed() | numbers
    places = {row[1].strip(" `"): row[3].strip(" `") for row in rows}
    for number in NUMBERS:
        name = f"p2pfusion_{number.name}" + "_total" * number.is_counter
        assert places[name] == ".".join(number.place)
    by_hand = (ROOT / "docs" / "metrics.md").read_text()
    assert set(NAME.findall(by_hand)) <= documented


def test_the_dashboard_asks_for_what_there_is() -> None:
    dashboard = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
    numbers = {f"p2pfusion_{n.name}" + "_total" * n.is_counter for n in NUMBERS}
    known = names_exposed() | numbers
    asked: set[str] = set()
    for panel in dashboard["panels"]:
        assert panel["title"] and panel["targets"]
        for target in panel["targets"]:
            names = set(NAME.findall(target["expr"]))
            assert names and names <= known, target["expr"]
            asked |= names
    assert {"p2pfusion_state", "p2pfusion_troubles", "p2pfusion_round"} <= asked
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(
        dashboard["panels"]
    )


# --- The server ----------------------------------------------------------------------


def get(url: str, accept: str = "*/*") -> tuple[int, str, str]:
    """Status, kind of content and text of one scrape."""
    request = urllib.request.Request(url, headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request) as answer:
            text = answer.read().decode()
            return answer.status, answer.headers["Content-Type"], text
    except urllib.error.HTTPError as error:
        return error.code, "", error.read().decode()


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    told = status(GOLDEN[0])
    with contextlib.closing(MetricsServer("127.0.0.1", 0, lambda: told)) as found:
        yield found


def test_a_scrape_in_both_formats(server: MetricsServer) -> None:
    code, kind, text = get(server.url, "application/openmetrics-text; version=1.0.0")
    assert code == 200 and kind.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    code, kind, text = get(server.url)
    assert code == 200 and kind.startswith("text/plain")
    assert "\np2pfusion_uptime_seconds " in text


def test_a_daemon_that_does_not_answer_is_no_sample_and_no_crash() -> None:
    def nobody() -> Mapping[str, object]:
        raise NotRunningError("no daemon runs in <here>")

    with contextlib.closing(MetricsServer("127.0.0.1", 0, nobody)) as server:
        for _ in range(2):
            code, _, text = get(server.url)
            assert code == 503 and "no daemon runs in &lt;here&gt;" in text


def test_garbage_is_answered_and_does_not_end_the_server(
    server: MetricsServer,
) -> None:
    host, _, port = server.url.split("/")[2].partition(":")
    for garbage in (b"\x00\xff\n\n", b"GET /\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b""):
        with socket.create_connection((host, int(port))) as channel:
            channel.sendall(garbage)
            channel.shutdown(socket.SHUT_WR)
            while channel.recv(4096):
                pass
    assert get(server.url)[0] == 200


def test_only_reading_is_possible(server: MetricsServer) -> None:
    host = server.url.split("/")[2]
    connection = http.client.HTTPConnection(host)
    connection.request("DELETE", "/metrics")
    assert connection.getresponse().status == 501
    connection.close()


def test_a_port_that_is_taken_and_an_address_that_is_not_ours(
    server: MetricsServer,
) -> None:
    port = int(server.url.split("/")[2].split(":")[1])
    with pytest.raises(ConflictError, match="in use"):
        MetricsServer("127.0.0.1", port, dict)
    with pytest.raises(ConfigError, match="cannot listen"):
        MetricsServer("192.0.2.1", 0, dict)


def test_closing_frees_the_port_and_ends_the_thread() -> None:
    server = MetricsServer("127.0.0.1", 0, dict)
    port = int(server.url.split("/")[2].split(":")[1])
    server.close()
    assert all(thread.name != "metrics" for thread in threading.enumerate())
    MetricsServer("127.0.0.1", port, dict).close()


def test_the_newer_protocol_of_addresses() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with contextlib.closing(
        MetricsServer("::1", 0, lambda: status(GOLDEN[0]))
    ) as server:
        assert server.url.startswith("http://[::1]:")
        assert get(server.url)[0] == 200
