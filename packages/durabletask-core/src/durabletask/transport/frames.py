"""The worker's half of a Work call: answers leave in frames, and are held until the scheduler has settled them.

A message of a stream costs a fraction of a call, whatever is in it. A frame takes what has gathered while the one
before it was being written; nothing waits in order to fill one.
"""

import itertools
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

import grpc
from durabletask_proto import additions
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from google.protobuf.message import Message

from durabletask.transport.additions import code_of

MAXIMUM_UNSETTLED = 512
"""Answers that are sent and not settled; the rest waits here."""

_FIELDS: Mapping[str, str] = MappingProxyType(
    {"CompleteOrchestratorTask": "turn", "CompleteActivityTask": "activity", "CompleteEntityTask": "batch"}
)


class Answer(Protocol):
    """A unary call of the protocol."""

    @property
    def method(self) -> str: ...
    @property
    def message(self) -> Message: ...


AnyAnswer = TypeVar("AnyAnswer", bound=Answer)


class AnswerFrames(Generic[AnyAnswer]):
    """The requests of one call. gRPC iterates, on a thread of its own; the rest is for any thread.

    Args:
        request: What the stream is opened with.
        task_hub: What the answer to Hello named.
    """

    def __init__(self, request: pb.GetWorkItemsRequest, task_hub: str) -> None:
        self._opening: additions_pb.WorkerFrame | None = additions_pb.WorkerFrame(open=request, taskHub=task_hub)
        self._lock = threading.Lock()
        # Held unless somebody has rung it; the iterating thread waits for it.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._asleep = False
        self._ended = False
        self._waiting: deque[tuple[AnyAnswer, int]] = deque()
        self._sent: dict[int, AnyAnswer] = {}
        self._numbers = itertools.count(1)

    def take(self, answer: AnyAnswer) -> bool:
        """Send it soon; False if it must travel by itself: it fits no frame, or the stream has ended."""
        size = answer.message.ByteSize()
        if answer.method not in _FIELDS or size > additions.MOST_FRAME_BYTES // 2:
            return False
        with self._lock:
            if self._ended:
                return False
            self._waiting.append((answer, size))
            self._wake()
        return True

    def settle(
        self, frame: additions_pb.SchedulerFrame
    ) -> Iterator[tuple[AnyAnswer, tuple[grpc.StatusCode, str] | None]]:
        """The answers that a frame settles, each with None or why it was refused."""
        outcomes: list[tuple[int, tuple[grpc.StatusCode, str] | None]] = [(number, None) for number in frame.taken]
        outcomes += [(refusal.index, (code_of(refusal), refusal.message)) for refusal in frame.refusals]
        with self._lock:
            settled = [(self._sent.pop(number, None), problem) for number, problem in outcomes]
            if self._waiting:
                self._wake()
        return ((answer, problem) for answer, problem in settled if answer is not None)

    def finish(self) -> None:
        """Nothing more is taken, which the server hears as the end of the requests."""
        with self._lock:
            self._ended = True
            self._wake()

    def end(self) -> list[AnyAnswer]:
        """The stream is over, or is to be: nothing more is taken. Returns what is not settled, once."""
        with self._lock:
            self._ended = True
            unsettled = [*self._sent.values(), *(answer for answer, _ in self._waiting)]
            self._sent.clear()
            self._waiting.clear()
            self._wake()
        return unsettled

    def __iter__(self) -> "AnswerFrames[AnyAnswer]":
        return self

    def __next__(self) -> additions_pb.WorkerFrame:
        while True:
            with self._lock:
                if self._ended:
                    raise StopIteration
                if self._opening is not None:
                    opening, self._opening = self._opening, None
                    return opening
                gathered = self._gather()
                self._asleep = not gathered
            if gathered:
                return _frame(gathered)
            self._bell.acquire()

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            self._bell.release()

    def _gather(self) -> list[tuple[int, AnyAnswer]]:
        """What goes into the next frame, in the order in which it came."""
        gathered: list[tuple[int, AnyAnswer]] = []
        room = additions.MOST_FRAME_BYTES
        while self._waiting and self._waiting[0][1] <= room and len(self._sent) < MAXIMUM_UNSETTLED:
            answer, size = self._waiting.popleft()
            number = next(self._numbers)
            self._sent[number] = answer
            gathered.append((number, answer))
            room -= size
        return gathered


def _frame(gathered: Iterable[tuple[int, Answer]]) -> additions_pb.WorkerFrame:
    frame = additions_pb.WorkerFrame()
    for number, answer in gathered:
        getattr(frame.answers.add(number=number), _FIELDS[answer.method]).CopyFrom(answer.message)
    return frame
