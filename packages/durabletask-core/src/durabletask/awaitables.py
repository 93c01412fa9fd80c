"""What an orchestrator can await: tasks, groups of tasks, and the errors that awaiting them raises."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar, overload

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask.failures import FailureDetails, failure_details, failure_of
from durabletask.retry_policy import RetryPolicy

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class TaskFailedError(Exception):
    """An awaited task failed; ``details`` says how."""

    def __init__(self, message: str, details: pb.TaskFailureDetails | FailureDetails | Exception) -> None:
        super().__init__(message)
        if isinstance(details, Exception):
            details = failure_of(details)
        self._details = details if isinstance(details, FailureDetails) else failure_details(details)

    @property
    def details(self) -> FailureDetails:
        """The failure of the activity, sub-orchestration or entity operation itself."""
        return self._details


class TaskCancelledError(Exception):
    """An awaited task was cancelled by its orchestrator."""


class Task(ABC, Generic[T_co]):
    """Something an orchestrator can await, in a generator with ``yield`` and in a coroutine with ``await``."""

    __slots__ = ("_complete", "_error", "_parents", "_result")

    def __init__(self) -> None:
        self._complete = False
        self._error: TaskFailedError | TaskCancelledError | None = None
        self._result: Any = None
        self._parents: list[CompositeTask[Any]] | None = None

    def __await__(self) -> Generator[Any, Any, T_co]:
        result: T_co = yield self
        return result

    @property
    def is_complete(self) -> bool:
        """Whether the task has succeeded, failed or been cancelled."""
        return self._complete

    @property
    def is_failed(self) -> bool:
        """Whether the task has failed; False for a cancelled one."""
        return isinstance(self._error, TaskFailedError)

    @property
    def result(self) -> T_co:
        """The same as ``get_result()``."""
        return self.get_result()

    def get_result(self) -> T_co:
        """Return the result.

        Raises TaskFailedError if the task failed, TaskCancelledError if it was cancelled, and ValueError
        while it is not complete.
        """
        if not self._complete:
            raise ValueError("The task is not complete yet: await it before asking for its result.")
        if self._error is not None:
            raise self._error
        result: T_co = self._result
        return result

    def get_exception(self) -> TaskFailedError:
        """Return the failure; raises ValueError if the task has not failed."""
        if not isinstance(self._error, TaskFailedError):
            raise ValueError("The task has not failed, so it has no exception.")
        return self._error

    def _settle(self, result: Any, error: TaskFailedError | TaskCancelledError | None = None) -> None:
        if self._complete:
            raise ValueError("The task is already complete.")
        self._result = result
        self._error = error
        self._complete = True
        if self._parents:
            parents, self._parents = self._parents, None
            for parent in parents:
                parent.on_child_completed(self)


class CompositeTask(Task[T]):
    """A task that is made of other tasks; tasks may be shared between several composites."""

    __slots__ = ("_tasks",)

    def __init__(self, tasks: Sequence[Task[Any]]) -> None:
        super().__init__()
        self._tasks = list(tasks)
        for task in self._tasks:
            if not isinstance(task, Task):
                raise TypeError(f"A composite task is made of tasks, got {task!r} of type {type(task).__name__}.")

    def get_tasks(self) -> list[Task[Any]]:
        """The tasks in the order in which they were given."""
        return self._tasks

    @abstractmethod
    def on_child_completed(self, task: Task[Any]) -> None:
        """Called once when one of the tasks completes."""

    def _watch(self) -> int:
        """Be told of every task that is still to complete; return how many there are, each counted once."""
        waiting = {id(task): task for task in self._tasks if not task._complete}
        for task in waiting.values():
            if task._parents is None:
                task._parents = []
            task._parents.append(self)
        return len(waiting)


class WhenAllTask(CompositeTask[list[T]]):
    """Completes when all tasks have; its result is their results in the order given, or the first failure."""

    __slots__ = ("_first_error", "_waiting")

    def __init__(self, tasks: Sequence[Task[T]]) -> None:
        super().__init__(tasks)
        self._first_error = next((task._error for task in self._tasks if task._error is not None), None)
        self._waiting = self._watch()
        self._settle_if_done()

    @property
    def pending_tasks(self) -> int:
        """How many of the tasks are not complete."""
        return len(self._tasks) - self.get_completed_tasks()

    def get_completed_tasks(self) -> int:
        """How many of the tasks are complete."""
        return sum(task._complete for task in self._tasks)

    def on_child_completed(self, task: Task[Any]) -> None:
        self._waiting -= 1
        if self._first_error is None:
            self._first_error = task._error
        self._settle_if_done()

    def _settle_if_done(self) -> None:
        if self._waiting == 0:
            error = self._first_error
            self._settle(None if error else [task._result for task in self._tasks], error)


class WhenAnyTask(CompositeTask[Task[T]]):
    """Completes with the first of the tasks that completes; the result is that very task, failed or not."""

    __slots__ = ()

    def __init__(self, tasks: Sequence[Task[T]]) -> None:
        super().__init__(tasks)
        if not self._tasks:
            raise ValueError("when_any() needs at least one task: with none it could never complete.")
        winner = next((task for task in self._tasks if task._complete), None)
        if winner is None:
            self._watch()
        else:
            self._settle(winner)

    def on_child_completed(self, task: Task[Any]) -> None:
        if self._complete:
            return
        # A long-lived loser must not collect every composite that it ever lost.
        for loser in self._tasks:
            if loser._parents and self in loser._parents:
                loser._parents.remove(self)
        # One event may complete several of them; the first given wins, as it does at construction.
        self._settle(next(task for task in self._tasks if task._complete))


class CompletableTask(Task[T]):
    """A task that an event completes, such as an activity."""

    __slots__ = ("expected_type",)

    def __init__(self, expected_type: Any | None = None) -> None:
        super().__init__()
        self.expected_type = expected_type

    def complete(self, result: T) -> None:
        """Complete the task; raises ValueError if it is complete."""
        self._settle(result)

    def fail(self, message: str, details: Exception | pb.TaskFailureDetails) -> None:
        """Fail the task with a TaskFailedError of these; raises ValueError if it is complete."""
        self._settle(None, TaskFailedError(message, details))


class CancellableTask(CompletableTask[T]):
    """A task that its orchestrator may cancel: a timer, or the wait for an external event."""

    __slots__ = ("_cancel_handler",)

    def __init__(self, expected_type: Any | None = None) -> None:
        super().__init__(expected_type)
        self._cancel_handler: Callable[[], None] | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether the task was cancelled."""
        return isinstance(self._error, TaskCancelledError)

    def set_cancel_handler(self, cancel_handler: Callable[[], None]) -> None:
        """Set what ``cancel()`` runs before the task completes."""
        self._cancel_handler = cancel_handler

    def cancel(self) -> bool:
        """Cancel the task; return False if it is already complete. Awaiting it raises TaskCancelledError."""
        if self._complete:
            return False
        if self._cancel_handler is not None:
            self._cancel_handler()
        self._settle(None, TaskCancelledError("The task was cancelled."))
        return True


class RetryableTask(CompletableTask[T]):
    """An activity or a sub-orchestration with a retry policy; ``start_time`` is that of the first attempt."""

    __slots__ = ("action", "attempt_count", "is_sub_orch", "retry_policy", "start_time")

    def __init__(
        self,
        retry_policy: RetryPolicy,
        action: pb.OrchestratorAction,
        start_time: datetime,
        is_sub_orch: bool,
        expected_type: Any | None = None,
    ) -> None:
        super().__init__(expected_type)
        self.retry_policy = retry_policy
        self.action = action
        self.start_time = start_time
        self.is_sub_orch = is_sub_orch
        self.attempt_count = 1

    def increment_attempt_count(self) -> None:
        """Count one more attempt."""
        self.attempt_count += 1

    def compute_next_delay(self, *, now: datetime | None = None) -> timedelta | None:
        """The delay before the next attempt, or None if there is to be none.

        ``now`` is the orchestration's time; without it the policy's ``retry_timeout`` is not applied.
        """
        policy = self.retry_policy
        if self.attempt_count >= policy.max_number_of_attempts:
            return None
        delay = policy.delay_after(self.attempt_count)
        if now is not None and policy.retry_timeout is not None:
            left = policy.retry_timeout - (now - self.start_time)
            return delay if delay <= left else None
        return delay


class TimerTask(CancellableTask[None]):
    """A timer that completes at ``final_fire_at``, in pieces of at most ``maximum_timer_interval``."""

    __slots__ = ("final_fire_at", "maximum_timer_interval", "retryable_parent")

    def __init__(self, final_fire_at: datetime | None = None, maximum_timer_interval: timedelta | None = None) -> None:
        super().__init__()
        self.final_fire_at = final_fire_at
        self.maximum_timer_interval = maximum_timer_interval
        self.retryable_parent: RetryableTask[Any] | None = None

    def set_retryable_parent(self, retryable_task: RetryableTask[Any]) -> None:
        """Make this timer the delay before another attempt of ``retryable_task``."""
        self.retryable_parent = retryable_task

    def next_piece(self, now: datetime) -> datetime | None:
        """When the piece that begins at ``now`` ends, or None when nothing is left to wait for."""
        final, longest = self.final_fire_at, self.maximum_timer_interval
        if final is None or final <= now:
            return None
        if longest is not None and longest > timedelta(0) and final - now > longest:
            return now + longest
        return final


@overload
def when_all(tasks: Sequence[Task[T]]) -> WhenAllTask[T]: ...


@overload
def when_all(tasks: Sequence[Task[Any]]) -> WhenAllTask[Any]: ...


def when_all(tasks: Sequence[Task[Any]]) -> WhenAllTask[Any]:
    """A task that completes when all ``tasks`` have, with the list of their results.

    If any failed, awaiting it raises the first failure, after all tasks are complete. With no tasks it is
    complete at once with an empty list.
    """
    return WhenAllTask(tasks)


@overload
def when_any(tasks: Sequence[Task[T]]) -> WhenAnyTask[T]: ...


@overload
def when_any(tasks: Sequence[Task[Any]]) -> WhenAnyTask[Any]: ...


def when_any(tasks: Sequence[Task[Any]]) -> WhenAnyTask[Any]:
    """A task that completes with the first of ``tasks`` to complete; of several complete ones, the first given.

    The losers go on. Raises ValueError when ``tasks`` is empty.
    """
    return WhenAnyTask(tasks)


for _class in (
    TaskFailedError,
    TaskCancelledError,
    Task,
    CompositeTask,
    WhenAllTask,
    WhenAnyTask,
    CompletableTask,
    CancellableTask,
    RetryableTask,
    TimerTask,
):
    # User code finds them in durabletask.task, and the names of errors cross the wire.
    _class.__module__ = "durabletask.task"
