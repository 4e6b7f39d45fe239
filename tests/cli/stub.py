"""A daemon that says what a test tells it to, on a real local socket."""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from p2pfusion.daemon.client import CONTROL_SOCKET
from p2pfusion.daemon.control import ControlServer, Request

Answer = Callable[[Request], None]


@contextmanager
def answering(home: Path, answers: Mapping[str, object]) -> Iterator[list[Request]]:
    """Answers commands from a table while the block runs; gives what was asked.

    A value is the answer's data; a function is called with the request.
    """
    server = ControlServer(home / CONTROL_SOCKET)
    asked: list[Request] = []
    waking, wake = os.pipe()
    thread = threading.Thread(target=_serve, args=(server, answers, asked, waking))
    thread.start()
    try:
        yield asked
    finally:
        os.write(wake, b"x")
        thread.join()
        server.close()
        os.close(wake)
        os.close(waking)


def _serve(
    server: ControlServer,
    answers: Mapping[str, object],
    asked: list[Request],
    waking: int,
) -> None:
    while True:
        with selectors.PollSelector() as selector:
            selector.register(waking, selectors.EVENT_READ)
            for descriptor, interest in server.descriptors().items():
                selector.register(descriptor, interest)
            ready = [key.fd for key, _ in selector.select()]
        if waking in ready:
            return
        for descriptor in ready:
            for request in server.ready(descriptor):
                asked.append(request)
                answer = answers[request.command]
                if callable(answer):
                    answer(request)
                else:
                    request.reply(answer)
