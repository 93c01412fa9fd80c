"""Calls that wait for an instance: a dictionary entry each, no thread, no polling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask_scheduler.group import send_reply
from durabletask_scheduler.hub import views
from durabletask_scheduler.hub.model import PENDING, TERMINAL, HubError, Instance
from durabletask_scheduler.rpc import Reply

Ready = Callable[[Instance], bool]


def has_started(instance: Instance) -> bool:
    return instance.status != PENDING


def has_completed(instance: Instance) -> bool:
    return instance.status in TERMINAL


def state_response(instance: Instance, *, payloads: bool) -> pb.GetInstanceResponse:
    response = pb.GetInstanceResponse(exists=True)
    views.describe(instance, response.orchestrationState, payloads=payloads)
    return response


@dataclass(eq=False, slots=True)
class Wait:
    """One call; the instance need not exist yet.

    Attributes:
        is_over: the caller has gone. A call is parked only after the write that is under way, so that its caller may
            be gone by then.
    """

    task_hub: str
    instance_id: str
    ready: Ready
    payloads: bool
    reply: Reply
    is_over: bool = field(default=False, init=False)


class Waiters:
    """The parked calls, by the instance they wait for. Belongs to the engine."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._waits: dict[tuple[str, str], dict[Wait, None]] = {}

    def __len__(self) -> int:
        return self._count

    def park(self, wait: Wait, instance: Instance | None) -> None:
        """Answer at once if the instance is as wanted, else keep the call, if its caller is still there.

        Raises:
            HubError: RESOURCE_EXHAUSTED; too many calls wait.
        """
        if wait.is_over:
            return
        if instance is not None and wait.ready(instance):
            _answer(wait, instance)
        elif self._count >= self._most:
            raise HubError(
                "RESOURCE_EXHAUSTED",
                f"{self._count} calls wait for instances, which is the most that may; try again later, or ask with "
                "GetInstance now and then instead of waiting",
            )
        else:
            self._waits.setdefault((wait.task_hub, wait.instance_id), {})[wait] = None
            self._count += 1

    def cancel(self, wait: Wait) -> None:
        wait.is_over = True
        self._remove((wait.task_hub, wait.instance_id), [wait])

    def wait_for(self, instance: Instance) -> bool:
        """Whether any call does."""
        return (instance.task_hub, instance.instance_id) in self._waits

    def wake(self, instance: Instance) -> None:
        """Answer the calls for which the instance, as committed, has come far enough."""
        name = (instance.task_hub, instance.instance_id)
        waits = self._waits.get(name)
        if waits is None:
            return
        ready = [wait for wait in waits if wait.ready(instance)]
        self._remove(name, ready)
        for wait in ready:
            _answer(wait, instance)

    def fail_all(self, error: HubError) -> None:
        waits = [wait for parked in self._waits.values() for wait in parked]
        self._waits.clear()
        self._count = 0
        for wait in waits:
            send_reply(wait.reply, None, error)

    def _remove(self, name: tuple[str, str], gone: list[Wait]) -> None:
        waits = self._waits.get(name)
        if waits is None:
            return
        before = len(waits)
        for wait in gone:
            waits.pop(wait, None)
        self._count -= before - len(waits)
        if not waits:
            del self._waits[name]


def _answer(wait: Wait, instance: Instance) -> None:
    send_reply(wait.reply, state_response(instance, payloads=wait.payloads), None)
