"""A worker with the catalogue's orchestrators and activities until it is ended: ``python worker.py ADDRESS``."""

from __future__ import annotations

import os
import signal
import sys
import threading

import functions
from stage import Stage


def main(address: str) -> None:
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with Stage(address).hub_worker("default", *functions.ACTIVITIES, *functions.ORCHESTRATORS) as worker:
        if os.environ.get("INTEROP_FILTERS"):
            worker.use_work_item_filters()
        worker.start()
        print("ready", flush=True)
        ended.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
