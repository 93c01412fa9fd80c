"""Puts the activities that other processes import where they find them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
