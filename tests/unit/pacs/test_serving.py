"""What holds of the port that HTTP is served on."""

import socket

from pacs.app.web import listen
from pacs.config import HttpSettings, Settings


def test_no_answer_waits_for_the_acknowledgement_of_its_first_segment():
    with (
        listen(Settings(http=HttpSettings(port=0))) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
