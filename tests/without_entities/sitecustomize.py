"""Hides durabletask-entities from an interpreter with this folder on its path, as if it were not installed."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DISTRIBUTION = "durabletask-entities"
find_distributions = importlib.metadata.MetadataPathFinder.find_distributions


def others(*args: Any, **kwargs: Any) -> Iterable[importlib.metadata.Distribution]:
    return (found for found in find_distributions(*args, **kwargs) if found.metadata["Name"] != DISTRIBUTION)


# The members of the workspace are installed editable, each by its own folder on the path.
sys.path[:] = [entry for entry in sys.path if DISTRIBUTION not in Path(entry).parts]
importlib.metadata.MetadataPathFinder.find_distributions = staticmethod(others)  # type: ignore[method-assign]
