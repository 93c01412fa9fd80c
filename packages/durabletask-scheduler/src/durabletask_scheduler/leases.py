"""Leases: which work items are in whose hands, by completion token."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic

from durabletask_proto import copying
from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask_scheduler.dispatch import AnyHolder, LeaseOf, Stream, WorkOf


class Leases(Generic[AnyHolder]):
    """The leases on work of one kind. Belongs to the engine.

    Activities have no maximum age. Turns (and batches of entities, which are meant too where turns are
    mentioned) all have the same, so the order in which they are granted is that of their deadlines.
    """

    def __init__(self) -> None:
        self._by_token: dict[str, LeaseOf[AnyHolder]] = {}
        self._turns: OrderedDict[str, LeaseOf[AnyHolder]] = OrderedDict()
        self._turns_out: set[str] = set()

    @property
    def turns_out(self) -> int:
        """How many turns have left since the last write and are not answered."""
        return len(self._turns_out)

    @property
    def answers_come_by_themselves(self) -> bool:
        """Whether these turns are with workers that lend their threads: they come back and finish the tick."""
        return all(self._turns[token].stream.lends for token in self._turns_out)

    def turns_left_behind(self) -> None:
        """A write begins."""
        self._turns_out.clear()

    def oldest_turn(self) -> LeaseOf[AnyHolder] | None:
        return next(iter(self._turns.values()), None)

    def grant(self, work: WorkOf[AnyHolder], stream: Stream, token: str, deadline: int = 0) -> LeaseOf[AnyHolder]:
        """Give the work to the stream; takes one of its permits. Turns have a deadline."""
        lease: LeaseOf[AnyHolder] = LeaseOf(token, work, stream, deadline)
        work.lease = lease
        stream.leases.add(lease)
        stream.free[work.route.kind] -= 1
        self._by_token[token] = lease
        if deadline:
            self._turns[token] = lease
            self._turns_out.add(token)
        return lease

    def end(self, lease: LeaseOf[AnyHolder]) -> None:
        """The worker has it no longer; its permit is free again."""
        del self._by_token[lease.token]
        self._turns.pop(lease.token, None)
        self._turns_out.discard(lease.token)
        lease.stream.leases.discard(lease)
        lease.stream.free[lease.work.route.kind] += 1
        lease.work.lease = None

    def find(self, task_hub: str, token: str) -> LeaseOf[AnyHolder] | None:
        """The lease under the token, if it is for work in that task hub."""
        lease = self._by_token.get(token)
        if lease is None or lease.work.route.task_hub != task_hub:
            return None
        return lease


def with_part(
    chunks: tuple[pb.OrchestratorResponse, ...], part: pb.OrchestratorResponse
) -> tuple[pb.OrchestratorResponse, ...]:
    """The parts of an answer and one more. One that a worker sends again counts once: it was not told of the first."""
    if part.HasField("chunkIndex"):
        for number, kept in enumerate(chunks):
            if kept.HasField("chunkIndex") and kept.chunkIndex.value == part.chunkIndex.value:
                return (*chunks[:number], part, *chunks[number + 1 :])
    elif chunks and chunks[-1] == part:
        return chunks
    return (*chunks, part)


def put_together(chunks: Sequence[pb.OrchestratorResponse], last: pb.OrchestratorResponse) -> pb.OrchestratorResponse:
    """One answer from its parts, of which there are several.

    Only the first part counts the events processed and has the trace context.
    """
    whole = pb.OrchestratorResponse()
    whole.CopyFrom(last)
    del whole.actions[:]
    for part in (*chunks, last):
        copying.copy_all(part.actions, whole.actions)
        if part.HasField("orchestrationTraceContext"):
            whole.orchestrationTraceContext.CopyFrom(part.orchestrationTraceContext)
    if chunks[0].HasField("numEventsProcessed"):
        whole.numEventsProcessed.CopyFrom(chunks[0].numEventsProcessed)
    else:
        whole.ClearField("numEventsProcessed")
    return whole
