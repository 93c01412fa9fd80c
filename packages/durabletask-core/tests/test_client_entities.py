"""The entity operations of the clients, as far as they are the core's: requests, pages and the missing add-on."""

import asyncio
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

import pytest
from durabletask.client import AsyncTaskHubGrpcClient, CleanEntityStorageResult, EntityQuery, TaskHubGrpcClient
from durabletask.features import Feature, FeatureMissingError
from durabletask.serialization import DEFAULT_DATA_CONVERTER
from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import StringValue

Act = Callable[[Any], Any]
NAIVE = datetime(2026, 1, 2, 3, 4, 5)


class ScriptedChannel:
    """A channel that keeps the requests and gives the answers of the test, in order."""

    def __init__(self, *answers: Any, is_async: bool) -> None:
        self._answers = list(answers)
        self._is_async = is_async
        self.requests: list[Any] = []

    def unary_unary(self, *_: Any, **__: Any) -> Any:
        async def answer_later(request: Any, **_: Any) -> Any:
            return self._answer(request)

        return answer_later if self._is_async else lambda request, **_: self._answer(request)

    def unary_stream(self, *_: Any, **__: Any) -> Any:
        return None

    def _answer(self, request: Any) -> Any:
        self.requests.append(request)
        return self._answers.pop(0)


@pytest.fixture(params=["threads", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[..., tuple[Any, list[Any]]]:
    """Runs a function of a client on scripted answers; returns its result and the requests."""

    def on_either(act: Act, *answers: Any) -> tuple[Any, list[Any]]:
        is_async = request.param == "asyncio"
        channel: Any = ScriptedChannel(*answers, is_async=is_async)
        if not is_async:
            return act(TaskHubGrpcClient(channel=channel)), channel.requests

        async def main() -> Any:
            return await act(AsyncTaskHubGrpcClient(channel=channel))

        return asyncio.run(main()), channel.requests

    return on_either


class Metadata(NamedTuple):
    """What an add-on makes of the protocol's messages."""

    state: str
    includes_state: bool
    converter: Any

    @staticmethod
    def from_entity_response(response: pb.GetEntityResponse, includes_state: bool, converter: Any) -> "Metadata":
        return Metadata.from_entity_metadata(response.entity, includes_state, converter)

    @staticmethod
    def from_entity_metadata(metadata: pb.EntityMetadata, includes_state: bool, converter: Any) -> "Metadata":
        return Metadata(metadata.serializedState.value, includes_state, converter)


ENTITIES = Feature("entities", entity_metadata=Metadata)


def entity(state: str) -> pb.EntityMetadata:
    return pb.EntityMetadata(instanceId="@counter@a", serializedState=StringValue(value=state))


@pytest.fixture
def add_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durabletask.features.installed_features", lambda: {"entities": ENTITIES})


CALLS: dict[str, Act] = {
    "signal": lambda c: c.signal_entity("@counter@a", "add", 1),
    "get": lambda c: c.get_entity("@counter@a"),
    "query": lambda c: c.get_all_entities(),
    "clean": lambda c: c.clean_entity_storage(),
}


@pytest.mark.parametrize("act", CALLS.values(), ids=CALLS.keys())
def test_a_call_names_the_package_that_is_missing(run: Any, monkeypatch: pytest.MonkeyPatch, act: Act) -> None:
    monkeypatch.setattr("durabletask.features.installed_features", dict)
    with pytest.raises(FeatureMissingError, match="pip install durabletask-entities"):
        run(act)


@pytest.mark.usefixtures("add_on")
@pytest.mark.parametrize("moment", [NAIVE, NAIVE.replace(tzinfo=timezone.utc).astimezone(timezone(timedelta(hours=2)))])
def test_a_signal_carries_a_request_id_and_its_time(run: Any, moment: datetime) -> None:
    result, (request,) = run(lambda c: c.signal_entity("@counter@a", "add", 0, moment), pb.SignalEntityResponse())
    assert result is None
    assert str(uuid.UUID(request.requestId)) == request.requestId
    assert request.HasField("requestTime")
    request.ClearField("requestTime")
    due = Timestamp()
    due.FromDatetime(NAIVE)
    assert request == pb.SignalEntityRequest(
        instanceId="@counter@a",
        name="add",
        input=StringValue(value="0"),
        requestId=request.requestId,
        scheduledTime=due,
    )


@pytest.mark.usefixtures("add_on")
def test_an_entity_is_read_by_the_add_on(run: Any) -> None:
    result, (request,) = run(
        lambda c: c.get_entity("@counter@a"), pb.GetEntityResponse(exists=True, entity=entity("1"))
    )
    assert result == Metadata("1", True, DEFAULT_DATA_CONVERTER)
    assert request == pb.GetEntityRequest(instanceId="@counter@a", includeState=True)
    missing, _ = run(lambda c: c.get_entity("@counter@a"), pb.GetEntityResponse(exists=False))
    assert missing is None


@pytest.mark.usefixtures("add_on")
def test_entities_are_read_page_by_page(run: Any) -> None:
    result, requests = run(
        lambda c: c.get_all_entities(EntityQuery(include_state=False, page_size=1)),
        pb.QueryEntitiesResponse(entities=[entity("1")], continuationToken=StringValue(value="t")),
        pb.QueryEntitiesResponse(entities=[entity("2")]),
    )
    assert [(found.state, found.includes_state) for found in result] == [("1", False), ("2", False)]
    assert [request.query.continuationToken.value for request in requests] == ["", "t"]
    assert {request.query.pageSize.value for request in requests} == {1}


def test_a_feature_without_entity_calls_is_a_clear_error(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durabletask.features.installed_features", lambda: {"entities": Feature("entities")})
    with pytest.raises(FeatureMissingError, match="no entity calls"):
        run(lambda c: c.get_entity("@counter@a"))


@pytest.mark.usefixtures("add_on")
def test_cleaning_adds_up_all_pages(run: Any) -> None:
    result, requests = run(
        lambda c: c.clean_entity_storage(release_orphaned_locks=False),
        pb.CleanEntityStorageResponse(continuationToken=StringValue(value="t"), emptyEntitiesRemoved=2),
        pb.CleanEntityStorageResponse(emptyEntitiesRemoved=3, orphanedLocksReleased=1),
    )
    assert result == CleanEntityStorageResult(empty_entities_removed=5, orphaned_locks_released=1)
    assert requests == [
        pb.CleanEntityStorageRequest(removeEmptyEntities=True),
        pb.CleanEntityStorageRequest(removeEmptyEntities=True, continuationToken=StringValue(value="t")),
    ]
