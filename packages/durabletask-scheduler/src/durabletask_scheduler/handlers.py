"""How the gRPC server answers each kind of call."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc
import grpc.aio
from durabletask_proto import additions
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from google.protobuf.message import DecodeError, Message

from durabletask_scheduler import answers
from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.rpc import Exchange, Rpc
from durabletask_scheduler.service import TASK_HUB_METADATA
from durabletask_scheduler.sinks import FrameSink, StreamSink
from durabletask_scheduler.transport import (
    Mailbox,
    MetadataPairs,
    Service,
    as_hub_error,
    begin_call,
    begin_exchange,
    begin_stream,
    status_of,
    text_metadata,
)

logger = logging.getLogger("durabletask_scheduler.server")

Behavior = Callable[[Any, Any], Any]


def handler_for(service: Service, rpc: Rpc, mailbox: Mailbox, announced: MetadataPairs) -> Any:
    """The handler of one call; ``announced`` goes with the answer to Hello, besides what the service announces."""
    if rpc.takes_stream:
        return grpc.stream_stream_rpc_method_handler(_work_behavior(service, rpc, mailbox), None, _serialize)
    if rpc.streaming:
        return grpc.unary_stream_rpc_method_handler(_stream_behavior(service, rpc, mailbox), None, _serialize)
    return grpc.unary_unary_rpc_method_handler(_unary_behavior(service, rpc, mailbox, announced), None, _serialize)


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _parse(rpc: Rpc, data: bytes) -> Any:
    """The request. Parsed here because gRPC would answer malformed bytes with UNKNOWN and log a traceback.

    Raises:
        HubError: INVALID_ARGUMENT; the bytes are something else.
    """
    try:
        return rpc.request_type.FromString(data)
    except DecodeError as error:
        name = rpc.request_type.DESCRIPTOR.name
        raise HubError("INVALID_ARGUMENT", f"{rpc.name} expects a serialized {name} message") from error


async def _or_refuse(context: Any, read: Callable[[], Any]) -> Any:
    """What ``read`` returns; if it raises HubError, the call is refused with that."""
    try:
        return read()
    except HubError as error:
        await context.abort(*status_of(error))
        raise


def _unary_behavior(service: Service, rpc: Rpc, mailbox: Mailbox, announced: MetadataPairs) -> Behavior:
    async def answer(data: bytes, context: Any) -> Message | None:
        request = await _or_refuse(context, partial(_parse, rpc, data))
        answered: asyncio.Future[tuple[Message | None, HubError | None]]
        answered = asyncio.get_running_loop().create_future()

        def settle(response: Message | None, error: HubError | None) -> None:
            if not answered.done():
                answered.set_result((response, error))

        loop_thread = threading.get_ident()

        def reply(response: Message | None, error: HubError | None) -> None:
            if threading.get_ident() == loop_thread:
                # Answered at once: the loop need not come round for it.
                settle(response, error)
            else:
                mailbox.post(settle, response, error)

        metadata = text_metadata(context.invocation_metadata())
        cancel = begin_call(service, rpc.name, request, metadata, reply)
        try:
            response, error = await answered
        except asyncio.CancelledError:
            cancel()
            raise
        headers = service.initial_metadata(rpc.name)
        if headers:
            await context.send_initial_metadata((*headers, *announced, *_task_hub_again(metadata)))
        if error is not None:
            await context.abort(*status_of(error))
        return response

    return answer


def _task_hub(metadata: Mapping[str, str]) -> str:
    return metadata.get(TASK_HUB_METADATA, "")


def _task_hub_again(metadata: Mapping[str, str]) -> MetadataPairs:
    task_hub = _task_hub(metadata)
    # gRPC takes values that it does not send; with one of those the whole call would fail.
    return ((additions.TASK_HUB_HEADER, task_hub),) if task_hub.isascii() and task_hub.isprintable() else ()


def _stream_behavior(service: Service, rpc: Rpc, mailbox: Mailbox) -> Behavior:
    async def feed(data: bytes, context: Any) -> None:
        request = await _or_refuse(context, partial(_parse, rpc, data))
        # At once: clients take headers for "connected".
        with _ending_quietly(rpc):
            await context.send_initial_metadata(service.initial_metadata(rpc.name))
        sink = StreamSink(mailbox)
        cancel = begin_stream(service, rpc.name, request, text_metadata(context.invocation_metadata()), sink)
        try:
            await _write_all(rpc, sink, context)
        finally:
            cancel()

    return feed


async def _write_all(rpc: Rpc, sink: StreamSink | FrameSink, context: Any) -> None:
    """Write what the service sends until it ends the stream, and end it likewise."""
    with _ending_quietly(rpc):
        while (message := await sink.next()) is not None:
            await context.write(message)
    if sink.error is not None:
        await context.abort(*status_of(sink.error))


@contextmanager
def _ending_quietly(rpc: Rpc) -> Iterator[None]:
    """A caller that goes away in the midst of a write has cancelled its call, which is nothing to report."""
    try:
        yield
    except grpc.aio.InternalError as error:
        logger.debug("The caller of %s went away: %s", rpc.name, error)
        raise asyncio.CancelledError from error


def _work_behavior(service: Service, rpc: Rpc, mailbox: Mailbox) -> Behavior:
    async def work(requests: AsyncIterable[bytes], context: Any) -> None:
        frames = aiter(requests)
        metadata = text_metadata(context.invocation_metadata())
        opening = await _or_refuse(context, partial(_opening, rpc, await anext(frames, b""), metadata))
        with _ending_quietly(rpc):
            await context.send_initial_metadata(())
        sink = FrameSink(mailbox)
        exchange = begin_exchange(service, rpc.name, opening.open, metadata, sink)
        answers.begin_all(exchange, opening, sink.settled)
        reading = asyncio.ensure_future(_read_all(rpc, frames, exchange, sink))
        try:
            await _write_all(rpc, sink, context)
        finally:
            exchange.cancel()
            reading.cancel()

    return work


def _opening(rpc: Rpc, data: bytes, metadata: Mapping[str, str]) -> additions_pb.WorkerFrame:
    """The frame that opens a stream.

    Raises:
        HubError: it opens none, or the one of another task hub than that of Hello.
    """
    frame: additions_pb.WorkerFrame = _parse(rpc, data)
    if not frame.HasField("open"):
        raise HubError("INVALID_ARGUMENT", f"the first frame of {rpc.name} has no request for work items")
    if frame.taskHub != (found := _task_hub(metadata)):
        text = f"the metadata of {rpc.name} names task hub '{found}', that of Hello '{frame.taskHub}'"
        raise HubError("FAILED_PRECONDITION", f"{text}: an interceptor leaves out this kind of call")
    return frame


async def _read_all(rpc: Rpc, frames: AsyncIterator[bytes], exchange: Exchange, sink: FrameSink) -> None:
    """Hand in the answers in all frames. A worker that has nothing more to say wants nothing more."""
    try:
        with _ending_quietly(rpc):
            async for data in frames:
                answers.begin_all(exchange, _parse(rpc, data), sink.settled)
    except Exception as fault:
        # Whatever it is, the worker must not wait for outcomes of answers that nobody reads.
        sink.close(as_hub_error(rpc.name, fault))
    else:
        # What has been handed out until then is still sent, for the worker to give back.
        exchange.cancel()
