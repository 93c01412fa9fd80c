"""Many calls at once, within a bound; for any system."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

A = TypeVar("A")
T = TypeVar("T")


async def bounded(at_once: int, call: Callable[[A], Awaitable[T]], arguments: Iterable[A]) -> list[T]:
    """The results of ``call`` for all arguments, at most ``at_once`` calls at a time."""
    slots = asyncio.Semaphore(at_once)

    async def one(argument: A) -> T:
        async with slots:
            return await call(argument)

    return list(await asyncio.gather(*map(one, arguments)))
