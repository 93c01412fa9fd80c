"""Many completions in one call, for servers that announced it (durabletask_proto.additions).

A call costs a server several times what a completion in it does, so what gathers while calls are under way
leaves together.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, TypeVar

import grpc
from durabletask_proto import additions
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from google.protobuf.message import Message

from durabletask.transport.additions import code_of

METHOD = "CompleteWorkItems"
MOST_BYTES = 1024 * 1024
"""Of the answers in one call; a larger one travels by itself."""

_FIELDS: Mapping[str, str] = MappingProxyType(
    {"CompleteOrchestratorTask": "turn", "CompleteActivityTask": "activity", "CompleteEntityTask": "batch"}
)


class Single(Protocol):
    """A unary call of the protocol."""

    @property
    def method(self) -> str: ...
    @property
    def message(self) -> Message: ...
    @property
    def alone(self) -> bool: ...


AnySingle = TypeVar("AnySingle", bound=Single)


def take_pack(waiting: "deque[AnySingle]") -> list[AnySingle]:
    """Remove what leaves next: the first, and those behind it that may share its call."""
    pack = [waiting.popleft()]
    if not _may_share(pack[0]):
        return pack
    size = pack[0].message.ByteSize()
    while waiting and len(pack) < additions.MOST_ANSWERS and _may_share(waiting[0]):
        size += waiting[0].message.ByteSize()
        if size > MOST_BYTES:
            break
        pack.append(waiting.popleft())
    return pack


def _may_share(single: Single) -> bool:
    return single.method in _FIELDS and not single.alone


def request(pack: Sequence[Single]) -> additions_pb.CompleteWorkItemsRequest:
    """The call that stands for all of these."""
    packed = additions_pb.CompleteWorkItemsRequest()
    for single in pack:
        getattr(packed.answers.add(), _FIELDS[single.method]).CopyFrom(single.message)
    return packed


def refusals(response: additions_pb.CompleteWorkItemsResponse) -> dict[int, tuple[grpc.StatusCode, str]]:
    """Which of the pack the server refused, and why."""
    return {refusal.index: (code_of(refusal), refusal.message) for refusal in response.refusals}
