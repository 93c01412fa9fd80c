"""Every operation of a client as a value: which RPC, with which request, and how to read the answer.

The two clients differ only in how they carry a call out. An operation that needs several calls is a
conversation: a generator that yields calls, is sent their results and returns its own.
"""

import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from google.protobuf.message import Message

from durabletask._client import requests, responses
from durabletask._client.models import (
    NewOrchestration,
    OrchestrationCount,
    OrchestrationQuery,
    OrchestrationState,
    OrchestrationStatus,
    Page,
    PurgeInstancesResult,
)
from durabletask._client.requests import RequestBuilder
from durabletask.serialization import DataConverter

if TYPE_CHECKING:
    from durabletask import history
    from durabletask._tracing.clients import ClientTracing

T = TypeVar("T")

# Requests that share a message are let go together.
_TOGETHER = 500


# Made for everything a client does and never changed. Not frozen: that makes making one three times as dear.
@dataclass(slots=True)
class Call(Generic[T]):
    """One RPC.

    Args:
        rpc: Its name.
        request: Its request; the call owns it.
        parse: Makes the result of the answer; of all the answers, in a list, if it streams.
        timeout: Its deadline in seconds; None for none.
        long_poll: Whether the server holds the call until something happens, so that its deadline is
            an ordinary end and not a sign of a broken connection.
        streams: Whether the server answers with a stream.
        uploads_for: The instance id whose large payloads in the request go to the payload store.
        downloads: Whether the answer may hold tokens of the payload store.
        metadata: Sent with this call only.
        span: Entered around the call, and ended with it; None for no span.
        instead: What to do if the server does not have this RPC; empty for those that every server has.
    """

    rpc: str
    request: Message
    parse: Callable[[Any], T]
    timeout: float | None = None
    long_poll: bool = False
    streams: bool = False
    uploads_for: str | None = None
    downloads: bool = False
    metadata: tuple[tuple[str, str], ...] = ()
    span: AbstractContextManager[Any] | None = None
    instead: str = ""


Conversation: TypeAlias = Generator[Call[Any], Any, T]


def nothing(_: Any) -> None:
    """The result of a call whose answer says nothing."""


class CallBuilder:
    """Makes the calls and conversations of a client.

    Args:
        data_converter: Encodes and decodes payloads.
        logger: Where ends of orchestrations and further pages are reported.
        tracing: Makes spans of calls; None without OpenTelemetry.
    """

    def __init__(
        self, data_converter: DataConverter, logger: logging.Logger, tracing: "ClientTracing | None" = None
    ) -> None:
        self.data_converter = data_converter
        self.logger = logger
        self._tracing = tracing
        self._requests = RequestBuilder(data_converter)

    def start(self, new: NewOrchestration, default_version: str | None) -> Call[str]:
        call = self._start(self._requests.start(new, default_version))
        request: Any = call.request
        self.logger.debug("Starting orchestration '%s' as instance '%s'.", request.name, request.instanceId)
        return call

    def start_many(self, new: Iterable[NewOrchestration], default_version: str | None) -> list[Call[str]]:
        calls: list[Call[str]] = []
        rest = iter(new)
        while some := list(islice(rest, _TOGETHER)):
            calls += self._start_together(some, default_version)
        self.logger.debug("Starting %d orchestrations.", len(calls))
        return calls

    def _start_together(self, new: Iterable[NewOrchestration], default_version: str | None) -> Iterable[Call[str]]:
        """Their requests are parts of one message: that takes a third of the memory of as many messages."""
        together = additions_pb.StartInstancesRequest().requests
        for one in new:
            self._requests.start(one, default_version, together.add)
        # Other objects than those by which they were filled in: these keep what they needed for that.
        return [self._start(request) for request in together]

    def _start(self, request: pb.CreateInstanceRequest) -> Call[str]:
        # Read once: each reading makes a text of its own.
        instance_id = request.instanceId
        parse = partial(_resulting_id, instance_id)
        return Call("StartInstance", request, parse, uploads_for=instance_id, span=self.span(request))

    def span(self, request: Message) -> AbstractContextManager[Any] | None:
        """The span of a call, if there is one; the request carries its trace context from now on."""
        return None if self._tracing is None else self._tracing.begin(request)

    def state(self, instance_id: str, fetch_payloads: bool) -> Call[OrchestrationState | None]:
        return self._get("GetInstance", instance_id, fetch_payloads)

    def wait_for_start(self, instance_id: str, fetch_payloads: bool, timeout: float) -> Call[OrchestrationState | None]:
        self.logger.info("Waiting up to %ss for instance '%s' to start.", timeout, instance_id)
        return self._get("WaitForInstanceStart", instance_id, fetch_payloads, timeout)

    def wait_for_completion(
        self, instance_id: str, fetch_payloads: bool, timeout: float
    ) -> Call[OrchestrationState | None]:
        rpc = "WaitForInstanceCompletion"
        if not self.logger.isEnabledFor(logging.INFO):
            return self._get(rpc, instance_id, fetch_payloads, timeout)
        self.logger.info("Waiting up to %ss for instance '%s' to complete.", timeout, instance_id)
        return self._get(rpc, instance_id, fetch_payloads, timeout, self._log_end)

    def _get(
        self,
        rpc: str,
        instance_id: str,
        fetch_payloads: bool,
        timeout: float | None = None,
        report: Callable[[str, OrchestrationState | None], None] | None = None,
    ) -> Call[OrchestrationState | None]:
        def parse(response: pb.GetInstanceResponse) -> OrchestrationState | None:
            state = responses.new_orchestration_state(instance_id, response, self.data_converter)
            if report is not None:
                report(instance_id, state)
            return state

        request = pb.GetInstanceRequest(instanceId=instance_id, getInputsAndOutputs=fetch_payloads)
        return Call(rpc, request, parse, timeout=timeout, long_poll=rpc != "GetInstance", downloads=True)

    def _log_end(self, instance_id: str, state: OrchestrationState | None) -> None:
        if state is None:
            self.logger.info("Instance '%s' does not exist.", instance_id)
        elif state.failure_details is not None:
            self.logger.info(
                "Instance '%s' ended as %s: %s: %s",
                instance_id,
                state.runtime_status,
                state.failure_details.error_type,
                state.failure_details.message,
            )
        else:
            self.logger.info("Instance '%s' ended as %s.", instance_id, state.runtime_status)

    def history(
        self, instance_id: str, execution_id: str | None, for_work_item_processing: bool
    ) -> "Call[list[history.HistoryEvent]]":
        request = pb.StreamInstanceHistoryRequest(
            instanceId=instance_id,
            executionId=requests.optional_string(execution_id),
            forWorkItemProcessing=for_work_item_processing,
        )
        return Call("StreamInstanceHistory", request, _parse_chunks, streams=True, downloads=True)

    def list_instance_ids(
        self,
        runtime_status: Iterable[OrchestrationStatus] | None,
        completed_time_from: datetime | None,
        completed_time_to: datetime | None,
        page_size: int | None,
        continuation_token: str | None,
    ) -> Call[Page[str]]:
        request = requests.list_instance_ids(
            runtime_status, completed_time_from, completed_time_to, page_size, continuation_token
        )
        return Call("ListInstanceIds", request, responses.instance_id_page)

    def all_states(self, query: OrchestrationQuery | None) -> Conversation[list[OrchestrationState]]:
        query = query or OrchestrationQuery()
        metadata = requests.query_metadata(query)

        def page_call(token: str | None) -> Call[pb.QueryInstancesResponse]:
            request = requests.query_instances(query, token)
            return Call("QueryInstances", request, unchanged, downloads=True, metadata=metadata)

        pages = yield from all_pages(page_call, self.logger)
        states = (
            responses.parse_orchestration_state(state, self.data_converter)
            for page in pages
            for state in page.orchestrationState
        )
        return [state for state in states if _matches(state, query)]

    def counts(
        self, query: OrchestrationQuery | None, by_name: bool, by_version: bool
    ) -> Call[list[OrchestrationCount]]:
        request = requests.count_instances(query or OrchestrationQuery(), by_name, by_version)

        def parse(response: additions_pb.CountInstancesResponse) -> list[OrchestrationCount]:
            return [responses.orchestration_count(one, by_name, by_version) for one in response.counts]

        instead = "count what get_all_orchestration_states returns"
        return Call("CountInstances", request, parse, instead=instead)

    def raise_event(self, instance_id: str, event_name: str, data: Any) -> Call[None]:
        self.logger.debug("Raising event '%s' for instance '%s'.", event_name, instance_id)
        request = self._requests.raise_event(instance_id, event_name, data)
        return Call("RaiseEvent", request, nothing, uploads_for=instance_id, span=self.span(request))

    def terminate(self, instance_id: str, output: Any, recursive: bool) -> Call[None]:
        self.logger.info("Terminating instance '%s'.", instance_id)
        request = self._requests.terminate(instance_id, output, recursive)
        return Call("TerminateInstance", request, nothing, uploads_for=instance_id)

    def suspend(self, instance_id: str, reason: str | None) -> Call[None]:
        self.logger.info("Suspending instance '%s'.", instance_id)
        request = pb.SuspendRequest(instanceId=instance_id, reason=requests.optional_string(reason))
        return Call("SuspendInstance", request, nothing)

    def resume(self, instance_id: str, reason: str | None) -> Call[None]:
        self.logger.info("Resuming instance '%s'.", instance_id)
        request = pb.ResumeRequest(instanceId=instance_id, reason=requests.optional_string(reason))
        return Call("ResumeInstance", request, nothing)

    def rewind(self, instance_id: str, reason: str | None) -> Call[None]:
        self.logger.info("Rewinding instance '%s'.", instance_id)
        request = pb.RewindInstanceRequest(instanceId=instance_id, reason=requests.optional_string(reason))
        return Call("RewindInstance", request, nothing)

    def restart(self, instance_id: str, restart_with_new_instance_id: bool) -> Call[str]:
        self.logger.info("Restarting instance '%s'.", instance_id)
        request = pb.RestartInstanceRequest(
            instanceId=instance_id, restartWithNewInstanceId=restart_with_new_instance_id
        )
        return Call("RestartInstance", request, partial(_resulting_id, instance_id))

    def purge(self, instance_id: str, recursive: bool) -> Call[PurgeInstancesResult]:
        self.logger.info("Purging instance '%s'.", instance_id)
        request = pb.PurgeInstancesRequest(instanceId=instance_id, recursive=recursive, isOrchestration=True)
        return Call("PurgeInstances", request, responses.new_purge_instances_result)

    def purge_by(
        self,
        created_time_from: datetime | None,
        created_time_to: datetime | None,
        runtime_status: Iterable[OrchestrationStatus] | None,
        recursive: bool,
        timeout: timedelta | None,
    ) -> Call[PurgeInstancesResult]:
        self.logger.info("Purging the instances that a filter selects.")
        request = requests.purge_by_filter(created_time_from, created_time_to, runtime_status, recursive, timeout)
        return Call("PurgeInstances", request, responses.new_purge_instances_result)


def all_pages(page_call: Callable[[str | None], Call[Any]], logger: logging.Logger) -> Conversation[Sequence[Any]]:
    """Ask for page after page until a token is absent, empty, ``"0"`` or one that was seen before.

    Servers differ in how they end: some repeat the last token (backend semantics).
    """
    pages: list[Any] = []
    seen = {"", "0"}
    token: str | None = None
    while True:
        page = yield page_call(token)
        pages.append(page)
        token = page.continuationToken.value
        if token in seen:
            return pages
        seen.add(token)
        logger.info("Received continuation token %s, fetching the next page.", token)


def _matches(state: OrchestrationState, query: OrchestrationQuery) -> bool:
    """Whether the filters hold that a server which does not know them has ignored."""
    return (
        (query.name is None or state.name == query.name)
        and (query.version is None or (state.version or "") == query.version)
        and (not query.tags or query.tags.items() <= state.tags.items())
    )


def _parse_chunks(chunks: Iterable[pb.HistoryChunk]) -> "list[history.HistoryEvent]":
    # Two dozen dataclasses, which most programs never look at.
    from durabletask._client.histories import parse_history

    return parse_history(responses.history_events(chunks))


def _resulting_id(requested_id: str, response: Any) -> str:
    """The id in the answer; a server that names none has used the one it was asked for."""
    return response.instanceId or requested_id


def unchanged(response: Any) -> Any:
    """The result of a call whose answer is its result."""
    return response
