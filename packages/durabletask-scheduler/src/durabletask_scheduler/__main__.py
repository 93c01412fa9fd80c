"""``python -m durabletask_scheduler``."""

import sys

from durabletask_scheduler.cli import main

if __name__ == "__main__":
    sys.exit(main())
