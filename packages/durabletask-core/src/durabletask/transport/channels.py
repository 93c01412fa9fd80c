"""Channels to a task hub: addresses, options and interceptors, for threads and for asyncio."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio

from durabletask.grpc_options import GrpcChannelOptions
from durabletask.internal.grpc_interceptor import DefaultAsyncClientInterceptorImpl, DefaultClientInterceptorImpl

if TYPE_CHECKING:
    _AioUnaryUnary = grpc.aio.UnaryUnaryClientInterceptor[Any, Any]
    _AioUnaryStream = grpc.aio.UnaryStreamClientInterceptor[Any, Any]
    _AioStreamUnary = grpc.aio.StreamUnaryClientInterceptor[Any, Any]
    _AioStreamStream = grpc.aio.StreamStreamClientInterceptor[Any, Any]
else:
    _AioUnaryUnary = grpc.aio.UnaryUnaryClientInterceptor
    _AioUnaryStream = grpc.aio.UnaryStreamClientInterceptor
    _AioStreamUnary = grpc.aio.StreamUnaryClientInterceptor
    _AioStreamStream = grpc.aio.StreamStreamClientInterceptor

_DEFAULT_HOST_ADDRESS: Final = "localhost:4001"
_SCHEME_IS_SECURE: Final = {"https://": True, "grpcs://": True, "http://": False, "grpc://": False}


def default_host_address() -> str:
    """The address used when none is given, ``localhost:4001``; no environment variable is read."""
    return _DEFAULT_HOST_ADDRESS


@dataclass(frozen=True, slots=True)
class Address:
    """Where a channel goes: a gRPC target and whether TLS is used."""

    target: str
    secure: bool


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """All that is needed to open a channel, and to open it again.

    Args:
        host_address: ``host:port``, or with a scheme (see ``parse_address``); default ``localhost:4001``.
        secure_channel: Whether to use TLS when the address names no scheme.
        metadata: ``(key, value)`` pairs sent with every call.
        interceptors: Interceptors of the user, outermost first; the metadata is added after them.
        channel_options: Options of the channel; by default none is passed and gRPC's own hold.
        fresh_connection: Whether to connect anew. Otherwise gRPC lets channels of one process share a
            connection to the same address, and a channel opened to replace a broken one would get the
            broken connection back.

    Raises:
        ValueError: The channel options hold certificates, but the channel is a plaintext one.
    """

    host_address: str | None = None
    secure_channel: bool = False
    metadata: Sequence[tuple[str, str]] | None = None
    interceptors: Sequence[Any] | None = None
    channel_options: GrpcChannelOptions | None = None
    fresh_connection: bool = False

    def __post_init__(self) -> None:
        options = self.channel_options
        if options is not None and options.has_certificates and not self.address.secure:
            raise ValueError(
                "The channel options hold certificates, but the channel would be a plaintext one: use an https:// "
                f"address, or one without a scheme and secure_channel=True, found {self.host_address!r}"
            )

    @property
    def address(self) -> Address:
        return parse_address(self.host_address, self.secure_channel)

    def grpc_options(self) -> list[tuple[str, Any]] | None:
        """The channel arguments, or None to leave all to gRPC."""
        options = [] if self.channel_options is None else self.channel_options.to_grpc_options()
        if self.fresh_connection:
            options.append(("grpc.use_local_subchannel_pool", 1))
        return options or None

    def tls_credentials(self) -> grpc.ChannelCredentials:
        """What proves the two ends to each other; for a TLS channel."""
        options = self.channel_options or GrpcChannelOptions()
        return grpc.ssl_channel_credentials(options.root_certificates, options.client_key, options.client_certificate)


def parse_address(host_address: str | None, secure_channel: bool = False) -> Address:
    """Read a host address; a scheme decides about TLS, whatever ``secure_channel`` says.

    ``https://`` and ``grpcs://`` mean TLS, ``http://`` and ``grpc://`` plaintext, in any case.

    Raises:
        ValueError: The address is empty, or a scheme without a host.
    """
    address = _DEFAULT_HOST_ADDRESS if host_address is None else host_address
    for scheme, secure in _SCHEME_IS_SECURE.items():
        if address.lower().startswith(scheme):
            address, secure_channel = address[len(scheme) :], secure
            break
    if not address:
        raise ValueError(f"host_address must name a host, for example 'localhost:4001', found {host_address!r}")
    return Address(address, secure_channel)


def open_channel(settings: ChannelSettings) -> grpc.Channel:
    """Open a channel for threads; gRPC connects with the first call."""
    address, options = settings.address, settings.grpc_options()
    if address.secure:
        channel = grpc.secure_channel(address.target, settings.tls_credentials(), options)
    else:
        channel = grpc.insecure_channel(address.target, options)
    interceptors = list(settings.interceptors or ())
    if settings.metadata:
        interceptors.append(DefaultClientInterceptorImpl(settings.metadata))
    return grpc.intercept_channel(channel, *interceptors) if interceptors else channel


def open_aio_channel(settings: ChannelSettings) -> grpc.aio.Channel:
    """Open a channel for asyncio, bound to the running loop; gRPC connects with the first call."""
    address, options = settings.address, settings.grpc_options()
    interceptors: list[Any] = list(settings.interceptors or ())
    if settings.metadata:
        interceptors.append(DefaultAsyncClientInterceptorImpl(settings.metadata))
    single = [facade for interceptor in interceptors for facade in _single_kinds(interceptor)]
    if address.secure:
        return grpc.aio.secure_channel(address.target, settings.tls_credentials(), options, interceptors=single or None)
    return grpc.aio.insecure_channel(address.target, options, interceptors=single or None)


class _UnaryUnaryFacade(_AioUnaryUnary):
    def __init__(self, interceptor: Any) -> None:
        self._interceptor = interceptor

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._interceptor.intercept_unary_unary(continuation, client_call_details, request)


class _UnaryStreamFacade(_AioUnaryStream):
    def __init__(self, interceptor: Any) -> None:
        self._interceptor = interceptor

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._interceptor.intercept_unary_stream(continuation, client_call_details, request)


class _StreamUnaryFacade(_AioStreamUnary):
    def __init__(self, interceptor: Any) -> None:
        self._interceptor = interceptor

    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._interceptor.intercept_stream_unary(continuation, client_call_details, request_iterator)


class _StreamStreamFacade(_AioStreamStream):
    def __init__(self, interceptor: Any) -> None:
        self._interceptor = interceptor

    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._interceptor.intercept_stream_stream(continuation, client_call_details, request_iterator)


_FACADES: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (grpc.aio.UnaryUnaryClientInterceptor, _UnaryUnaryFacade),
    (grpc.aio.UnaryStreamClientInterceptor, _UnaryStreamFacade),
    (grpc.aio.StreamUnaryClientInterceptor, _StreamUnaryFacade),
    (grpc.aio.StreamStreamClientInterceptor, _StreamStreamFacade),
)


def _single_kinds(interceptor: Any) -> list[Any]:
    """One interceptor for each kind of call that this one serves.

    An asyncio channel files an interceptor under the first kind it is an instance of and never asks
    it about the others, so one that serves several would be silent for, say, streams.
    """
    facades = [make for kind, make in _FACADES if isinstance(interceptor, kind)]
    return [make(interceptor) for make in facades] if len(facades) > 1 else [interceptor]
