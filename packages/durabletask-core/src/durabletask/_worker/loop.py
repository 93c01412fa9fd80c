"""One asyncio loop on one thread, for ``async def`` user code."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any

AsyncWork = Callable[[], Coroutine[Any, Any, None]]


class LoopThread:
    """Runs coroutines on a loop of its own; the thread starts with the first of them.

    All of a worker's ``async def`` activities and entities share this loop, so what they share (a
    client session, a lock) stays on one loop.

    Args:
        name: Name of the thread.
        logger: Where a coroutine that raises is reported; coroutines are expected not to.
    """

    def __init__(self, name: str, logger: logging.Logger) -> None:
        self._name = name
        self._logger = logger
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._awaited: set[Future[Any]] = set()
        self._closed = False

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the loop and wait for it, on a thread other than the loop's; return its result.

        Raises:
            concurrent.futures.CancelledError: The loop was closed before it ended.
            BaseException: What the coroutine raises, SystemExit included.
        """
        outcome: Future[Any] = Future()
        with self._lock:
            self._awaited.add(outcome)
        if not self.submit(partial(_settle, outcome, coroutine)):
            coroutine.close()
            outcome.cancel()
        try:
            return outcome.result()
        finally:
            with self._lock:
                self._awaited.discard(outcome)

    def submit(self, work: AsyncWork) -> bool:
        """Start the coroutine on the loop; False after :meth:`close`, when nothing is started any more."""
        with self._lock:
            if self._closed:
                return False
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._run, args=(self._loop,), name=self._name, daemon=True).start()
            self._loop.call_soon_threadsafe(self._spawn, work)
            return True

    @property
    def is_closed(self) -> bool:
        """Whether :meth:`close` was called, which cancels what runs; any other cancellation is user code's."""
        return self._closed

    def close(self) -> None:
        """Cancel what is running and end the thread, without waiting for it."""
        with self._lock:
            self._closed = True
            loop = self._loop
            if loop is not None and not loop.is_closed():
                loop.call_soon_threadsafe(loop.stop)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            while not self._ran_until_stopped(loop):
                if self._closed:
                    # The order to stop may have been lost in the same round.
                    loop.call_soon(loop.stop)
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            with self._lock:
                # What was submitted at the very end never started; nobody may wait for it any longer.
                for outcome in self._awaited:
                    outcome.cancel()

    def _ran_until_stopped(self, loop: asyncio.AbstractEventLoop) -> bool:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            # They leave the loop when a task that user code made raises them; whoever awaits that task gets them too.
            self._logger.exception("A task on the loop of the worker raised what ends a loop; it goes on")
            return False
        return True

    def _spawn(self, work: AsyncWork) -> None:
        task = asyncio.get_running_loop().create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: AsyncWork) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except BaseException:
            # A SystemExit that leaves a task would end the loop and with it every other activity.
            self._logger.exception("Work on the loop of the worker failed")


async def _settle(outcome: Future[Any], coroutine: Coroutine[Any, Any, Any]) -> None:
    try:
        result = await coroutine
    except BaseException as error:
        outcome.set_exception(error)
    else:
        outcome.set_result(result)
