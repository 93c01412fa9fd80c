"""Threads for user code that is a plain function."""

import logging
import threading
from collections import deque
from collections.abc import Callable

from durabletask.transport.lane import Lane

Work = Callable[[], None]


class ThreadPool:
    """Runs functions on up to ``size`` threads, which are started only as they are needed.

    The thread that was busy last is taken first: what it needs is still in its processor's cache. The
    threads are daemons: user code that never returns cannot keep a stopped worker's interpreter up.

    Args:
        size: Greatest number of threads.
        name: Prefix of their names.
        logger: Where a function that raises is reported; functions are expected not to.
        lane: Told after each function; what is submitted meanwhile goes on the same thread. The pool that was busy
            last is the first that it calls.
    """

    def __init__(self, size: int, name: str, logger: logging.Logger, lane: Lane | None = None) -> None:
        self._size = size
        self._name = name
        self._logger = logger
        self._lane = lane or Lane()
        self._own = _Own()
        # Reentrant, because a collection of garbage in the midst of it may end a call, which calls a thread.
        self._lock = threading.RLock()
        self._waiting: deque[Work] = deque()
        self._idle: list[_Member] = []
        self._threads = 0
        self._closed = False

    @property
    def size(self) -> int:
        """Greatest number of threads."""
        return self._size

    def submit(self, work: Work, *, brief: bool = False) -> None:
        """Run ``work`` as soon as a thread is free; on the calling one if it is of these and has nothing else to do.

        Args:
            brief: it ends so soon that the calling thread may do it before it goes on with the scheduler's work.
        """
        member = self._own.member
        if member is not None and member.next is None:
            if not brief or not self._lane.do_soon(work):
                member.next = work
        elif not self.call(work):
            # Once more with the lock: a thread may have become free.
            with self._lock:
                if not self._closed and not self._idle:
                    self._waiting.append(work)
                    return
            self.submit(work)

    def call(self, work: Work, *, is_user_code: bool = True) -> bool:
        """Run ``work`` on a thread that is free, if there is one or one more may be started."""
        with self._lock:
            if self._closed:
                return True
            if self._idle:
                member = self._idle[-1]
                member.next, member.stays_in = work, not is_user_code
                try:
                    self._idle.pop()
                finally:
                    # Also if the caller is interrupted: a thread that is taken and not called would be lost.
                    member.bell.release()
                return True
            if self._threads == self._size:
                return False
            number = self._threads
            self._threads += 1
        member = _Member()
        member.next = work
        self._lane.go_out()
        try:
            threading.Thread(target=self._run, args=[member], name=f"{self._name}_{number}", daemon=True).start()
        except BaseException:
            # The system has no thread left now; it may have one later.
            with self._lock:
                self._threads -= 1
            raise
        return True

    def call_to_help(self, work: Work) -> bool:
        """The same for work that is not user code."""
        return self.call(work, is_user_code=False)

    def _pass_on(self) -> None:
        """What the calling thread was to do next goes to another one, if one is free."""
        member = self._own.member
        if member is not None and member.next is not None and self.call(member.next):
            member.next = None

    def close(self) -> None:
        """Let every thread end after what it is running; queued work is dropped."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            idle, self._idle = self._idle, []
        for member in idle:
            member.bell.release()

    def _run(self, member: "_Member") -> None:
        self._own.member = member
        self._lane.join(self._pass_on)
        while self._next(member):
            self._run_next(member)

    def _next(self, member: "_Member") -> bool:
        """Wait for work; False when there will be none."""
        if member.next is not None:
            return True
        with self._lock:
            if self._closed:
                return False
            if self._waiting:
                member.next = self._waiting.popleft()
                return True
            self._idle.append(member)
        self._lane.call_first(self.call_to_help)
        self._lane.rest()
        member.bell.acquire()
        return member.next is not None

    def _run_next(self, member: "_Member") -> None:
        work, member.next = member.next, None
        assert work is not None
        if not member.stays_in:
            self._lane.go_out()
        member.stays_in = False
        try:
            work()
            self._lane.answered(busy=member.next is not None)
        except BaseException:
            # User code may raise SystemExit; the thread belongs to the worker and goes on.
            self._logger.exception("Work on a thread of the worker failed")


class _Member:
    """One thread.

    Attributes:
        next: what it does next, before it looks for more.
        stays_in: that is not user code, so that it stays on the core that it waited on.
        bell: held unless somebody has put something there while it waited.
    """

    __slots__ = ("bell", "next", "stays_in")

    def __init__(self) -> None:
        self.next: Work | None = None
        self.stays_in = False
        self.bell = threading.Lock()
        self.bell.acquire()


class _Own(threading.local):
    """The calling thread, if it is one of the pool's."""

    member: _Member | None = None
