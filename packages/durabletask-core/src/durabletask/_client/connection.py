"""Carries calls out, on threads and on asyncio."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

import grpc
import grpc.aio
from google.protobuf import empty_pb2
from google.protobuf.message import Message

from durabletask._client.bulk import BulkStart, Outcome, outcomes_of
from durabletask._client.calls import Call, Conversation
from durabletask._client.channel_keeper import ChannelKeeper
from durabletask._client.health import ConnectionHealth, status_code
from durabletask._client.models import UnsupportedByServerError
from durabletask.grpc_options import GrpcClientResiliencyOptions
from durabletask.payload import (
    PayloadStore,
    deexternalize_payloads,
    deexternalize_payloads_async,
    externalize_payloads,
    externalize_payloads_async,
)
from durabletask.transport.additions import announces
from durabletask.transport.channels import ChannelSettings, open_aio_channel, open_channel

T = TypeVar("T")
TChannel = TypeVar("TChannel")

_CALLS_IN_FLIGHT: Final = 128
_HELLO_SECONDS: Final = 10.0
# Programs written for durabletask 1.12 may look for the words that are made of these.
_AWAITED: Final = {"WaitForInstanceStart": "start", "WaitForInstanceCompletion": "complete"}


@dataclass(frozen=True)
class ConnectionOptions(Generic[TChannel]):
    """What a connection needs to know.

    Args:
        channel: A channel of the user; it is used as it is.
        settings: How to open a channel otherwise.
        resiliency: When to replace a channel that keeps failing.
        payload_store: Where large payloads are kept.
        logger: Where outages are reported.
    """

    channel: TChannel | None
    settings: ChannelSettings
    resiliency: GrpcClientResiliencyOptions | None
    payload_store: PayloadStore | None
    logger: logging.Logger

    def health(self) -> ConnectionHealth:
        # Read here, so that a bad address is an error of the client's constructor.
        target = self.settings.address.target
        address = target if self.channel is None else "the other end of the supplied channel"
        return ConnectionHealth(self.resiliency or GrpcClientResiliencyOptions(), address, self.logger)


def _raise_explained(call: Call[Any], error: grpc.RpcError) -> None:
    """Raise another error in place of one that gRPC has no better name for."""
    code = status_code(error)
    if call.long_poll and code is grpc.StatusCode.DEADLINE_EXCEEDED:
        raise TimeoutError(_timed_out(call)) from error
    if call.instead and code is grpc.StatusCode.UNIMPLEMENTED:
        raise UnsupportedByServerError(
            f"this server does not have {call.rpc}, which durabletask-scheduler has: {call.instead}"
        ) from error


def _timed_out(call: Call[Any]) -> str:
    request: Any = call.request
    end = _AWAITED[call.rpc]
    return (
        f"Timed-out waiting for the orchestration to {end}: instance {request.instanceId!r} did not {end} within "
        f"{call.timeout} s. If it should have, see that a worker of this task hub is running that has registered its "
        "orchestrator."
    )


def _copies(messages: Sequence[Message]) -> list[Message]:
    """Messages that may be changed: those of an in-process channel still belong to the server."""
    copies = []
    for message in messages:
        copy = type(message)()
        copy.CopyFrom(message)
        copies.append(copy)
    return copies


class Connection:
    """Carries calls out on the calling thread."""

    def __init__(self, options: ConnectionOptions[grpc.Channel]) -> None:
        self._store = options.payload_store
        self._greeted: Any = None
        self._additions = False
        self._health = options.health()
        self._keeper: ChannelKeeper[grpc.Channel] = ChannelKeeper(
            options.channel, lambda fresh: open_channel(replace(options.settings, fresh_connection=fresh))
        )

    def run(self, call: Call[T]) -> T:
        """Carry out one call and return its result.

        Raises:
            TimeoutError: A long poll reached its deadline.
            UnsupportedByServerError: The server does not have an RPC that not every server has.
            grpc.RpcError: The call failed in another way.
        """
        if call.span is None:
            return call.parse(self._answer(call))
        with call.span:
            return call.parse(self._answer(call))

    def converse(self, conversation: Conversation[T]) -> T:
        """Carry out the calls of a conversation and return its result."""
        try:
            call = next(conversation)
            while True:
                call = conversation.send(self.run(call))
        except StopIteration as end:
            result: T = end.value
            return result

    def run_all(self, calls: Sequence[Call[str]]) -> list[str | Exception]:
        """Carry out many unary calls at once, a bounded number in flight; results or errors, in order."""
        slots = threading.BoundedSemaphore(_CALLS_IN_FLIGHT)
        endings = [self._begin(call, slots) for call in calls]
        return [ending() for ending in endings]

    def start_all(self, calls: list[Call[str]]) -> list[Outcome]:
        """Carry out many starts, together if the server has a call for that; what became of them, in order.

        The calls are taken out of the list.
        """
        if len(calls) < 2 or not self._has_additions():
            return outcomes_of(calls, self.run_all(calls))
        bulk = BulkStart(calls)
        for index, call in bulk.calls() if self._store is not None else ():
            try:
                self._upload(call)
            except Exception as error:
                bulk.fail(index, error)
        for part in bulk.parts():
            try:
                bulk.answered(self._answer(part))
            except Exception as error:
                bulk.refused(error)
        return bulk.outcomes(self.run_all(bulk.left()))

    def close(self) -> None:
        """Close the channel, if it is our own. Closing twice does nothing more."""
        for channel in self._keeper.take_all():
            channel.close()

    def _answer(self, call: Call[Any]) -> Any:
        if self._store is not None:
            self._upload(call)
        try:
            method = self._method(call)
            answer = method(call.request, timeout=call.timeout, metadata=call.metadata or None)
            answer = list(answer) if call.streams else answer
        except grpc.RpcError as error:
            self._note_failure(call, error)
            _raise_explained(call, error)
            raise
        if self._health.troubled:
            self._health.succeeded()
        return answer if self._store is None else self._restored(call, answer)

    def _has_additions(self) -> bool:
        """Whether the server announces calls beyond the protocol; asked once for every channel."""
        stub = self._keeper.stub()
        if self._greeted is not stub:
            greeting = stub.Hello.future(empty_pb2.Empty(), timeout=_HELLO_SECONDS)
            try:
                greeting.result()
            except Exception:
                # Whatever it is, the calls themselves will tell.
                return False
            self._additions = announces(greeting.initial_metadata())
            self._greeted = stub
        return self._additions

    def _method(self, call: Call[Any]) -> Any:
        if self._keeper.has_retired:
            for channel in self._keeper.take_due():
                channel.close()
        return getattr(self._keeper.stub(), call.rpc)

    def _begin(self, call: Call[str], slots: threading.BoundedSemaphore) -> Callable[[], str | Exception]:
        """Send a call as soon as a slot is free; returns how to wait for its outcome."""
        slots.acquire()
        try:
            self._upload(call)
            future = self._method(call).future(call.request, timeout=call.timeout, metadata=call.metadata or None)
        except Exception as error:
            slots.release()
            refusal = Future[Any]()
            refusal.set_exception(error)
            return lambda: self._outcome(call, refusal)
        future.add_done_callback(lambda _: slots.release())
        return lambda: self._outcome(call, future)

    def _outcome(self, call: Call[str], future: Any) -> str | Exception:
        try:
            with call.span or nullcontext():
                answer = future.result()
        except grpc.RpcError as error:
            self._note_failure(call, error)
            return error
        except Exception as error:
            return error
        if self._health.troubled:
            self._health.succeeded()
        return call.parse(self._restored(call, answer))

    def _note_failure(self, call: Call[Any], error: grpc.RpcError) -> None:
        if self._health.failed(call, error):
            self._keeper.replace()

    def _upload(self, call: Call[Any]) -> None:
        if self._store is not None and call.uploads_for is not None:
            externalize_payloads(call.request, self._store, instance_id=call.uploads_for)

    def _restored(self, call: Call[Any], answer: Any) -> Any:
        if self._store is None or not call.downloads:
            return answer
        copies = _copies(answer if call.streams else [answer])
        for copy in copies:
            deexternalize_payloads(copy, self._store)
        return copies if call.streams else copies[0]


class AsyncConnection:
    """Carries calls out on the running loop; the channel is bound to the loop of the first call."""

    def __init__(self, options: ConnectionOptions[grpc.aio.Channel]) -> None:
        self._store = options.payload_store
        self._greeted: Any = None
        self._additions = False
        self._health = options.health()
        self._keeper: ChannelKeeper[grpc.aio.Channel] = ChannelKeeper(
            options.channel, lambda fresh: open_aio_channel(replace(options.settings, fresh_connection=fresh))
        )

    async def run(self, call: Call[T]) -> T:
        """As ``Connection.run``; errors of the transport are ``grpc.aio.AioRpcError``."""
        if call.span is None:
            return call.parse(await self._answer(call))
        with call.span:
            return call.parse(await self._answer(call))

    async def converse(self, conversation: Conversation[T]) -> T:
        """As ``Connection.converse``."""
        try:
            call = next(conversation)
            while True:
                call = conversation.send(await self.run(call))
        except StopIteration as end:
            result: T = end.value
            return result

    async def run_all(self, calls: Sequence[Call[str]]) -> list[str | Exception]:
        """As ``Connection.run_all``."""
        slots = asyncio.Semaphore(_CALLS_IN_FLIGHT)

        async def outcome(call: Call[str]) -> str | Exception:
            async with slots:
                try:
                    return await self.run(call)
                except Exception as error:
                    return error

        return await asyncio.gather(*(outcome(call) for call in calls))

    async def start_all(self, calls: list[Call[str]]) -> list[Outcome]:
        """As ``Connection.start_all``."""
        if len(calls) < 2 or not await self._has_additions():
            return outcomes_of(calls, await self.run_all(calls))
        bulk = BulkStart(calls)
        if self._store is not None:
            await self._upload_all(bulk)
        for part in bulk.parts():
            try:
                bulk.answered(await self._answer(part))
            except Exception as error:
                bulk.refused(error)
        return bulk.outcomes(await self.run_all(bulk.left()))

    async def close(self) -> None:
        """Close the channel, if it is our own. Closing twice does nothing more."""
        for channel in self._keeper.take_all():
            await channel.close(None)

    async def _answer(self, call: Call[Any]) -> Any:
        if self._store is not None:
            await self._upload(call)
        try:
            if self._keeper.has_retired:
                await self._close_due()
            method = getattr(self._keeper.stub(), call.rpc)
            pending = method(call.request, timeout=call.timeout, metadata=call.metadata or None)
            answer = [message async for message in pending] if call.streams else await pending
        except grpc.RpcError as error:
            if self._health.failed(call, error):
                self._keeper.replace()
            _raise_explained(call, error)
            raise
        if self._health.troubled:
            self._health.succeeded()
        return answer if self._store is None else await self._restored(call, answer)

    async def _has_additions(self) -> bool:
        """As ``Connection._has_additions``."""
        stub = self._keeper.stub()
        if self._greeted is not stub:
            greeting = stub.Hello(empty_pb2.Empty(), timeout=_HELLO_SECONDS)
            try:
                await greeting
            except Exception:
                # Whatever it is, the calls themselves will tell.
                return False
            self._additions = announces(await greeting.initial_metadata())
            self._greeted = stub
        return self._additions

    async def _upload_all(self, bulk: BulkStart) -> None:
        slots = asyncio.Semaphore(_CALLS_IN_FLIGHT)

        async def upload(index: int, call: Call[str]) -> None:
            async with slots:
                try:
                    await self._upload(call)
                except Exception as error:
                    bulk.fail(index, error)

        await asyncio.gather(*(upload(index, call) for index, call in bulk.calls()))

    async def _close_due(self) -> None:
        for channel in self._keeper.take_due():
            await channel.close(None)

    async def _upload(self, call: Call[Any]) -> None:
        if self._store is not None and call.uploads_for is not None:
            await externalize_payloads_async(call.request, self._store, instance_id=call.uploads_for)

    async def _restored(self, call: Call[Any], answer: Any) -> Any:
        if self._store is None or not call.downloads:
            return answer
        copies = _copies(answer if call.streams else [answer])
        for copy in copies:
            await deexternalize_payloads_async(copy, self._store)
        return copies if call.streams else copies[0]
