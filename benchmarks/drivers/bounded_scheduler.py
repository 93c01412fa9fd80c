"""Our scheduler in a process of its own that keeps few orchestrations in memory; ``serve`` has no option for that.

    python -m drivers.bounded_scheduler DEPLOYMENT FOLDER

Says where it listens, and ends when its parent ends it.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from drivers.hosts import Deployment, new_scheduler


def main() -> None:
    with new_scheduler(Deployment.parse(sys.argv[1]), Path(sys.argv[2])) as scheduler:
        sys.stdout.write(f"ready on http://127.0.0.1:{scheduler.serve(port=0)}\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main()
