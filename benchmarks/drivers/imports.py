"""What an import costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from drivers import meter
from drivers.protocol import Figures

SECONDS = 60.0
TIMED = "import time; begun = time.process_time(); import {}; print(time.process_time() - begun)"


def import_times(modules: Sequence[str], times: int) -> Figures:
    """CPU milliseconds above a bare interpreter: the median of some processes, after one that fills the caches."""
    figures: Figures = {}
    for module in modules:
        taken = [_import_seconds(module) for _ in range(times + 1)][1:]
        figures[f"import_ms@{module}"] = meter.percentile(taken, 50) * 1e3
    return figures


def _import_seconds(module: str) -> float:
    command = [sys.executable, "-c", TIMED.format(module)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
    return float(result.stdout)
