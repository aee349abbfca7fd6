"""What members of a gang ask of their connections, on the kernel's own."""

from __future__ import annotations

import socket
import sys

import pytest

from cyxwiz.compute.gang.traffic import bytes_sent, connections, end_silence

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_connections_end_when_the_other_machine_is_silent() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as near:
        far, _ = listener.accept()
        with far:
            seen = {each.getsockname() for each in connections()}
            assert {near.getsockname(), far.getsockname()} <= seen
            assert end_silence(40.0) >= 2
            for end in (near, far):
                assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                idle, between, probes, unacknowledged = (
                    end.getsockopt(socket.IPPROTO_TCP, option)
                    for option in (
                        socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT,
                    )
                )  # fmt: skip
                assert idle + probes * between == 40
                assert unacknowledged == 40_000
            before = bytes_sent()
            near.sendall(b"x" * 1000)
            assert far.recv(1000)
            assert before is not None
            assert bytes_sent() == before + 1000
