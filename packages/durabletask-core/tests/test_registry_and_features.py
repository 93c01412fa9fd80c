"""Registrations by name and version, and the seam for add-on packages."""

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial

import pytest
from durabletask.features import ENTITIES, Feature, FeatureMissingError, require_feature
from durabletask.registry import Registry
from durabletask.replay import OrchestrationRun, RunOptions
from durabletask.replay.handlers import CORE_HANDLERS
from durabletask_proto import orchestrator_service_pb2 as pb


@dataclass
class Order:
    n: int


def typed(ctx, order: Order) -> Order:
    return order


@dataclass
class Unhashable:
    n: int

    def __call__(self, ctx, order: Order) -> "Order":
        return order


class TestRegistry:
    def test_exact_version_first_and_unversioned_only_where_no_version_is(self):
        registry = Registry()
        registry.add_orchestrator(typed, name="a")
        registry.add_orchestrator(typed, name="b", version="1")
        assert registry.orchestrator("a", "7").version is None
        assert registry.orchestrator("b", "1").version == "1"
        assert registry.orchestrator("b", "2") is None and registry.orchestrator("b") is None
        registry.add_orchestrator(typed, name="a", version="1")
        assert registry.orchestrator("a", "7") is None
        assert registry.orchestrator("a").version is None
        assert registry.orchestrator_versions("a") == [None, "1"]
        assert registry.orchestrator_names() == ["a", "b"]

    @pytest.mark.parametrize("kind", ["orchestrator", "activity"])
    def test_bad_registrations_are_refused(self, kind):
        add = getattr(Registry(), f"add_{kind}")
        assert add(typed) == "typed"
        for arguments in ((typed,), (None,), (typed, "")):
            with pytest.raises(ValueError, match=kind):
                add(*arguments)
        assert add(typed, version="1") == "typed"

    @pytest.mark.parametrize("fn", [typed, Unhashable(1), partial(typed)])
    def test_types_are_discovered_also_of_unhashable_callables(self, fn):
        """pinned 26, lesson 30"""
        registry = Registry()
        registry.add_activity(fn, name="a")
        found = registry.activity("a")
        assert (found.input_type, found.output_type, found.is_async) == (Order, Order, False)

    def test_async_functions_and_generators_declare_their_results(self):
        async def coroutine(ctx, n: int) -> Order:
            return Order(n)

        def generator(ctx, n: int) -> Generator[object, object, Order]:
            yield
            return Order(n)

        registry = Registry()
        registry.add_orchestrator(coroutine)
        registry.add_orchestrator(generator)
        assert [r.output_type for r in registry.orchestrators()] == [Order, Order]
        assert [r.is_async for r in registry.orchestrators()] == [True, False]

    def test_an_annotation_that_cannot_be_resolved_counts_as_none(self):
        """lesson 31"""

        def fn(ctx, n: "NoSuchName") -> "Order":  # noqa: F821 - that is the point
            return n

        registry = Registry()
        registry.add_activity(fn)
        assert registry.activity("fn").input_type is None


class Calls:
    def __init__(self, run):
        self.run = run
        self.completed = 0

    def signal_entity(self, entity_id, operation, data, signal_time, frame):
        action = pb.OrchestratorAction(id=self.run.ledger.next_id())
        action.sendEntityMessage.entityOperationSignaled.operation = operation
        self.run.ledger.add(action, "signal_entity", operation, frame)

    def before_completion(self):
        self.completed += 1
        self.signal_entity("", "unlock", None, None, None)


class TestFeatures:
    def test_a_missing_feature_names_its_package(self):
        with pytest.raises(FeatureMissingError, match="pip install durabletask-entities"):
            require_feature(ENTITIES, {})

    def test_a_feature_adds_events_calls_and_what_precedes_completion(self):
        handled = []
        feature = Feature(
            ENTITIES,
            event_handlers={"entityLockGranted": lambda run, event: handled.append(event)},
            extension=Calls,
        )

        def orchestrator(ctx, _):
            ctx.signal_entity("@e@k", "add", 1)

        registry = Registry()
        registry.add_orchestrator(orchestrator)
        run = OrchestrationRun("i", registry, RunOptions(features={ENTITIES: feature}))
        start = pb.HistoryEvent(executionStarted=pb.ExecutionStartedEvent(name="orchestrator"))
        granted = pb.HistoryEvent(entityLockGranted=pb.EntityLockGrantedEvent(criticalSectionId="c"))
        result = run.advance([start, granted])
        kinds = [a.WhichOneof("orchestratorActionType") for a in result.actions]
        assert kinds == ["sendEntityMessage", "sendEntityMessage", "completeOrchestration"]
        assert [a.id for a in result.actions] == [1, 2, 3]
        assert handled == [granted] and run.extension(ENTITIES).completed == 1

    def test_a_feature_is_told_again_when_a_failure_takes_the_place_of_the_completion(self):
        def orchestrator(ctx, _):
            ctx.signal_entity("@e@k", "add", 1)

        registry = Registry()
        registry.add_orchestrator(orchestrator)
        feature = Feature(ENTITIES, extension=Calls)
        run = OrchestrationRun("i", registry, RunOptions(features={ENTITIES: feature}))
        start = pb.HistoryEvent(executionStarted=pb.ExecutionStartedEvent(name="orchestrator"))
        unexpected = pb.HistoryEvent(eventId=7, timerCreated=pb.TimerCreatedEvent())
        result = run.advance([start, unexpected])
        kinds = [a.WhichOneof("orchestratorActionType") for a in result.actions]
        # Only what was sent after the code was found not to fit.
        assert kinds == ["sendEntityMessage", "completeOrchestration"]
        assert result.actions[0].sendEntityMessage.entityOperationSignaled.operation == "unlock"
        assert run.outcome == "FAILED" and run.extension(ENTITIES).completed == 2

    def test_a_feature_may_stand_before_a_core_row_and_pass_on(self):
        seen = []

        def raised(run, event):
            seen.append(event.eventRaised.name)
            CORE_HANDLERS["eventRaised"](run, event)

        def orchestrator(ctx, _):
            return (yield ctx.wait_for_external_event("e"))

        registry = Registry()
        registry.add_orchestrator(orchestrator)
        feature = Feature("before", event_handlers={"eventRaised": raised})
        run = OrchestrationRun("i", registry, RunOptions(features={"before": feature}))
        start = pb.HistoryEvent(executionStarted=pb.ExecutionStartedEvent(name="orchestrator"))
        raising = pb.HistoryEvent(eventRaised=pb.EventRaisedEvent(name="E"))
        assert len(run.advance([start, raising]).actions) == 1
        assert seen == ["E"] and run.is_complete
