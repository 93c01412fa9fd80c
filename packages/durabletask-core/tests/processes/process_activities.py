"""Activities that other processes import."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from durabletask import task
from durabletask.serialization import JsonDataConverter


class Doubling(JsonDataConverter):
    """Writes every number twice as large."""

    def serialize(self, value: Any) -> str | None:
        return super().serialize(value * 2 if isinstance(value, int) else value)


class Properties:
    def get_exception_properties(self, exception: Exception) -> dict[str, Any]:
        return {"length": len(str(exception))}


def process_id(ctx: task.ActivityContext, given: Any) -> dict[str, Any]:
    return {"pid": os.getpid(), "given": given, "task": ctx.task_id, "instance": ctx.orchestration_id}


def length(ctx: task.ActivityContext, text: str) -> int:
    return len(text)


def fail(ctx: task.ActivityContext, message: str) -> None:
    raise ValueError(message)


def leave(ctx: task.ActivityContext, code: int) -> None:
    sys.exit(code)


def exit_at_once(ctx: task.ActivityContext, code: int) -> None:
    os._exit(code)


def kill_itself(ctx: task.ActivityContext, number: int) -> None:
    os.kill(os.getpid(), number)


def wait_for_file(ctx: task.ActivityContext, paths: list[str]) -> int:
    """Make the first file, wait for the second."""
    Path(paths[0]).touch()
    while not Path(paths[1]).exists():
        time.sleep(0.005)
    return os.getpid()


def ignore_termination(ctx: task.ActivityContext, path: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(path).with_suffix(".new").write_text(str(os.getpid()))
    Path(path).with_suffix(".new").rename(path)
    while True:
        time.sleep(60)


class Tools:
    def method(self, ctx: task.ActivityContext, text: str) -> str:
        return text

    @classmethod
    def of_class(cls, ctx: task.ActivityContext, text: str) -> str:
        return cls.__name__ + text

    @staticmethod
    def static(ctx: task.ActivityContext, text: str) -> str:
        return text
