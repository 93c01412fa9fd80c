"""What every transport shares: the service as it sees it, safe calls, and the way into an event loop.

Three transports lead to one service: a gRPC server, and the two in-process channels. None of them
knows what the calls mean. Results arrive on the service's threads; :class:`Mailbox` carries them
into an event loop, many at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message

from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.outgoing import Outgoing
from durabletask_scheduler.rpc import RPCS, Cancel, Exchange, Reply, Rpc, Sink

logger = logging.getLogger("durabletask_scheduler.transport")

MetadataPairs = tuple[tuple[str, str], ...]
Serializer = Callable[[Any], bytes]
Deserializer = Callable[[bytes], Any]

MAX_DETAILS_BYTES = 2000
"""How much of an error message travels, in UTF-8. Other than ASCII grows threefold on the wire, and gRPC drops
calls whose trailing metadata exceeds 8 KiB."""


class Service(Protocol):
    """What a transport needs of the scheduler's service."""

    def call(self, rpc: str, request: Message, metadata: Mapping[str, str], reply: Reply) -> Cancel: ...

    def open_stream(self, rpc: str, request: Message, metadata: Mapping[str, str], sink: Sink) -> Cancel: ...

    def open_exchange(self, rpc: str, request: Message, metadata: Mapping[str, str], sink: Sink) -> Exchange: ...

    def initial_metadata(self, rpc: str) -> MetadataPairs: ...


def begin_call(service: Service, rpc: str, request: Message, metadata: Mapping[str, str], reply: Reply) -> Cancel:
    """Start a unary call; whatever the service raises becomes its answer."""
    try:
        return service.call(rpc, request, metadata, reply)
    except Exception as error:
        reply(None, as_hub_error(rpc, error))
    return _nothing_to_cancel


def begin_stream(service: Service, rpc: str, request: Message, metadata: Mapping[str, str], sink: Sink) -> Cancel:
    """Start a stream; whatever the service raises ends it."""
    try:
        return service.open_stream(rpc, request, metadata, sink)
    except Exception as error:
        sink.close(as_hub_error(rpc, error))
    return _nothing_to_cancel


def begin_exchange(service: Service, rpc: str, request: Message, metadata: Mapping[str, str], sink: Sink) -> Exchange:
    """Start a stream of work items that takes answers; whatever the service raises ends it."""
    try:
        return service.open_exchange(rpc, request, metadata, sink)
    except Exception as error:
        sink.close(as_hub_error(rpc, error))
    return Exchange(_nothing_to_cancel, lambda *_: None)


def begin_answer(exchange: Exchange, rpc: str, request: Message, reply: Reply) -> None:
    """Hand in an answer; whatever the service raises becomes its reply."""
    try:
        exchange.answer(rpc, request, reply)
    except Exception as error:
        reply(None, as_hub_error(rpc, error))


def as_hub_error(rpc: str, error: Exception) -> HubError:
    """What the caller is told of what the service raised; a fault of the service's own is reported too."""
    if isinstance(error, HubError):
        return error
    logger.error("%s failed inside the scheduler; the caller gets INTERNAL", rpc, exc_info=error)
    return HubError("INTERNAL", f"{rpc} failed inside the scheduler: {type(error).__name__}: {error}")


def _nothing_to_cancel() -> None:
    pass


def not_served(rpc: str) -> tuple[grpc.StatusCode, str]:
    """The status of a method that the protocol does not have, or has in another arity."""
    kinds = ", ".join(sorted(name for name, known in RPCS.items() if known.streaming and not known.takes_stream))
    text = f"this scheduler has no call {rpc!r} of this kind; {kinds} answer with a stream, all others with one message"
    return grpc.StatusCode.UNIMPLEMENTED, text


def status_of(error: HubError) -> tuple[grpc.StatusCode, str]:
    """The gRPC status of a refusal; its text is cut to :data:`MAX_DETAILS_BYTES`."""
    text = error.message.encode("utf-8", "replace")
    if len(text) > MAX_DETAILS_BYTES:
        text = text[: MAX_DETAILS_BYTES - 3] + b"..."
    return grpc.StatusCode[error.code], text.decode("utf-8", "ignore")


def text_metadata(metadata: Iterable[tuple[str, Any]] | None) -> dict[str, str]:
    """Call metadata as a mapping of its text values; binary values (keys ending in ``-bin``) are left out."""
    if not metadata:
        return {}
    return {key: value for key, value in metadata if isinstance(value, str)}


class MessageBridge:
    """Lets callers pass messages as objects, and callers with another copy of the protocol pass their own.

    Args:
        rpc: the call.
        serialize: the caller's request serializer, if its stub gave one.
        deserialize: the caller's response deserializer, if its stub gave one.

    Attributes:
        request_type: what the service wants; a request of this very type needs no bridge.
    """

    def __init__(self, rpc: Rpc, serialize: Serializer | None, deserialize: Deserializer | None) -> None:
        self.request_type = rpc.request_type
        self._rpc = rpc
        self._serialize = serialize
        self._deserialize = deserialize

    def incoming(self, request: Any) -> tuple[Message, Deserializer | None]:
        """The request as the service wants it, and what turns responses into the caller's messages, if anything must.

        Raises:
            TypeError: neither our message nor one that the caller's stub can serialize.
        """
        expected = self.request_type
        if type(request) is expected:
            return request, None
        if self._serialize is None or not isinstance(request, Message):
            found = f"{type(request).__module__}.{type(request).__qualname__}"
            raise TypeError(f"{self._rpc.name} expects a {expected.DESCRIPTOR.name} message, found {found}")
        return expected.FromString(self._serialize(request)), self._deserialize


def rpc_name(method: str) -> str:
    """The name in a method path such as ``/TaskHubSidecarService/Hello``."""
    return method.rpartition("/")[2]


def bridge_for(
    method: str, serialize: Serializer | None, deserialize: Deserializer | None, *, streaming: bool
) -> MessageBridge | None:
    """The bridge for a method that the protocol has in this arity, else None."""
    rpc = RPCS.get(rpc_name(method))
    if rpc is None or rpc.takes_stream or rpc.streaming != streaming:
        return None
    return MessageBridge(rpc, serialize, deserialize)


class Mailbox:
    """Runs callables on one event loop; many that are posted together wake the loop once.

    Args:
        outgoing: says when to wake the loop for what an engine's step posts; at once by default.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, outgoing: Outgoing | None = None) -> None:
        self._loop = loop
        self._outgoing = outgoing or Outgoing()
        self._letters: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._awake = False

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Have ``function(*args)`` called on the loop, in the order of posting; any thread."""
        self._letters.append((function, args))
        if not self._awake:
            self._awake = True
            self._outgoing.wake(self._wake)

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            # The loop is closed: nobody will ever read them, nor what is posted from now on.
            self._letters.clear()
            self._awake = False

    def _deliver(self) -> None:
        self._awake = False
        while self._letters:
            function, args = self._letters.popleft()
            try:
                function(*args)
            except Exception as error:
                context = {"message": f"{function!r} failed", "exception": error}
                self._loop.call_exception_handler(context)
