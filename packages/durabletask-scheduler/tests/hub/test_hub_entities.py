"""Entities: what they receive, their batches, and what comes of the answers (backend semantics, section 5)."""

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.hub import entity_batches, entity_ids, entity_requests, requests
from durabletask_scheduler.hub.model import HubError, Limits, TaskKind
from durabletask_scheduler.hub.times import SECOND, to_timestamp
from google.protobuf.wrappers_pb2 import StringValue

A, B = "@counter@a", "@counter@b"
GUID = "6f9619ff-8b86-d011-b42d-00c04fc964ff"


def state_of(world, entity=A):
    found = world.entities.get(entity)
    return None if found is None else found.state


class TestIds:
    """Section 5.1."""

    @pytest.mark.parametrize(
        ("written", "stored"),
        [("@Counter@Key", "@counter@Key"), ("@c@a@B", "@c@a@B"), ("@C@", "@c@"), ("@c@@", "@c@@")],
    )
    def test_the_name_is_in_lower_case_and_the_key_is_kept(self, world, written, stored):
        world.signal(written)
        assert list(world.entities) == [stored]

    @pytest.mark.parametrize("bad", ["", "counter", "@", "@counter", "@@key", "counter@a", "@c@\n", "@c@" + "x" * 2000])
    def test_anything_else_is_refused(self, world, bad):
        with pytest.raises(HubError, match="entity id") as refusal:
            world.signal(bad)
        assert refusal.value.code == "INVALID_ARGUMENT"

    def test_an_orchestration_cannot_have_the_id_of_an_entity(self, world):
        with pytest.raises(HubError, match="reserved for entities"):
            world.start(A)

    @pytest.mark.parametrize(
        ("text", "answer"),
        [
            (GUID, True),
            (GUID.upper(), True),
            (GUID.replace("-", ""), True),
            ("", False),
            ("1", False),
            (GUID[:-1], False),
            (GUID + "0", False),
            ("g" * 32, False),
            ("6f9619ff8b86-d011-b42d-00c04fc9-64ff", False),
        ],
    )
    def test_a_guid_is_known_by_its_form(self, text, answer):
        """Section 5.3: a worker that cannot parse a request id loses its connection."""
        assert entity_ids.is_guid(text) is answer


class TestSignals:
    """Sections 5.3 and 5.7."""

    def test_a_signal_makes_the_entity_and_its_batch_makes_the_state(self, world):
        world.signal(input=StringValue(value="5"), requestId=GUID)
        batch = world.begin_batch()
        request = entity_batches.batch_request(world.entities[A], batch)
        assert (request.instanceId, request.HasField("entityState")) == (A, False)
        [event] = request.operationRequests
        assert event.entityOperationSignaled.requestId == GUID
        assert (event.entityOperationSignaled.operation, event.entityOperationSignaled.input.value) == ("add", "5")
        world.answer_batch(world.success(), state="5")
        assert state_of(world) == "5"
        assert not world.entity_inbox

    def test_a_missing_request_id_is_made_up_and_a_bad_one_refused(self, world):
        world.signal()
        [entry] = world.begin_batch().operations
        assert entity_ids.is_guid(entry.event.entityOperationSignaled.requestId)
        with pytest.raises(HubError, match="not a GUID"):
            world.signal(requestId="7")

    def test_a_signal_is_idempotent_by_its_request_id_while_it_waits(self, world):
        world.signal(requestId=GUID)
        world.signal(requestId=GUID)
        world.crash()
        world.signal(requestId=GUID)
        assert world.entities[A].backlog == 1
        world.run_batch()
        world.signal(requestId=GUID)
        assert world.entities[A].backlog == 1

    def test_a_scheduled_signal_waits_for_its_time_also_across_a_restart(self, world):
        at = world.now + 60 * SECOND
        world.signal(operation="later", scheduledTime=to_timestamp(at))
        world.signal(operation="now", scheduledTime=to_timestamp(world.now - SECOND))
        assert world.run_batch() == ["now"]
        world.crash()
        assert entity_batches.next_batch_at(world.entities[A], world.now) == at
        world.now = at
        assert world.run_batch() == ["later"]

    def test_signals_beyond_the_limit_are_refused(self, make_world):
        world = make_world(Limits(inbox_events=2))
        world.signal()
        world.signal()
        with pytest.raises(HubError, match="2 operations wait") as refusal:
            world.signal()
        assert refusal.value.code == "RESOURCE_EXHAUSTED"


class TestBatches:
    """Sections 5.3 and 5.4."""

    def test_operations_run_in_order_at_most_a_hundred_at_once(self, world):
        for number in range(130):
            world.signal(operation=f"op{number}")
        assert world.run_batch() == [f"op{number}" for number in range(100)]
        assert world.run_batch() == [f"op{number}" for number in range(100, 130)]

    def test_a_batch_holds_about_a_megabyte_but_always_one_operation(self, world):
        big = StringValue(value="x" * 700_000)
        for name in ("a", "b"):
            world.signal(operation=name, input=big)
        world.signal(operation="huge", input=StringValue(value="x" * 3_000_000))
        assert [world.run_batch(), world.run_batch(), world.run_batch()] == [["a"], ["b"], ["huge"]]

    def test_what_arrives_during_a_batch_waits_for_the_next(self, world):
        world.signal(operation="first")
        world.begin_batch()
        world.signal(operation="second")
        assert not world.batch_waits()
        world.answer_batch(world.success())
        assert world.run_batch() == ["second"]

    def test_operations_without_a_result_run_again_first_and_in_order(self, world):
        """Checklist 11."""
        for name in ("a", "b", "c"):
            world.signal(operation=name)
        world.begin_batch()
        world.signal(operation="d")
        world.answer_batch(world.success(), state="after a")
        assert state_of(world) == "after a"
        world.crash()
        assert world.run_batch() == ["b", "c", "d"]

    def test_an_answer_counts_once(self, world):
        """Lessons 47, 65: redelivery under a new token."""
        world.signal()
        old = world.begin_batch().token
        entity_batches.release_batch(world.entities[A])
        world.begin_batch()
        assert world.answer_batch(world.success(), token=old).entities is None
        world.answer_batch(world.success(), state="2")
        again = pb.EntityBatchResult(results=[world.success()], entityState=StringValue(value="9"))
        assert entity_batches.complete_batch(world.entities[A], again, world.ctx).entities is None
        assert state_of(world) == "2"

    @pytest.mark.parametrize("state", ["0", '""', "[]", "{}", "false", "null", ""])
    def test_only_an_absent_state_deletes(self, world, state):
        """Lesson 66."""
        world.signal()
        world.run_batch(state=state)
        assert state_of(world) == state
        world.signal()
        world.run_batch(state=None)
        assert world.entities == {} and world.entity_rows == {}

    def test_a_stateless_entity_stays_while_something_waits(self, world):
        world.signal(operation="delete")
        world.signal(operation="add")
        world.begin_batch()
        world.answer_batch(world.success(), state=None)
        assert world.run_batch(state="1") == ["add"]
        assert state_of(world) == "1"

    def test_an_abandoned_batch_pauses_one_second_doubling_to_sixty(self, world):
        """Section 2.6."""
        world.signal()
        pauses = []
        for _ in range(8):
            world.begin_batch()
            entity_batches.abandon_batch(world.entities[A], world.ctx)
            pauses.append((entity_batches.next_batch_at(world.entities[A], world.now) - world.now) // SECOND)
            world.now += pauses[-1] * SECOND
        assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
        world.run_batch()
        world.signal()
        assert world.batch_waits()


class TestBatchFailures:
    """Section 5.4, checklist 12."""

    def fail(self, world, times, error="no such entity"):
        for _ in range(times):
            world.now += 60 * SECOND
            world.begin_batch()
            world.answer_batch(state=None, error=error)

    def test_a_failed_batch_leaves_the_state_and_runs_again_after_a_pause(self, world):
        world.signal()
        world.run_batch(state="7")
        world.signal(operation="next")
        self.fail(world, 1)
        assert state_of(world) == "7"
        assert not world.batch_waits()
        world.now += SECOND
        assert world.run_batch(state="8") == ["next"]
        assert state_of(world) == "8"

    def test_results_of_a_failed_batch_count_and_only_the_rest_runs_again(self, world):
        world.start()
        world.turn(world.entity_call(1, operation="a"), world.entity_call(2, operation="b"))
        world.begin_batch()
        world.answer_batch(world.success('"done"'), state="lost", error="worker ran out of memory")
        assert state_of(world) is None
        assert [e.event.entityOperationCompleted.output.value for e in world.live["a"].inbox] == ['"done"']
        world.now += SECOND
        assert world.run_batch() == ["b"]

    def test_after_ten_attempts_the_operations_fail_one_by_one(self, world):
        world.start()
        world.turn(world.entity_call(1), world.entity_signal(2))
        self.fail(world, 9)
        assert world.live["a"].inbox == ()
        world.signal(operation="newcomer")
        self.fail(world, 1)
        [reply] = world.live["a"].inbox
        assert reply.event.entityOperationFailed.failureDetails.errorMessage == "no such entity"
        assert world.run_batch() == ["newcomer"], "what arrived later has its own ten attempts, and no pause"

    def test_a_failure_that_is_nested_too_deeply_to_be_kept_is_cut(self, world):
        details = pb.TaskFailureDetails(errorType="E", errorMessage="innermost")
        for _ in range(80):
            details = pb.TaskFailureDetails(errorType="E", errorMessage="outer", innerFailure=details)
        world.start()
        world.turn(world.entity_call(1))
        world.begin_batch()
        world.answer_batch(pb.OperationResult(failure=pb.OperationResultFailure(failureDetails=details)), state="1")
        [reply] = world.live["a"].inbox
        kept, levels = reply.event.entityOperationFailed.failureDetails, 1
        while kept.HasField("innerFailure"):
            kept, levels = kept.innerFailure, levels + 1
        assert levels < 80
        assert "nested too deeply" in kept.errorMessage

    @pytest.mark.parametrize(
        "answer",
        [
            {"results": 0},
            {"results": 3},
            {"results": 1, "actions": [pb.OperationAction(id=1)]},
            {
                "results": 1,
                "actions": [pb.OperationAction(sendSignal=pb.SendSignalAction(instanceId="no entity", name="x"))],
            },
            {
                "results": 1,
                "actions": [
                    pb.OperationAction(
                        startNewOrchestration=pb.StartNewOrchestrationAction(instanceId="@an@entity", name="x")
                    )
                ],
            },
        ],
    )
    def test_an_answer_that_makes_no_sense_changes_nothing_and_is_tried_again(self, world, answer):
        world.signal()
        world.begin_batch()
        results = [world.success()] * answer["results"]
        commit = world.answer_batch(*results, state="wrong", actions=answer.get("actions", ()))
        assert not commit.messages
        assert world.entities[A].state is None
        assert entity_batches.next_batch_at(world.entities[A], world.now) == world.now + SECOND

    BAD = pb.OperationAction(id=7, sendSignal=pb.SendSignalAction(instanceId="@user@bob\tsmith", name="hello"))

    def serve(self, world, bad, batches=200):
        """A worker whose operation ``bad`` signals what cannot be an entity; returns the batches."""
        served = []
        while len(served) < batches and A in world.entities and world.entities[A].backlog:
            world.now = entity_batches.next_batch_at(world.entities[A], world.now)
            batch = world.begin_batch()
            served.append(world.operations(batch))
            results = [world.success() for _ in batch.operations]
            world.answer_batch(*results, actions=[self.BAD] * served[-1].count(bad))
        return served

    @pytest.mark.parametrize("before", [0, 1, 20, 99])
    def test_only_the_operation_fails_whose_action_cannot_be_carried_out(self, world, before):
        world.start()
        for _ in range(before):
            world.signal()
        world.turn(world.entity_call(1, operation="welcome"))
        for _ in range(99 - before):
            world.signal()
        begun = world.now
        served = self.serve(world, "welcome")
        done = [batch for batch in served if "welcome" not in batch]
        assert sum(map(len, done)) == 99
        [reply] = world.live["a"].inbox
        details = reply.event.entityOperationFailed.failureDetails
        assert details.errorType == "InvalidEntityAction"
        assert "cannot be carried out (id 7, sendSignal)" in details.errorMessage
        assert len(served) < 60 and world.now - begun < 1800 * SECOND

    def test_it_gets_ten_attempts_in_all_and_others_like_it_one_alone(self, world):
        for _ in range(8):
            world.signal(operation="bad")
        world.signal(operation="good")
        served = self.serve(world, "bad")
        assert [len(batch) for batch in served] == [9, 4, 2] + [1] * 7 + [1] * 7 + [1]
        assert served[-1] == ["good"]
        assert world.entities[A].retrying == world.entities[A].failed == 0

    def test_what_cannot_run_after_others_failed_by_their_actions_has_its_own_ten_attempts(self, world):
        world.signal(operation="bad")
        self.serve(world, "bad")
        world.signal(operation="next")
        self.fail(world, 9)
        assert world.entities[A].backlog == 1
        self.fail(world, 1)
        assert A not in world.entities

    def test_signals_that_are_given_up_are_named(self, world):
        world.start()
        world.turn(world.entity_call(1), world.entity_signal(2, operation="add"))
        self.fail(world, 9)
        world.now += 60 * SECOND
        world.begin_batch()
        given_up = world.answer_batch(state=None, error="no such entity").entities.given_up
        assert (given_up.operations, given_up.why.errorMessage) == (["add"], "no such entity")


class TestActions:
    """Section 5.5: in the same commit as the state."""

    def test_signals_go_to_other_entities_and_to_oneself_in_order(self, world):
        sent = [(B, "one"), (A, "self"), (B, "two"), ("@Counter@b", "three")]
        actions = [pb.OperationAction(sendSignal=pb.SendSignalAction(instanceId=i, name=n)) for i, n in sent]
        world.signal()
        world.run_batch(actions=actions)
        assert world.run_batch(B) == ["one", "two", "three"]
        assert world.run_batch(A) == ["self"]

    def test_a_scheduled_signal_is_held_back(self, world):
        at = to_timestamp(world.now + 10 * SECOND)
        action = pb.OperationAction(sendSignal=pb.SendSignalAction(instanceId=B, name="later", scheduledTime=at))
        world.signal()
        world.run_batch(actions=[action])
        assert not world.batch_waits(B)
        world.now += 10 * SECOND
        assert world.run_batch(B) == ["later"]

    def start(self, world, **fields):
        asked = pb.StartNewOrchestrationAction(name="main", **fields)
        world.signal()
        world.run_batch(actions=[pb.OperationAction(startNewOrchestration=asked)])

    def test_an_orchestration_starts_without_a_parent(self, world):
        self.start(world, instanceId="o", input=StringValue(value="5"), version=StringValue(value="2"))
        state = world.state("o")
        assert (state.name, state.input.value, state.version.value) == ("main", "5", "2")
        assert world.live["o"].parent_instance_id == ""

    def test_an_id_is_made_up_and_a_scheduled_time_kept(self, world):
        at = to_timestamp(world.now + 60 * SECOND)
        self.start(world, scheduledTime=at)
        [instance_id] = world.live
        assert not world.runnable(instance_id)
        assert world.state(instance_id).scheduledStartTimestamp == at
        world.now += 60 * SECOND
        assert world.runnable(instance_id)

    def test_a_live_id_is_left_alone_and_a_terminal_one_replaced(self, world):
        world.start("o", name="old")
        self.start(world, instanceId="o")
        assert world.state("o").name == "old"
        world.terminate("o")
        self.start(world, instanceId="o")
        assert (world.state("o").name, world.status("o")) == ("main", "PENDING")


class TestCalls:
    """Sections 4.2, 4.5 and 5.8."""

    def test_a_call_is_confirmed_as_sent_and_delivered_with_its_caller(self, world):
        world.start()
        world.turn(world.entity_call(1, "@Counter@a"))
        confirmed = world.history()[-1]
        assert confirmed.eventId == 1
        assert confirmed.entityOperationCalled.targetInstanceId.value == "@Counter@a"
        assert not confirmed.entityOperationCalled.HasField("parentInstanceId")
        [entry] = world.begin_batch().operations
        called = entry.event.entityOperationCalled
        assert entry.event.eventId == -1
        assert (called.parentInstanceId.value, called.parentExecutionId.value) == ("a", world.live["a"].execution_id)
        assert not called.HasField("targetInstanceId")
        assert called.requestId == confirmed.entityOperationCalled.requestId

    def test_the_reply_arrives_once(self, world):
        world.start()
        world.turn(world.entity_call(1))
        commit = world.begin_batch() and world.answer_batch(world.success('"5"'))
        [reply] = [message for message in commit.messages if message.target == "a"]
        world.apply(world.deliver(reply))
        assert world.turn() == ["orchestratorStarted", "entityOperationCompleted"]
        event = world.history()[-1]
        assert (event.eventId, event.entityOperationCompleted.output.value) == (-1, '"5"')
        world.apply(world.deliver(reply))
        assert not world.runnable()

    def test_a_failed_operation_fails_its_call_only(self, world):
        world.start()
        world.turn(world.entity_call(1, operation="a"), world.entity_call(2, operation="b"))
        world.begin_batch()
        world.answer_batch(world.failed("no"), world.success(), state="1")
        assert world.turn() == ["orchestratorStarted", "entityOperationFailed", "entityOperationCompleted"]
        assert world.history()[-2].entityOperationFailed.failureDetails.errorMessage == "no"
        assert state_of(world) == "1"

    def test_a_repeated_call_is_dropped_while_its_result_is_not_seen(self, world):
        """Section 3.9: suspended workers repeat actions."""
        world.start()
        world.turn(world.entity_call(1))
        world.raise_event("a", "again")
        world.turn(world.entity_call(1))
        assert world.entities[A].backlog == 1
        world.run_batch()
        world.raise_event("a", "again")
        world.begin()
        world.answer(world.entity_call(1))
        assert world.shown().count("entityOperationCalled") == 1 + (world.entities[A].backlog > 0)

    def test_a_reply_to_an_older_generation_is_dropped(self, world):
        """Section 3.12."""
        world.start()
        world.turn(world.entity_call(1))
        world.raise_event("a", "e")
        world.turn(world.complete(2, "CONTINUED_AS_NEW"))
        world.turn(world.entity_call(1))
        assert world.entities[A].backlog == 2, "the same request id in a new generation is another call"
        world.run_batch()
        assert world.turn() == ["orchestratorStarted", "entityOperationCompleted"]

    def test_a_generation_that_ends_still_sends(self, world):
        world.start()
        world.turn(world.entity_call(1, operation="call"), world.entity_signal(2), world.complete(3))
        assert world.status() == "COMPLETED"
        assert world.run_batch() == ["call", "add"]
        assert not world.tasks

    @pytest.mark.parametrize("field", ["entityOperationCalled", "entityOperationSignaled"])
    def test_a_message_that_no_entity_could_understand_fails_the_orchestration(self, world, field):
        for number, change in enumerate(
            ({"targetInstanceId": StringValue(value="x")}, {"operation": ""}, {"requestId": "7"})
        ):
            fields = {"requestId": GUID, "operation": "op", "targetInstanceId": StringValue(value=A), **change}
            types = {"entityOperationCalled": pb.EntityOperationCalledEvent}
            event = types.get(field, pb.EntityOperationSignaledEvent)(**fields)
            world.start(f"o{number}")
            world.turn(world.to_entity(1, **{field: event}), instance_id=f"o{number}")
            assert world.state(f"o{number}").failureDetails.errorType == "InvalidOrchestratorAction"
        assert world.entities == {}

    def test_messages_of_one_sender_stay_in_order(self, world):
        """Lesson 65."""
        world.start()
        world.turn(*[world.entity_signal(n, operation=f"op{n}") for n in range(1, 6)])
        world.raise_event("a", "e")
        world.turn(world.entity_signal(6, operation="op6"))
        world.begin_batch()
        world.answer_batch(world.success())
        world.crash()
        assert world.run_batch() == ["op2", "op3", "op4", "op5", "op6"]

    def test_a_rewound_orchestration_makes_its_failed_call_again(self, world):
        """Section 3.11."""
        world.start()
        world.turn(world.entity_call(1))
        world.begin_batch()
        world.answer_batch(world.failed("no"))
        world.turn(world.complete(2, "FAILED", error="no"))
        world.rewind()
        assert world.turn(world.entity_call(1)) == ["orchestratorStarted"]
        world.run_batch()
        assert world.turn(world.complete(2)) == ["orchestratorStarted", "entityOperationCompleted"]
        assert world.shown().count("entityOperationCalled") == 1


class TestPurge:
    """Sections 1.2 and 5.7."""

    def test_purge_deletes_an_entity_at_which_nothing_waits(self, world):
        world.signal()
        world.run_batch()
        world.apply(entity_requests.purge(world.entities[A], world.ctx))
        assert world.entities == {} and world.entity_rows == {}

    def test_purge_keeps_what_waits_and_voids_the_batch(self, world):
        world.signal()
        world.run_batch(state="old")
        world.start()
        world.turn(world.entity_call(1))
        world.begin_batch()
        world.apply(entity_requests.purge(world.entities[A], world.ctx))
        assert state_of(world) is None
        assert world.run_batch(state="new") == ["get"]
        assert world.turn() == ["orchestratorStarted", "entityOperationCompleted"]

    def test_purging_an_orchestration_leaves_its_calls(self, world):
        world.start()
        world.turn(world.entity_call(1), world.complete(2))
        world.apply(requests.purge(world.live["a"], world.ctx, single=True))
        assert world.run_batch() == ["get"]


def test_metadata_shows_backlog_lock_and_state(world):
    """Section 5.7, GetEntity."""
    world.signal()
    world.run_batch(state="5")
    world.start()
    world.turn(world.lock(1, A))
    world.signal()
    shown = entity_requests.metadata(world.entities[A], state=True)
    assert (shown.backlogQueueSize, shown.lockedBy.value, shown.serializedState.value) == (1, "a", "5")
    assert shown.HasField("lastModifiedTime")
    assert not entity_requests.metadata(world.entities[A], state=False).HasField("serializedState")
    assert not world.open("a", TaskKind.LOCK)
