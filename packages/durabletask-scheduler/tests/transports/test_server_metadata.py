"""Metadata that gRPC's own clients do not send, as raw HTTP/2."""

from __future__ import annotations

import logging
import socket
import struct

import pytest
from durabletask_scheduler import Scheduler

WAIT = 10
HEADERS, SETTINGS, DATA, END_OF_STREAM, END_OF_HEADERS = 1, 4, 0, 1, 4


def frame(kind, flags, stream, content=b""):
    return struct.pack(">I", len(content))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + content


def hello(task_hub):
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/TaskHubSidecarService/Hello",
        b":authority": b"scheduler",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
        b"taskhub": task_hub,
    }
    block = b"".join(b"\0" + bytes([len(k)]) + k + bytes([len(v)]) + v for k, v in fields.items())
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)
    return preface + frame(HEADERS, END_OF_HEADERS, 1, block) + frame(DATA, END_OF_STREAM, 1, b"\0" * 5)


@pytest.mark.parametrize("task_hub", [b"caf\xc3\xa9", b"a\nb"])
def test_a_task_hub_that_cannot_be_sent_back_is_refused_like_any_unknown_one(task_hub, caplog):
    with Scheduler() as scheduler:
        port = scheduler.serve("127.0.0.1", 0)
        with socket.create_connection(("127.0.0.1", port), WAIT) as connection:
            connection.sendall(hello(task_hub))
            answer = b""
            while b"grpc-message" not in answer:
                answer += connection.recv(65536) or b"grpc-message (the connection was closed)"
    not_found = b"\x0bgrpc-status\x015"
    assert not_found in answer
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
