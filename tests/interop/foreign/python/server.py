"""The official SDK's in-memory server until it is ended: ``python server.py PORT``."""

from __future__ import annotations

import signal
import sys
import threading

from durabletask.testing import create_test_backend


def main(port: str) -> None:
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    backend = create_test_backend(port=int(port))
    print("ready", flush=True)
    ended.wait()
    backend.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
