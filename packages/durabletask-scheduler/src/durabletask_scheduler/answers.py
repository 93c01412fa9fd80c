"""Many answers of a worker in one call: each is a command of its own, and one response tells how they went."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from durabletask_proto import additions
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from google.protobuf.message import Message

from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.refusals import refusal
from durabletask_scheduler.rpc import Reply

_RPCS: Mapping[str, str] = {
    "turn": "CompleteOrchestratorTask",
    "activity": "CompleteActivityTask",
    "batch": "CompleteEntityTask",
}


def single_calls(request: additions_pb.CompleteWorkItemsRequest, reply: Reply) -> Iterator[tuple[str, Any, Reply]]:
    """The calls of the protocol that the request stands for: name, request and reply of each, in order.

    ``reply`` is called when all of them are answered.

    Raises:
        HubError: INVALID_ARGUMENT; there are too many, or one is empty.
    """
    count = len(request.answers)
    if count > additions.MOST_ANSWERS:
        raise HubError(
            "INVALID_ARGUMENT",
            f"the request has {count} answers; at most {additions.MOST_ANSWERS} are allowed: split it",
        )
    kinds = [answer.WhichOneof("answer") for answer in request.answers]
    if None in kinds:
        raise HubError("INVALID_ARGUMENT", f"answer {kinds.index(None)} is empty; expected a turn, activity or batch")
    if not count:
        reply(additions_pb.CompleteWorkItemsResponse(), None)
    outcomes = _Outcomes(count, reply)
    for index, (kind, answer) in enumerate(zip(kinds, request.answers)):
        assert kind is not None
        yield _RPCS[kind], getattr(answer, kind), partial(outcomes.take, index)


class _Outcomes:
    """Gathers the replies to the single calls, on whatever threads they come."""

    def __init__(self, count: int, reply: Reply) -> None:
        self._left = count
        self._reply = reply
        self._lock = threading.Lock()
        self._response = additions_pb.CompleteWorkItemsResponse()

    def take(self, index: int, _: Message | None, error: HubError | None) -> None:
        with self._lock:
            if error is not None:
                self._response.refusals.append(refusal(index, error))
            self._left -= 1
            is_last = not self._left
        if is_last:
            self._reply(self._response, None)
