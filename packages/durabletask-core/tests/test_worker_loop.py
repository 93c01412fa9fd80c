"""The event loop of a worker's async code, as threads that wait for a coroutine use it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest
from durabletask._worker.loop import LoopThread

WAIT = 10


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    loop = LoopThread("TestLoop", logging.getLogger("test"))
    yield loop
    loop.close()


async def running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_all_coroutines_share_one_loop(loop: LoopThread) -> None:
    """lesson 43"""
    seen: list[asyncio.AbstractEventLoop] = []
    done = threading.Event()

    async def submitted() -> None:
        seen.append(asyncio.get_running_loop())
        done.set()

    loop.submit(submitted)
    assert done.wait(WAIT)
    assert loop.run(running_loop()) is seen[0] is loop.run(running_loop())


@pytest.mark.parametrize("error", [ValueError("v"), SystemExit(3), asyncio.CancelledError()])
def test_what_a_coroutine_raises_reaches_its_waiter_and_not_the_loop(loop: LoopThread, error: BaseException) -> None:
    async def failing() -> None:
        raise error

    with pytest.raises(type(error)):
        loop.run(failing())
    assert loop.run(running_loop()).is_running()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_a_task_of_a_coroutine_raises_does_not_end_the_loop(loop: LoopThread, error: BaseException) -> None:
    """Lesson 37: asyncio lets both of them out of the loop."""

    async def failing() -> None:
        raise error

    async def waiting() -> None:
        await asyncio.ensure_future(failing())

    with pytest.raises(type(error)):
        loop.run(waiting())
    assert loop.run(running_loop()).is_running()


def test_nobody_waits_for_a_loop_that_is_closed(loop: LoopThread) -> None:
    begun = threading.Event()
    outcomes: list[BaseException] = []

    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    def wait() -> None:
        try:
            loop.run(endless())
        except BaseException as error:
            outcomes.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert begun.wait(WAIT)
    loop.close()
    waiter.join(WAIT)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError]
    with pytest.raises(CancelledError):
        loop.run(running_loop())
