"""Work items in packs: what is ready to be sent leaves in one message."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import cast

from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from google.protobuf.message import Message

from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.rpc import Mark, Sink

MOST_BYTES = 1024 * 1024
"""Of one pack; a work item that is larger has one for itself."""


class PackSink:
    """Takes work items and passes on packs of one, which :func:`grow` puts together where they wait."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    @property
    def lends(self) -> bool:
        return self._sink.lends

    def send(self, message: Message) -> None:
        self._sink.send(additions_pb.WorkItemPack(items=[cast(pb.WorkItem, message)]))

    def when_read(self, go_on: Callable[[], None]) -> None:
        self._sink.when_read(go_on)

    def close(self, error: HubError | None = None) -> None:
        self._sink.close(error)


def grow(message: Message, waiting: deque[Message | Mark]) -> None:
    """Take into a pack those that wait behind it; any other message stays as it is."""
    if not waiting or not isinstance(message, additions_pb.WorkItemPack):
        return
    size = message.ByteSize()
    while waiting and isinstance(waiting[0], additions_pb.WorkItemPack):
        size += waiting[0].ByteSize()
        if size > MOST_BYTES:
            return
        message.MergeFrom(cast(additions_pb.WorkItemPack, waiting.popleft()))
