"""Client interceptors of ``grpc.aio`` around the calls of the in-process asyncio channel."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from typing import Any

import grpc
import grpc.aio

from durabletask_scheduler.aio_calls import EOF, DoneCallback

Begin = Callable[[Any, Any], Any]
"""Starts the real call from call details and a request."""


async def run_chain(method: str, interceptors: Sequence[Any], begin: Begin, details: Any, request: Any) -> Any:
    """Ask the first interceptor, whose continuation asks the next; the last continuation begins the call."""
    if not interceptors:
        return begin(details, request)
    continuation = functools.partial(run_chain, method, interceptors[1:], begin)
    return await getattr(interceptors[0], method)(continuation, details, request)


class InterceptedCall(grpc.aio.Call):
    """A call that interceptors are about to make. It is what they return: a call, or a response in its place."""

    def __init__(self, outcome: Any) -> None:
        self._task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(outcome)

    def cancel(self) -> bool:
        if not self._task.done():
            return self._task.cancel()
        call = self._made()
        return call is not None and bool(call.cancel())

    def cancelled(self) -> bool:
        call = self._made()
        return self._task.cancelled() if call is None else bool(call.cancelled())

    def done(self) -> bool:
        call = self._made()
        return self._task.done() if call is None else bool(call.done())

    def time_remaining(self) -> float | None:
        call = self._made()
        remaining: float | None = None if call is None else call.time_remaining()
        return remaining

    def add_done_callback(self, callback: DoneCallback) -> None:
        def when_made(_: asyncio.Task[Any]) -> None:
            call = self._made()
            if call is None:
                callback(self)
            else:
                call.add_done_callback(lambda _: callback(self))

        self._task.add_done_callback(when_made)

    async def initial_metadata(self) -> grpc.aio.Metadata:
        answer: grpc.aio.Metadata = await self._ask("initial_metadata", grpc.aio.Metadata())
        return answer

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        answer: grpc.aio.Metadata = await self._ask("trailing_metadata", grpc.aio.Metadata())
        return answer

    async def code(self) -> grpc.StatusCode:
        answer: grpc.StatusCode = await self._ask("code", grpc.StatusCode.OK)
        return answer

    async def details(self) -> str:
        answer: str = await self._ask("details", "")
        return answer

    async def wait_for_connection(self) -> None:
        await self._task

    async def _ask(self, question: str, otherwise: Any) -> Any:
        """Put a question to the call; to the error if there is none; a plain response gives ``otherwise``."""
        await asyncio.wait([self._task])
        if self._task.cancelled():
            return {"code": grpc.StatusCode.CANCELLED}.get(question, otherwise)
        error = self._task.exception()
        if isinstance(error, grpc.aio.AioRpcError):
            return getattr(error, question)()
        made = self._task.result()
        return await getattr(made, question)() if isinstance(made, grpc.aio.Call) else otherwise

    def _made(self) -> Any:
        """The call that the interceptors made; None if there is none (yet)."""
        if not self._task.done() or self._task.cancelled() or self._task.exception() is not None:
            return None
        made = self._task.result()
        return made if isinstance(made, grpc.aio.Call) else None


class InterceptedUnaryCall(InterceptedCall, grpc.aio.UnaryUnaryCall):  # type: ignore[type-arg]
    def __await__(self) -> Generator[Any, None, Any]:
        return self._response().__await__()

    async def _response(self) -> Any:
        made = await self._task
        return await made if isinstance(made, grpc.aio.Call) else made  # type: ignore[misc]


class InterceptedStreamCall(InterceptedCall, grpc.aio.UnaryStreamCall):  # type: ignore[type-arg]
    def __init__(self, outcome: Any) -> None:
        super().__init__(outcome)
        self._iterator: AsyncIterator[Any] | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._iterator is None:
            self._iterator = (await self._task).__aiter__()
        return await self._iterator.__anext__()

    async def read(self) -> Any:
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            return EOF
