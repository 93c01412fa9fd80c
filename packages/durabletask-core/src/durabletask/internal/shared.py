"""Small functions that tools built on this package import: addresses, channels, loggers and JSON."""

import json
import logging
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc.aio

from durabletask.grpc_options import GrpcChannelOptions
from durabletask.logging_options import private_logger
from durabletask.serialization import DEFAULT_DATA_CONVERTER
from durabletask.transport.channels import ChannelSettings, default_host_address, open_aio_channel, open_channel

if TYPE_CHECKING:
    ClientInterceptor: TypeAlias = (
        grpc.UnaryUnaryClientInterceptor[Any, Any]
        | grpc.UnaryStreamClientInterceptor[Any, Any]
        | grpc.StreamUnaryClientInterceptor[Any, Any]
        | grpc.StreamStreamClientInterceptor[Any, Any]
    )
    AsyncClientInterceptor: TypeAlias = (
        grpc.aio.UnaryUnaryClientInterceptor[Any, Any]
        | grpc.aio.UnaryStreamClientInterceptor[Any, Any]
        | grpc.aio.StreamUnaryClientInterceptor[Any, Any]
        | grpc.aio.StreamStreamClientInterceptor[Any, Any]
    )
else:
    # gRPC's interceptor classes are generic for type checkers only.
    ClientInterceptor = (
        grpc.UnaryUnaryClientInterceptor
        | grpc.UnaryStreamClientInterceptor
        | grpc.StreamUnaryClientInterceptor
        | grpc.StreamStreamClientInterceptor
    )
    AsyncClientInterceptor = (
        grpc.aio.UnaryUnaryClientInterceptor
        | grpc.aio.UnaryStreamClientInterceptor
        | grpc.aio.StreamUnaryClientInterceptor
        | grpc.aio.StreamStreamClientInterceptor
    )


def get_default_host_address() -> str:
    """The address used when none is given: ``localhost:4001``."""
    return default_host_address()


def get_grpc_channel(
    host_address: str | None,
    secure_channel: bool = False,
    interceptors: Sequence[Any] | None = None,
    channel_options: GrpcChannelOptions | None = None,
) -> grpc.Channel:
    """Open a channel; a scheme in the address wins over ``secure_channel``."""
    return open_channel(
        ChannelSettings(host_address, secure_channel, interceptors=interceptors, channel_options=channel_options)
    )


def get_async_grpc_channel(
    host_address: str | None,
    secure_channel: bool = False,
    interceptors: Sequence[Any] | None = None,
    channel_options: GrpcChannelOptions | None = None,
) -> grpc.aio.Channel:
    """Open an asyncio channel on the running loop; a scheme in the address wins over ``secure_channel``."""
    return open_aio_channel(
        ChannelSettings(host_address, secure_channel, interceptors=interceptors, channel_options=channel_options)
    )


def get_logger(
    name_suffix: str, log_handler: logging.Handler | None = None, log_formatter: logging.Formatter | None = None
) -> logging.Logger:
    """The private logger ``durabletask-<name_suffix>``."""
    return private_logger(name_suffix, log_handler, log_formatter)


def to_json(obj: Any) -> str:
    """Encode a value as the default data converter does; None becomes ``null``."""
    encoded = DEFAULT_DATA_CONVERTER.serialize(obj)
    return "null" if encoded is None else encoded


def from_json(json_str: str | bytes | bytearray) -> Any:
    """Deprecated: decode JSON text without a type. Use a data converter's ``deserialize``."""
    warnings.warn("from_json is deprecated: use DataConverter.deserialize", DeprecationWarning, stacklevel=2)
    return json.loads(json_str)
