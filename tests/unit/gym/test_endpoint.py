"""Requests to a server that may send anything, in raw bytes over real sockets."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress

import pytest

from marketplace.gym import endpoint
from marketplace.gym.endpoint import Endpoint
from marketplace.protocol.errors import SamplerError

JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
ANSWER = b'{"choices": []}'


@pytest.fixture
def answering() -> Iterator[Callable[..., Endpoint]]:
    """Makes endpoints of servers that send given bytes, whatever they are asked."""
    with ExitStack() as stack:

        def start(sent: Iterable[bytes], **settings) -> Endpoint:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve() -> None:
                with suppress(OSError):  # the listener is closed, or the caller hung up
                    while True:
                        connection, _ = listener.accept()
                        with connection, suppress(OSError):
                            asked = b""
                            while not asked.endswith(b"{}"):  # closing on what is unread resets
                                asked += connection.recv(65536)
                            for part in sent:
                                connection.sendall(part)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            stack.callback(thread.join, 5)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            settings = {"timeout": 20, "retries": 0, "wait": lambda seconds: None} | settings
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
            made = Endpoint(url, "m", **settings)
            stack.callback(made.close)
            return made

        yield start


def _told(length: int) -> bytes:
    return b"Content-Length: %d\r\n\r\n" % length


def test_packed_and_chunked_answers_are_read_whole(answering):
    packed = gzip.compress(ANSWER)
    sent = JSON + b"Content-Encoding: gzip\r\n" + _told(len(packed)) + packed
    assert answering([sent]).post("/completions", {}).content == ANSWER
    sent = JSON + b"Transfer-Encoding: chunked\r\n\r\nf\r\n" + ANSWER + b"\r\n0\r\n\r\n"
    assert answering([sent]).post("/completions", {}).content == ANSWER


def test_an_answer_that_never_ends_is_not_read_to_its_end(answering, monkeypatch):
    monkeypatch.setattr(endpoint, "MAX_ANSWER_BYTES", 1 << 20)
    sent: list[bytes] = []

    def endless() -> Iterator[bytes]:
        yield JSON + _told(1 << 40)
        while True:
            sent.append(b" " * 65536)
            yield sent[-1]

    with pytest.raises(SamplerError, match="more than 1,048,576 bytes"):
        answering(endless()).post("/completions", {})
    assert len(sent) < 200  # what the sockets hold, beside what was read
    bomb = gzip.compress(b" " * (64 << 20))
    with pytest.raises(SamplerError, match="more than 1,048,576 bytes"):
        answering([JSON + b"Content-Encoding: gzip\r\n" + _told(len(bomb)) + bomb]).post("/c", {})


def test_an_answer_that_drips_in_is_given_up_in_time(answering):
    ticks = iter(range(0, 1_000, 9))
    drips = [JSON + _told(1_000_000), *[b" " * 50_000] * 20]
    slow = answering(drips, clock=lambda: float(next(ticks)))
    with pytest.raises(SamplerError, match="no whole answer within 20 s"):
        slow.post("/completions", {})


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (JSON + b"Content-Encoding: gzip\r\n" + _told(5) + b"abcde", "DecodingError"),
        (JSON + _told(500) + b'{"choi', "RemoteProtocolError"),
        (b"\x00\x01\r\n\r\n", "RemoteProtocolError"),
        (b"HTTP/1.1 400 x\r\nContent-Type: text/plain; charset=hex\r\n" + _told(2) + b"no", "no"),
        (b"HTTP/1.1 400 x\r\nContent-Type: a/b; charset=rot13\r\n" + _told(2) + b"no", "no"),
    ],
)
def test_what_is_no_answer_is_an_error_that_was_expected(answering, sent, words):
    with pytest.raises(SamplerError, match=words):
        answering([sent]).post("/completions", {})


@pytest.mark.parametrize(
    ("asked", "seconds"), [("nan", 1.0), ("inf", 30.0), ("-3", 0.0), ("7", 7.0), ("soon", 1.0)]
)
def test_a_pause_that_the_server_asks_for_is_a_sensible_one(answering, asked, seconds):
    waited: list[float] = []
    sent = b"HTTP/1.1 503 x\r\nRetry-After: " + asked.encode() + b"\r\n" + _told(0)
    with pytest.raises(SamplerError, match="failed 2 times"):
        answering([sent], retries=1, wait=waited.append).post("/completions", {})
    assert waited == [seconds]


def test_nobody_who_gave_up_tries_again(answering):
    waited: list[float] = []
    served = answering([b"HTTP/1.1 503 x\r\n" + _told(0)], retries=3, wait=waited.append)
    with pytest.raises(SamplerError, match="failed 1 times"):
        served.post("/completions", {}, given_up=lambda: True)
    assert waited == []
