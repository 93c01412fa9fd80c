"""The calls of the protocol, seen from no transport in particular.

A transport (gRPC, in process) turns what arrives into ``SchedulerService.call`` or
``SchedulerService.open_stream`` and gives one of the two things below to be answered with. It
learns names, message types and arities from :data:`RPCS`, which is read off the descriptors: of the
protocol, and of what we add to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from durabletask_proto import additions
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from google.protobuf import message_factory
from google.protobuf.message import Message

from durabletask_scheduler.hub.model import HubError

SERVICE_NAME = "TaskHubSidecarService"

Cancel = Callable[[], None]
"""The caller went away. Frees its wait or ends its stream; idempotent, any thread, does not block."""


class Reply(Protocol):
    """Answers a unary call: called exactly once, on any thread, and must not block."""

    def __call__(self, response: Message | None, error: HubError | None) -> None: ...


class Sink(Protocol):
    """Takes what a stream sends. Called on one thread at a time; must not block.

    After ``close``, or once the caller has cancelled, anything more that arrives is to be ignored.
    """

    @property
    def lends(self) -> bool:
        """Whether the receiver's threads come back to the scheduler by themselves with what they have to say."""
        ...

    def send(self, message: Message) -> None: ...

    def when_read(self, go_on: Callable[[], None]) -> None:
        """Call ``go_on`` once the receiver has taken all that was sent: on any thread, it does not block."""
        ...

    def close(self, error: HubError | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class Exchange:
    """An open stream of work items, and the way for the answers to them; neither blocks.

    Attributes:
        answer: the call of the protocol with this name and request, on behalf of whoever opened the stream.
    """

    cancel: Cancel
    answer: Callable[[str, Message, Reply], object]


@dataclass(frozen=True, slots=True)
class Mark:
    """Stands among the messages of a stream; whoever takes messages out calls ``go_on`` when it comes up."""

    go_on: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Rpc:
    """One call of the protocol.

    Attributes:
        service: such as ``"TaskHubSidecarService"``.
        name: such as ``"StartInstance"``; its path is ``/TaskHubSidecarService/StartInstance``.
        streaming: whether the answer is a stream.
        takes_stream: whether the request is one.
    """

    service: str
    name: str
    request_type: type[Message]
    response_type: type[Message]
    streaming: bool
    takes_stream: bool


def _read_rpcs() -> dict[str, Rpc]:
    # The protocol's service has no package on the wire, whatever its messages are registered under here.
    services = {
        SERVICE_NAME: pb.DESCRIPTOR.services_by_name[SERVICE_NAME],
        additions.SERVICE: additions_pb.DESCRIPTOR.services_by_name["SchedulerAdditions"],
    }
    return {
        method.name: Rpc(
            service=name,
            name=method.name,
            request_type=message_factory.GetMessageClass(method.input_type),
            response_type=message_factory.GetMessageClass(method.output_type),
            streaming=bool(method.server_streaming),
            takes_stream=bool(method.client_streaming),
        )
        for name, service in services.items()
        for method in service.methods
    }


RPCS: Mapping[str, Rpc] = MappingProxyType(_read_rpcs())
"""Every call by name."""
