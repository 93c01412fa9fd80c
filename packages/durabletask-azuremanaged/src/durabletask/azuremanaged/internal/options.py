"""What ``from_connection_string`` passes on to the constructors; for type checkers only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, TypedDict

import grpc
import grpc.aio
from durabletask.exception_properties import ExceptionPropertiesProvider
from durabletask.grpc_options import GrpcChannelOptions, GrpcClientResiliencyOptions, GrpcWorkerResiliencyOptions
from durabletask.payload import PayloadStore
from durabletask.serialization import DataConverter
from durabletask.worker import ConcurrencyOptions


class CommonOptions(TypedDict, total=False):
    """Keywords that clients and workers share."""

    resource_id: str | None
    interceptors: Sequence[Any] | None
    channel_options: GrpcChannelOptions | None
    payload_store: PayloadStore | None
    data_converter: DataConverter | None
    log_handler: logging.Handler | None
    log_formatter: logging.Formatter | None
    logger: logging.Logger | None
    allow_insecure_token: bool


class AnyClientOptions(CommonOptions, total=False):
    """Keywords of both clients."""

    resiliency_options: GrpcClientResiliencyOptions | None
    default_version: str | None


class ClientOptions(AnyClientOptions, total=False):
    """Keywords of the synchronous client."""

    channel: grpc.Channel | None


class AsyncClientOptions(AnyClientOptions, total=False):
    """Keywords of the asynchronous client."""

    channel: grpc.aio.Channel | None


class WorkerOptions(CommonOptions, total=False):
    """Keywords of the worker."""

    channel: grpc.Channel | None
    resiliency_options: GrpcWorkerResiliencyOptions | None
    concurrency_options: ConcurrencyOptions | None
    exception_properties_provider: ExceptionPropertiesProvider | None
