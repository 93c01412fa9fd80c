"""The numbered calls of an orchestrator: which are not confirmed by history, and which are still open."""

from types import CodeType, FrameType
from typing import Any

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask.task import Task


class ActionRecord:
    """One call of user code: the action it made, and where in the code it was made.

    Only the code object and the instruction are kept; the line is worked out when somebody asks. ``scheduled_at`` is
    the time of the turn, in nanoseconds since 1970.
    """

    __slots__ = ("_code", "_instruction", "action", "method", "name", "scheduled_at", "target", "task")

    def __init__(
        self,
        action: pb.OrchestratorAction,
        method: str,
        name: str,
        frame: FrameType | None,
        task: Task[Any] | None = None,
        scheduled_at: int | None = None,
    ) -> None:
        self.action = action
        self.method = method
        self.name = name
        self.target: str | None = None
        self.task = task
        self.scheduled_at = scheduled_at
        self._code = None if frame is None else frame.f_code
        self._instruction = 0 if frame is None else frame.f_lasti

    @property
    def where(self) -> str:
        """``file:line in function``."""
        return "an unknown place" if self._code is None else place_of(self._code, self._instruction)

    def same_place_as(self, other: "ActionRecord") -> None:
        """Name the place of another call, which this action goes on with."""
        self._code, self._instruction = other._code, other._instruction

    def describe(self) -> str:
        """The call as a person would write it."""
        return describe_call(self.method, self.name, self.target)


class ActionLedger:
    """Numbers actions from 1 and keeps those that history has not confirmed and those that wait for a result."""

    __slots__ = ("now", "open", "pending", "sequence")

    def __init__(self) -> None:
        self.sequence = 0
        self.pending: dict[int, ActionRecord] = {}
        self.open: dict[int, ActionRecord] = {}
        self.now: int | None = None
        """The time of the turn, at which later actions are scheduled, in nanoseconds since 1970; None before it."""

    def next_id(self) -> int:
        """Take the next number."""
        self.sequence += 1
        return self.sequence

    def add(
        self,
        action: pb.OrchestratorAction,
        method: str,
        name: str,
        frame: FrameType | None = None,
        task: Task[Any] | None = None,
    ) -> ActionRecord:
        """Record a numbered action; with a ``task`` it stays open until an event completes it."""
        action_id = action.id
        record = self.pending[action_id] = ActionRecord(action, method, name, frame, task, self.now)
        if task is not None:
            self.open[action_id] = record
        return record

    def repeat(self, record: ActionRecord) -> None:
        """Make the action of a call pending and open again, for its next attempt."""
        record.scheduled_at = self.now
        action_id = record.action.id
        self.pending[action_id] = self.open[action_id] = record

    def take(self, action_id: int, method: str) -> ActionRecord | None:
        """End an open call of ``method``; None if there is no such open call."""
        record = self.open.get(action_id)
        if record is None or record.method != method:
            return None
        del self.open[action_id]
        # A result proves the scheduling even where its confirmation is missing.
        self.pending.pop(action_id, None)
        return record

    def drop(self, action_id: int) -> None:
        """Forget a call: what is not sent yet never will be, and nothing waits for it."""
        self.pending.pop(action_id, None)
        self.open.pop(action_id, None)

    def close(self) -> None:
        """Forget what is open, because tasks know how they are taken out of here."""
        self.open.clear()


def describe_call(method: str, name: str, target: str | None = None) -> str:
    """A call as text, for example ``call_activity('charge')`` or ``send_event('go') to 'abc'``."""
    return f"{method}({name!r})" + (f" to {target!r}" if target else "") if name or target else f"{method}()"


def place_of(code: CodeType, instruction: int) -> str:
    """``file:line in function`` of an instruction."""
    line = next((n for start, end, n in code.co_lines() if start <= instruction < end and n), code.co_firstlineno)
    return f"{code.co_filename}:{line} in {code.co_name}"
