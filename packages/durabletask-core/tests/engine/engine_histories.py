"""A backend of a few lines for engine tests: it keeps a history and turns answers into events."""

from durabletask.replay import OrchestrationRun
from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp

INSTANCE = "instance"


def turn_start(seconds):
    return pb.HistoryEvent(
        eventId=-1, timestamp=Timestamp(seconds=seconds), orchestratorStarted=pb.OrchestratorStartedEvent()
    )


def event(kind, event_id=-1, **fields):
    """An event of ``kind``; ``input`` and ``result`` are JSON texts."""
    built = pb.HistoryEvent(eventId=event_id)
    body = getattr(built, kind)
    body.SetInParent()
    for name, value in fields.items():
        if name in ("input", "result"):
            if value is not None:
                getattr(body, name).value = value
        else:
            setattr(body, name, value)
    return built


def started(data, version=None, name="orch"):
    built = event("executionStarted", name=name, input=data)
    built.executionStarted.orchestrationInstance.instanceId = INSTANCE
    built.executionStarted.orchestrationInstance.executionId.value = "execution"
    if version is not None:
        built.executionStarted.version.value = version
    return built


def failed(kind, task_id, message):
    built = event(kind, taskScheduledId=task_id)
    details = getattr(built, kind).failureDetails
    details.errorType, details.errorMessage = "builtins.ValueError", message
    return built


def confirmation(action):
    """The event that a commit records for an action, or None for a completion."""
    kind = action.WhichOneof("orchestratorActionType")
    make = _CONFIRMATIONS.get(kind)
    return None if make is None else make(action)


def _scheduled(action):
    return event("taskScheduled", action.id, name=action.scheduleTask.name)


def _created(action):
    child = action.createSubOrchestration
    return event("subOrchestrationInstanceCreated", action.id, name=child.name, instanceId=child.instanceId)


def _timer(action):
    built = event("timerCreated", action.id)
    built.timerCreated.fireAt.CopyFrom(action.createTimer.fireAt)
    return built


def _sent(action):
    sending = action.sendEvent
    return event("eventSent", action.id, name=sending.name, instanceId=sending.instance.instanceId)


_CONFIRMATIONS = {
    "scheduleTask": _scheduled,
    "createSubOrchestration": _created,
    "createTimer": _timer,
    "sendEvent": _sent,
}


def run_cold(backend, past, new):
    run = OrchestrationRun(INSTANCE, backend.registry, backend.options)
    run.replay(past)
    result = run.advance(new)
    run.close()
    return result


class Backend:
    """Runs an instance turn by turn, each one cold and, beside it, warm; both must agree."""

    def __init__(self, registry, options):
        self.registry = registry
        self.options = options
        self.history = []
        self.last = None
        self.clock = 1_000
        self.timers = {}
        self._warm = OrchestrationRun(INSTANCE, registry, options)

    @property
    def completion(self):
        done = [a for a in self.last.actions if a.HasField("completeOrchestration")]
        assert len(done) <= 1
        return done[0].completeOrchestration if done else None

    @property
    def is_complete(self):
        return self.completion is not None

    @property
    def status(self):
        return self.completion.orchestrationStatus

    def start(self, data=None, version=None, before=(), after=()):
        self.turn([*before, started(data, version), *after])

    def turn(self, events):
        self.clock += 1
        new = [turn_start(self.clock), *events]
        cold = OrchestrationRun(INSTANCE, self.registry, self.options)
        cold.replay(self.history)
        self.last = cold.advance(new)
        is_complete = cold.is_complete
        cold.close()
        self._warm.confirm()
        warm = self._warm.advance(new)
        assert (warm.actions, warm.custom_status) == (self.last.actions, self.last.custom_status)
        assert self._warm.is_complete == is_complete
        self.history += new
        self.history += [c for c in map(confirmation, self.last.actions) if c is not None]
        for action in self.last.actions:
            if action.HasField("createTimer"):
                self.timers[action.id] = action.createTimer.fireAt

    def complete_task(self, task_id, result=None):
        self.turn([event("taskCompleted", taskScheduledId=task_id, result=result)])

    def fail_task(self, task_id, message):
        self.turn([failed("taskFailed", task_id, message)])

    def complete_child(self, task_id, result=None):
        self.turn([event("subOrchestrationInstanceCompleted", taskScheduledId=task_id, result=result)])

    def fail_child(self, task_id, message):
        self.turn([failed("subOrchestrationInstanceFailed", task_id, message)])

    def fire_timer(self, timer_id, at_its_time=False):
        built = event("timerFired", timerId=timer_id)
        built.timerFired.fireAt.CopyFrom(self.timers[timer_id])
        if at_its_time:
            self.clock = max(self.clock, self.timers[timer_id].seconds - 1)
        self.turn([built])

    def raise_event(self, name, data=None):
        self.turn([event("eventRaised", name=name, input=data)])
