"""The constructors' keywords: which there are, which are required, their defaults, and where each of them goes."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import grpc
import pytest
from durabletask import payload, serialization
from durabletask.azuremanaged import client as client_module
from durabletask.azuremanaged import worker as worker_module
from durabletask.azuremanaged.client import AsyncDurableTaskSchedulerClient, DurableTaskSchedulerClient
from durabletask.azuremanaged.internal.access_token_manager import AccessTokenManager, AsyncAccessTokenManager
from durabletask.azuremanaged.internal.durabletask_grpc_interceptor import (
    DTSAsyncDefaultClientInterceptorImpl,
    DTSDefaultClientInterceptorImpl,
)
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from durabletask.client import AsyncTaskHubGrpcClient, TaskHubGrpcClient
from durabletask.grpc_options import GrpcChannelOptions, GrpcClientResiliencyOptions, GrpcWorkerResiliencyOptions
from durabletask.worker import ConcurrencyOptions, TaskHubGrpcWorker

REQUIRED = inspect.Parameter.empty
HOST = "scheduler.example:443"

# The keywords in their order with their defaults, as of 1.12.
CONNECTING = {
    "host_address": REQUIRED,
    "taskhub": REQUIRED,
    "token_credential": REQUIRED,
    "resource_id": None,
    "channel": None,
    "secure_channel": True,
    "interceptors": None,
    "channel_options": None,
    "resiliency_options": None,
}
OF_CLIENTS = {"default_version": None}
OF_WORKERS = {"concurrency_options": None}
SHARED = {"payload_store": None, "data_converter": None, "log_handler": None, "log_formatter": None, "logger": None}
CLIENT_SURFACE = {**CONNECTING, **OF_CLIENTS, **SHARED}
WORKER_SURFACE = {**CONNECTING, **OF_WORKERS, **SHARED, "exception_properties_provider": None}
ADDED = {"allow_insecure_token": False}
REFUSED = ("metadata", "maximum_timer_interval", "emit_trace_spans")


class Case(NamedTuple):
    made: type[Any]
    base: type[Any]
    patched: str
    surface: dict[str, Any]
    own: dict[str, Any]
    headers: type[Any]


class Store(payload.PayloadStore):
    options = payload.LargePayloadStorageOptions()

    def upload(self, *_: Any, **__: Any) -> str:
        return ""

    async def upload_async(self, *_: Any, **__: Any) -> str:
        return ""

    def download(self, *_: Any) -> bytes:
        return b""

    async def download_async(self, *_: Any) -> bytes:
        return b""

    def is_known_token(self, *_: Any) -> bool:
        return False


FORWARDED: dict[str, Any] = {
    "payload_store": Store(),
    "data_converter": serialization.JsonDataConverter(),
    "log_handler": logging.NullHandler(),
    "log_formatter": logging.Formatter(),
    "logger": logging.getLogger("of-the-user"),
    "channel_options": GrpcChannelOptions(raw_options=[("grpc.max_metadata_size", 1)]),
    "secure_channel": False,
    "channel": object(),
}
CLIENT_OWN = {"default_version": "1.2", "resiliency_options": GrpcClientResiliencyOptions()}
WORKER_OWN = {
    "concurrency_options": ConcurrencyOptions(),
    "exception_properties_provider": lambda error: {},
    "resiliency_options": GrpcWorkerResiliencyOptions(),
}
CASES = [
    Case(
        DurableTaskSchedulerClient,
        TaskHubGrpcClient,
        f"{client_module.__name__}.TaskHubGrpcClient.__init__",
        CLIENT_SURFACE,
        CLIENT_OWN,
        DTSDefaultClientInterceptorImpl,
    ),
    Case(
        AsyncDurableTaskSchedulerClient,
        AsyncTaskHubGrpcClient,
        f"{client_module.__name__}.AsyncTaskHubGrpcClient.__init__",
        CLIENT_SURFACE,
        CLIENT_OWN,
        DTSAsyncDefaultClientInterceptorImpl,
    ),
    Case(
        DurableTaskSchedulerWorker,
        TaskHubGrpcWorker,
        f"{worker_module.__name__}.TaskHubGrpcWorker.__init__",
        WORKER_SURFACE,
        WORKER_OWN,
        DTSDefaultClientInterceptorImpl,
    ),
]
EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: case.made.__name__)
MINIMUM: dict[str, Any] = {"host_address": HOST, "taskhub": "orders", "token_credential": None}


@pytest.fixture
def base(case: Case) -> Iterator[mock.Mock]:
    """Stands in for the base class's constructor, as the tests of applications do it."""
    with mock.patch(case.patched, return_value=None) as patched:
        yield patched


@EVERY
def test_the_keywords_their_order_and_their_defaults_are_exactly_these(case: Case) -> None:
    parameters = list(inspect.signature(case.made).parameters.values())
    assert {each.kind for each in parameters} == {inspect.Parameter.KEYWORD_ONLY}
    assert {each.name: each.default for each in parameters} == {**case.surface, **ADDED}
    assert [each.name for each in parameters] == [*case.surface, *ADDED]


@EVERY
@pytest.mark.parametrize("name", ["host_address", "taskhub", "token_credential"])
def test_what_is_required_cannot_be_left_out(case: Case, name: str) -> None:
    with pytest.raises(TypeError, match=name):
        case.made(**{key: value for key, value in MINIMUM.items() if key != name})


@EVERY
@pytest.mark.parametrize("name", REFUSED)
def test_what_the_scheduler_decides_is_no_keyword(case: Case, name: str) -> None:
    with pytest.raises(TypeError, match=name):
        case.made(**MINIMUM, **{name: None})


@EVERY
def test_each_option_reaches_the_base_class_as_it_is(case: Case, base: mock.Mock) -> None:
    given = {**FORWARDED, **case.own}
    assert {*given, "interceptors", "resource_id", *MINIMUM} == set(case.surface)
    case.made(**MINIMUM, **given)
    (positional, keywords) = base.call_args
    assert positional == ()
    for name, value in given.items():
        assert keywords[name] is value, name
    assert keywords["host_address"] == HOST
    assert keywords["metadata"] is None


@EVERY
def test_left_out_options_reach_the_base_class_as_their_defaults(case: Case, base: mock.Mock) -> None:
    case.made(**MINIMUM)
    keywords = base.call_args.kwargs
    not_passed = {"taskhub", "token_credential", "resource_id", "interceptors", "host_address"}
    expected = {name: default for name, default in case.surface.items() if name not in not_passed}
    assert {name: keywords[name] for name in expected} == expected
    extra = set(keywords) - set(expected) - {"host_address", "interceptors", "metadata"}
    assert extra == ({"maximum_timer_interval"} if case.base is TaskHubGrpcWorker else set())
    assert keywords.get("maximum_timer_interval") is None


@EVERY
def test_the_interceptor_that_adds_the_headers_comes_last(case: Case, base: mock.Mock) -> None:
    own = object()
    case.made(**MINIMUM, interceptors=(own,))
    first, headers = base.call_args.kwargs["interceptors"]
    assert first is own
    assert type(headers) is case.headers


@EVERY
def test_every_keyword_of_the_base_class_is_offered_or_decided(case: Case) -> None:
    """A keyword that the core gets later is noticed here."""
    of_base = set(inspect.signature(case.base).parameters)
    assert of_base - set(case.surface) == set(REFUSED) & of_base


@EVERY
@pytest.mark.parametrize("name", ["taskhub", "token_credential", "host_address"])
def test_a_connection_string_decides_what_it_names(case: Case, name: str) -> None:
    text = "Endpoint=http://localhost:8080;TaskHub=orders;Authentication=None"
    with pytest.raises(TypeError, match=name):
        case.made.from_connection_string(text, **{name: "other"})


@EVERY
def test_all_other_options_may_follow_a_connection_string(case: Case, base: mock.Mock) -> None:
    # The endpoint's scheme decides over secure_channel.
    given = {name: value for name, value in {**FORWARDED, **case.own}.items() if name != "secure_channel"}
    text = "Endpoint=http://localhost:8080;TaskHub=orders;Authentication=None"
    case.made.from_connection_string(text, **given)
    for name, value in given.items():
        assert base.call_args.kwargs[name] is value, name
    assert base.call_args.kwargs["host_address"] == "http://localhost:8080"


def test_a_channel_of_the_user_may_come_with_a_credential_in_clear_text() -> None:
    """No header is added to it, so no token travels."""
    with grpc.insecure_channel("localhost:1") as channel:
        DurableTaskSchedulerClient(
            host_address="http://far.example", taskhub="orders", token_credential=mock.Mock(), channel=channel
        ).close()


MANAGERS = {"token_credential": REQUIRED, "refresh_interval_seconds": 600, "resource_id": None}
INTERCEPTORS = {"token_credential": REQUIRED, "taskhub_name": REQUIRED, "worker_id": None, "resource_id": None}
INTERNALS = [
    (AccessTokenManager, MANAGERS),
    (AsyncAccessTokenManager, MANAGERS),
    (DTSDefaultClientInterceptorImpl, INTERCEPTORS),
    (DTSAsyncDefaultClientInterceptorImpl, INTERCEPTORS),
]


@pytest.mark.parametrize(("internal", "expected"), INTERNALS, ids=lambda value: getattr(value, "__name__", ""))
def test_internals_that_tests_of_applications_use_keep_their_parameters(
    internal: type[Any], expected: dict[str, Any]
) -> None:
    parameters = inspect.signature(internal).parameters
    assert {name: parameters[name].default for name in expected} == expected
    assert list(parameters)[: len(expected)] == list(expected)
    by_keyword = [name for name, each in parameters.items() if each.kind is inspect.Parameter.KEYWORD_ONLY]
    assert by_keyword[0] == "resource_id"


@pytest.mark.parametrize("manager", [AccessTokenManager, AsyncAccessTokenManager])
def test_token_managers_keep_their_members(manager: type[Any]) -> None:
    made = manager(None)
    assert all(callable(getattr(made, name)) for name in ("get_access_token", "is_token_expired", "refresh_token"))
    assert made.expiry_time is None
