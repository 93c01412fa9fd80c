"""Many calls at once, within a bound; for any system."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

A = TypeVar("A")
T = TypeVar("T")


async def bounded(at_once: int, call: Callable[[A], Awaitable[T]], arguments: Iterable[A]) -> list[T]:
    """The results of ``call`` for all arguments, at most ``at_once`` calls at a time.

    As many tasks, and not one for each argument: thousands of those would be garbage that is the suite's own.
    """
    results: dict[int, T] = {}
    numbered = enumerate(arguments)

    async def work() -> None:
        for number, argument in numbered:
            results[number] = await call(argument)

    await asyncio.gather(*(work() for _ in range(at_once)))
    return [results[number] for number in range(len(results))]
