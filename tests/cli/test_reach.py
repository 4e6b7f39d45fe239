"""Where the way to an address ends."""

from __future__ import annotations

import socket

from p2pfusion.cli.reach import reach


def test_a_name_that_does_not_resolve() -> None:
    found = reach("no-such-host.invalid", 7788)
    assert (found.step, found.is_good) == ("resolve", False)
    assert "no-such-host.invalid" in found.text and found.hint


def test_a_port_where_nobody_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        found = reach("127.0.0.1", bound.getsockname()[1])
    assert (found.step, found.is_good) == ("connect", False)
    assert "nobody listens" in found.text and found.hint


def test_a_port_that_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = reach("127.0.0.1", server.getsockname()[1])
    assert found.is_good and found.text.endswith("somebody listens")


def test_a_listener_that_takes_nobody_runs_into_the_limit() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        filling = [socket.socket() for _ in range(4)]
        try:
            for channel in filling:
                channel.setblocking(False)
                channel.connect_ex(address)
            found = reach(*address, timeout_s=0.2)
        finally:
            for channel in filling:
                channel.close()
    assert (found.step, found.is_good) == ("connect", False)
    assert "no answer within 0.2 s" in found.text and "firewall" in found.hint


def test_a_place_without_a_way() -> None:
    found = reach("fe80::1%nowhere", 7788)
    assert not found.is_good and found.hint
