"""What our scheduler offers beyond the protocol, as clients and workers meet it alike."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import grpc
from durabletask_proto import additions
from durabletask_proto import orchestrator_service_pb2_grpc as pb_grpc
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from durabletask_proto import scheduler_additions_pb2_grpc as additions_grpc

_CODES: Mapping[int, grpc.StatusCode] = MappingProxyType({code.value[0]: code for code in grpc.StatusCode})


class Stub:
    """The calls of the protocol and those that our scheduler adds, on a channel of either kind.

    Attributes:
        Work: None on a channel that knows only the kinds of calls which the protocol has, as one of the user's may.
    """

    def __init__(self, channel: Any) -> None:
        vars(self).update(vars(pb_grpc.TaskHubSidecarServiceStub(channel)))
        if not hasattr(channel, "stream_stream"):
            channel = _WithoutExchanges(channel)
        vars(self).update(vars(additions_grpc.SchedulerAdditionsStub(channel)))

    if TYPE_CHECKING:

        def __getattr__(self, rpc: str) -> Any: ...


class _WithoutExchanges:
    """A channel without calls that stream both ways."""

    def __init__(self, channel: Any) -> None:
        self.unary_unary = channel.unary_unary

    def stream_stream(self, *_: Any, **__: Any) -> None:
        """There is none."""


def announces(initial_metadata: Iterable[tuple[str, Any]] | None, header: str = additions.HEADER) -> bool:
    """Whether the answer to Hello announces what the header stands for; by default the added calls."""
    return (header, additions.VERSION) in [(key, value) for key, value in initial_metadata or ()]


def code_of(refusal: additions_pb.Refusal) -> grpc.StatusCode:
    """The status that a call of its own would have ended with."""
    return _CODES.get(refusal.code, grpc.StatusCode.UNKNOWN)
