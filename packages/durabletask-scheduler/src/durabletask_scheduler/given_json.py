"""JSON that callers hand in."""

from __future__ import annotations

import json
from typing import Any


def parse(text: str | bytes) -> Any:
    """What the JSON says.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or has half of a surrogate pair, which no store takes.
    """
    try:
        value = json.loads(text)
        # JSON may escape what UTF-8 cannot hold.
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError("a text in it has half of a surrogate pair") from error
    return value
