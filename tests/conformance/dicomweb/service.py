"""A real HTTP server around an application, and multipart bodies as a sender builds them."""

import threading
import time
from contextlib import contextmanager

import uvicorn

BOUNDARY = "made-by-a-test"
MULTIPART_DICOM = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


def multipart_body(*files):
    """Return the body that carries these files."""
    parts = [b"\r\n--%s\r\nContent-Type: application/dicom\r\n\r\n%s" % (BOUNDARY.encode(), file) for file in files]
    return b"".join(parts) + b"\r\n--%s--" % BOUNDARY.encode()


def parse_parts(response):
    """Return [(headers, body)] of a multipart answer, by the rules of RFC 2046 and none of our own code."""
    kind, _, rest = response.headers["content-type"].partition("; boundary=")
    assert kind.startswith("multipart/related; type=")
    pieces = (b"\r\n" + response.content).split(b"\r\n--" + rest.encode())
    assert pieces[0].strip() == b""
    assert pieces[-1] == b"--"
    parts = []
    for piece in pieces[1:-1]:
        head, _, body = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        parts.append((dict(line.split(": ", 1) for line in head.decode().split("\r\n")), body))
    return parts


@contextmanager
def serving(app, **options):
    """Serve an ASGI application on a free loopback port; yields its address. ``options`` are uvicorn's."""
    options = {"ws": "none"} | options
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="off", **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.005)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
