"""One asyncio loop on one thread, for ``async def`` user code."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any

AsyncWork = Callable[[], Coroutine[Any, Any, None]]


class LoopThread:
    """Runs coroutines on a loop of its own; the thread starts with the first of them.

    All of a worker's ``async def`` activities share this loop, so what they share (a client
    session, a lock) stays on one loop.

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
        self._closed = False

    def submit(self, work: AsyncWork) -> None:
        """Start the coroutine on the loop; after :meth:`close` nothing is started any more."""
        with self._lock:
            if self._closed:
                return
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._run, args=(self._loop,), name=self._name, daemon=True).start()
            self._loop.call_soon_threadsafe(self._spawn, work)

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
            loop.run_forever()
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

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
