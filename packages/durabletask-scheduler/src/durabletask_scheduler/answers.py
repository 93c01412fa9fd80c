"""The answers in a worker's frame: each is the call of the protocol that it stands for, and is judged as that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from durabletask_proto import scheduler_additions_pb2 as additions_pb
from google.protobuf.message import Message

from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.rpc import Exchange
from durabletask_scheduler.transport import begin_answer

Settled = Callable[[int, "Message | None", "HubError | None"], None]

_RPCS: Mapping[str, str] = {
    "turn": "CompleteOrchestratorTask",
    "activity": "CompleteActivityTask",
    "batch": "CompleteEntityTask",
}


def begin_all(exchange: Exchange, frame: additions_pb.WorkerFrame, settled: Settled) -> None:
    """Hand in every answer; ``settled`` is the reply to each, given its number first."""
    for answer in frame.answers:
        reply = partial(settled, answer.number)
        kind = answer.WhichOneof("answer")
        if kind is None:
            reply(None, HubError("INVALID_ARGUMENT", "the answer is empty; expected a turn, activity or batch"))
        else:
            begin_answer(exchange, _RPCS[kind], getattr(answer, kind), reply)
