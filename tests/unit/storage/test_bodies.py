"""Bodies over sockets of our own: the plain answer and its socket's next use; nothing at all of any other answer."""

import socket
import threading
from contextlib import contextmanager, suppress

import pytest

from storage.bodies import Bodies

BODY = bytes(range(256)) * 4000


def answer_with(body: bytes, *fields: str, status: str = "206 Partial Content", start: int = 0) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", f"Content-Range: bytes {start}-9/*", *fields]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def serving(*answers, pieces: int = 1):
    """Serve these answers, one a request, in pieces; each connection's requests are noted in a list of its own."""
    left = iter(answers)
    noted: list[list[bytes]] = []

    def serve(connection: socket.socket, requests: list[bytes]) -> None:
        with suppress(OSError), connection:  # a client that had enough
            while request := connection.recv(4096):
                requests.append(request)
                answer = next(left)
                if answer is None:
                    return
                step = -(-len(answer) // pieces)
                for at in range(0, len(answer), step):
                    connection.sendall(answer[at : at + step])

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            noted.append([])
            threading.Thread(target=serve, args=(connection, noted[-1]), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/bucket/"
        yield Bodies(url, connect_timeout_seconds=5, read_timeout_seconds=0.5), noted
        listener.shutdown(socket.SHUT_RDWR)
    accepting.join()


def test_a_range_is_asked_for_and_one_socket_serves_one_thread():
    with serving(answer_with(BODY), answer_with(b"next", start=10)) as (bodies, noted):
        assert bodies.get("/bucket/a", {"Host": "h"}, 0, len(BODY)) == BODY
        assert bodies.get("/bucket/b", {"Host": "h"}, 10, 14) == b"next"
    assert noted == [
        [
            b"GET /bucket/a HTTP/1.1\r\nRange: bytes=0-%d\r\nHost: h\r\n\r\n" % (len(BODY) - 1),
            b"GET /bucket/b HTTP/1.1\r\nRange: bytes=10-13\r\nHost: h\r\n\r\n",
        ]
    ]


@pytest.mark.parametrize("pieces", [1, 7, 300])
def test_how_an_answer_arrives_makes_no_difference(pieces):
    body = BODY[:20_000]
    with serving(answer_with(body), answer_with(b"", start=3), pieces=pieces) as (bodies, noted):
        assert bodies.get("/a", {}, 0, len(body)) == body
        assert bodies.get("/a", {}, 3, 4) == b""
    assert len(noted) == 1


@pytest.mark.parametrize(
    "answer",
    [
        answer_with(b"whole", status="200 OK"),
        answer_with(b"<Error/>", status="404 Not Found"),
        answer_with(b"", status="503 Service Unavailable"),
        answer_with(b"short", start=4),
        answer_with(b"more than was asked for"),
        answer_with(b"right", "Content-Length: 4"),
        answer_with(b"right", "Connection: close"),
        answer_with(b"right", "Content-Encoding: gzip"),
        answer_with(b"5\r\nright\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        answer_with(b"right")[:-2],
        b"HTTP/1.1 206 OK\r\nContent-Range: bytes 0-4/5\r\n\r\nright",
        b"HTTP/1.1 206 OK\r\nContent-Length: -5\r\nContent-Range: bytes 0-4/5\r\n\r\nright",
        b"SSH-2.0-something\r\n\r\n",
        b"x" * 100_000,
        None,
    ],
    ids=range(15),
)
def test_any_other_answer_is_none_and_its_socket_is_not_used_again(answer):
    with serving(answer, answer_with(b"right")) as (bodies, noted):
        assert bodies.get("/a", {}, 0, 5) is None
        assert bodies.get("/b", {}, 0, 5) == b"right"
    assert len(noted) == 2


def test_a_service_that_is_silent_or_away_is_waited_for_no_longer_than_was_said():
    with serving(b"HTTP/1.1 206 OK\r\n") as (bodies, _):
        assert bodies.get("/a", {}, 0, 5) is None
    assert bodies.get("/a", {}, 0, 5) is None, "nobody listens any more"


def test_a_socket_that_says_what_nobody_asked_for_is_not_used_again():
    wrong = answer_with(b"wrong")
    with serving(answer_with(b"right") + wrong, answer_with(b"right")) as (bodies, noted):
        assert bodies.get("/a", {}, 0, 5) == b"right"
        assert bodies.get("/b", {}, 0, 5) == b"right"
    assert len(noted) == 2
