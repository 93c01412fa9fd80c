"""What a stream sends, between the threads of the service and the handler on the event loop that writes it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from durabletask_proto import additions
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from google.protobuf.message import Message

from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.refusals import refusal
from durabletask_scheduler.rpc import Mark
from durabletask_scheduler.transport import Mailbox

AnyMessage = TypeVar("AnyMessage", bound=Message)


class _LoopSink(Generic[AnyMessage]):
    """What all sinks on an event loop share. Methods with an underscore and :meth:`next` run on the loop.

    Attributes:
        error: what the service ended the stream with.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self.error: HubError | None = None
        self._mailbox = mailbox
        self._messages: deque[AnyMessage | Mark] = deque()
        self._closed = False
        self._news = asyncio.Event()

    @property
    def lends(self) -> bool:
        return False

    def when_read(self, go_on: Callable[[], None]) -> None:
        self._mailbox.post(self._add, Mark(go_on))

    def close(self, error: HubError | None = None) -> None:
        self._mailbox.post(self._finish, error)

    async def next(self) -> AnyMessage | None:
        """The next message; None once the service closed the stream."""
        while True:
            while not self._messages:
                if self._closed:
                    return None
                self._news.clear()
                await self._news.wait()
            message = self._messages.popleft()
            if isinstance(message, Mark):
                message.go_on()
                continue
            return message

    def _add(self, message: AnyMessage | Mark) -> None:
        self._messages.append(message)
        self._news.set()

    def _finish(self, error: HubError | None) -> None:
        if not self._closed:
            self.error = error
            self._closed = True
            self._news.set()


class StreamSink(_LoopSink[Message]):
    """Messages as the service sends them."""

    def send(self, message: Message) -> None:
        self._mailbox.post(self._add, message)


class FrameSink(_LoopSink[additions_pb.SchedulerFrame]):
    """Work items and the fate of answers. What gathers while a frame is being written shares the next one."""

    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__(mailbox)
        self._bytes_of_last = 0

    def send(self, message: Message) -> None:
        self._mailbox.post(self._add_item, message)

    def settled(self, number: int, _: Message | None, error: HubError | None) -> None:
        """The reply to the answer with this number."""
        if error is not None and error.code == "UNAUTHENTICATED":
            # It was the stream's own credentials that count no longer; the worker comes back with fresh ones.
            self.close(error)
        else:
            self._mailbox.post(self._add_outcome, number, error)

    def _add_item(self, item: pb.WorkItem) -> None:
        size = item.ByteSize()
        self._frame_with_room_for(size).items.add().CopyFrom(item)
        self._bytes_of_last += size

    def _add_outcome(self, number: int, error: HubError | None) -> None:
        frame = self._frame_with_room_for(0)
        if error is None:
            frame.taken.append(number)
        else:
            frame.refusals.append(refusal(number, error))

    def _frame_with_room_for(self, size: int) -> additions_pb.SchedulerFrame:
        last = self._messages[-1] if self._messages else None
        if last is None or isinstance(last, Mark) or self._bytes_of_last + size > additions.MOST_FRAME_BYTES:
            last = additions_pb.SchedulerFrame()
            self._bytes_of_last = 0
            self._add(last)
        return last
