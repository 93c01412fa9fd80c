"""The service: every call of the protocol, whatever it arrived on.

Calls that change something and calls that wait go to the engine; queries go to reader threads.
Nothing here blocks; everything is answered later, through the reply or the sink.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Protocol, cast

from durabletask_proto import additions, warm
from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf import empty_pb2
from google.protobuf.message import Message

from durabletask_scheduler import bulk_start, counting, entity_calls, entity_queries, queries, requests
from durabletask_scheduler.dispatch import Stream
from durabletask_scheduler.engine import Command, Engine
from durabletask_scheduler.group import send_reply
from durabletask_scheduler.hub import checks
from durabletask_scheduler.hub.model import HubError, Instance, Limits
from durabletask_scheduler.instances import Entry, Name
from durabletask_scheduler.lending import Lending
from durabletask_scheduler.limits import ServiceOptions
from durabletask_scheduler.memory import keep_large_blocks
from durabletask_scheduler.outgoing import Outgoing
from durabletask_scheduler.readers import Readers, Reading
from durabletask_scheduler.rpc import RPCS, Cancel, Exchange, Reply, Rpc, Sink
from durabletask_scheduler.storage import Storage
from durabletask_scheduler.waiters import Ready, Wait, has_completed, has_started, state_response

__all__ = ["RPCS", "Cancel", "Limits", "Reply", "Rpc", "SchedulerService", "ServiceOptions", "Sink"]

TASK_HUB_METADATA = "taskhub"

_CHUNKS_UNDER_WAY = 4

_HELLO_METADATA = ((warm.HEADER, warm.VERSION), (additions.HEADER, additions.VERSION))

_UNSUPPORTED: Mapping[str, str] = {
    "DeleteTaskHub": "task hubs are not deleted on request: purge their instances, or remove the scheduler's file",
}


# As with commands, freezing would cost more than it protects.
@dataclass(slots=True)
class Call:
    """A unary call on its way."""

    rpc: str
    request: Any
    metadata: Mapping[str, str]
    task_hub: str
    reply: Reply


_ABOUT_ONE_INSTANCE = frozenset(
    {"StartInstance", "RaiseEvent", "SuspendInstance", "ResumeInstance", "RewindInstance", "RestartInstance"}
)


class _AboutOneInstance(Protocol):
    """The requests of these calls."""

    @property
    def instanceId(self) -> str: ...


@dataclass(frozen=True, slots=True)
class StreamCall:
    """A streaming call on its way; ``cancelled`` is set once the caller went away."""

    request: Any
    task_hub: str
    sink: Sink
    cancelled: threading.Event = field(default_factory=threading.Event)

    def fail(self, error: HubError) -> None:
        """End the stream with an error. A transport that fails to take it must not harm the others."""
        send_reply(lambda _, reason: self.sink.close(reason), None, error)


class SchedulerService:
    """One scheduler over one store: the engine and a few readers.

    The store stays the caller's: open it before, close it after :meth:`stop`.
    """

    def __init__(self, storage: Storage, options: ServiceOptions | None = None) -> None:
        self._storage = storage
        self._options = options or ServiceOptions()
        self._engine = Engine(storage, self._options)
        self._lending = Lending(self, self._engine.shifts) if self._engine.shifts.borrows else None
        self._readers = Readers(self._options.readers)
        self._task_hubs: set[str] = set()
        changes = {**requests.HANDLERS, **bulk_start.HANDLERS, **entity_calls.HANDLERS}
        del changes["TerminateInstance"]
        # By far the most calls are these: they go straight to the engine.
        self._changes = {rpc: partial(handler, self._engine) for rpc, handler in changes.items()}
        self._handlers = self._unary_handlers()
        self._streams: Mapping[str, Callable[[StreamCall], Cancel]] = {
            "GetWorkItems": self._work_items,
            "Work": self._work_items,
            "StreamInstanceHistory": self._history,
        }

    def start(self) -> None:
        """Take up the work of the store. A service starts once.

        Raises:
            StorageError: the store could not be read.
        """
        keep_large_blocks()
        self._task_hubs.update(self._storage.task_hubs())
        self._engine.start()
        self._readers.start()

    def stop(self, timeout: float) -> None:
        """Finish what has been accepted, end streams and waits (UNAVAILABLE), and end the threads.

        Args:
            timeout: seconds.

        Raises:
            TimeoutError: a thread is still busy; the store must not be closed yet.
        """
        deadline = time.monotonic() + timeout
        stopped = self._engine.stop(timeout)
        stopped = self._readers.stop(max(0.0, deadline - time.monotonic())) and stopped
        if not stopped:
            raise TimeoutError(f"the scheduler did not stop within {timeout} s; a write or a query is still under way")

    @property
    def lending(self) -> Lending | None:
        """For the threads of workers in this process; None if they are of no use."""
        return self._lending

    def outgoing(self) -> Outgoing:
        """For event loops that write what the engine sends."""
        return self._engine.shifts.outgoing()

    def initial_metadata(self, rpc: str) -> tuple[tuple[str, str], ...]:
        """Initial metadata of the answers to a call."""
        return _HELLO_METADATA if rpc == "Hello" else ()

    def call(self, rpc: str, request: Message, metadata: Mapping[str, str], reply: Reply) -> Cancel:
        """Begin a unary call.

        Args:
            request: treated as immutable from here on.
            metadata: by lower-case key; ``taskhub`` names the task hub, the default one if it is missing.
        """
        task_hub = metadata.get(TASK_HUB_METADATA) or self._options.default_task_hub
        if task_hub not in self._task_hubs and rpc != "CreateTaskHub":
            send_reply(reply, None, _no_hub(task_hub))
            return _nothing
        change = self._changes.get(rpc)
        if change is None:
            return self._handlers[rpc](Call(rpc, request, metadata, task_hub, reply))
        command = Command(partial(change, task_hub, request), reply)
        if rpc in _ABOUT_ONE_INSTANCE:
            command.concerns = (task_hub, cast(_AboutOneInstance, request).instanceId)
        self._engine.submit(command)
        return _nothing

    def open_stream(self, rpc: str, request: Message, metadata: Mapping[str, str], sink: Sink) -> Cancel:
        """Begin a streaming call; see :meth:`call`."""
        task_hub = metadata.get(TASK_HUB_METADATA) or self._options.default_task_hub
        call = StreamCall(request, task_hub, sink)
        if task_hub not in self._task_hubs:
            call.fail(_no_hub(task_hub))
            return _nothing
        return self._streams[rpc](call)

    def open_exchange(self, rpc: str, request: Message, metadata: Mapping[str, str], sink: Sink) -> Exchange:
        """Begin a stream of work items that takes the answers to them; see :meth:`call`."""

        def answer(answering: str, message: Message, reply: Reply) -> None:
            self.call(answering, message, metadata, reply)

        return Exchange(self.open_stream(rpc, request, metadata, sink), answer)

    def _unary_handlers(self) -> Mapping[str, Callable[[Call], Cancel]]:
        handlers: dict[str, Callable[[Call], Cancel]] = {
            "Hello": _hello,
            "GetInstance": self._get_instance,
            "GetEntity": self._get_entity,
            "WaitForInstanceStart": partial(self._wait, has_started),
            "WaitForInstanceCompletion": partial(self._wait, has_completed),
            "CreateTaskHub": self._create_task_hub,
        }
        reads = {**queries.HANDLERS, **counting.HANDLERS, **entity_queries.HANDLERS}
        handlers.update((rpc, partial(self._read, handler)) for rpc, handler in reads.items())
        handlers["TerminateInstance"] = self._terminate
        missing = {rpc: partial(_unsupported, what) for rpc, what in _UNSUPPORTED.items()}
        return handlers | missing

    # -- changes and waits: the engine ----------------------------------------------------------

    def _terminate(self, call: Call) -> Cancel:
        """Recursive: the children that are open end with their parent; below those that have ended some may live on."""

        def descend(response: Message | None, error: HubError | None) -> None:
            if error is not None:
                send_reply(call.reply, None, error)
            else:
                self._read(queries.terminate_descendants, call)

        change = partial(requests.HANDLERS["TerminateInstance"], self._engine, call.task_hub, call.request)
        self._engine.submit(Command(change, descend if call.request.recursive else call.reply))
        return _nothing

    def _get_instance(self, call: Call) -> Cancel:
        if self._answered_at_once(call, _always):
            return _nothing

        def answer() -> None:
            entry = self._find_missed(call.task_hub, call.request.instanceId)
            payloads = call.request.getInputsAndOutputs
            found = pb.GetInstanceResponse() if entry is None else state_response(entry.instance, payloads=payloads)
            send_reply(call.reply, found, None)

        self._after_write(call.reply, answer, (call.task_hub, call.request.instanceId))
        return _nothing

    def _get_entity(self, call: Call) -> Cancel:
        def answer() -> None:
            send_reply(call.reply, entity_calls.get_entity(self._engine, call.task_hub, call.request), None)

        self._after_write(call.reply, answer)
        return _nothing

    def _wait(self, ready: Ready, call: Call) -> Cancel:
        if self._answered_at_once(call, ready):
            return _nothing
        request: pb.GetInstanceRequest = call.request
        checks.check_text("the instance id", request.instanceId, self._options.limits.id_bytes)
        wait = Wait(call.task_hub, request.instanceId, ready, request.getInputsAndOutputs, call.reply)
        self._after_write(call.reply, partial(self._park, wait), (wait.task_hub, wait.instance_id))
        return partial(self._end_wait, wait)

    def _answered_at_once(self, call: Call, ready: Ready) -> bool:
        """Answer on this thread if the instance is in memory as it is stored, is as wanted, and has no turn to come."""

        def read() -> Message | None:
            entry = self._engine.instances.cached((call.task_hub, call.request.instanceId))
            if entry is None or entry.dirty or entry.turn is not None or not ready(entry.instance):
                return None
            return state_response(entry.instance, payloads=call.request.getInputsAndOutputs)

        state = self._engine.shifts.between_steps(read)
        if state is not None:
            send_reply(call.reply, state, None)
        return state is not None

    def _park(self, wait: Wait) -> None:
        entry = self._find_missed(wait.task_hub, wait.instance_id)
        self._engine.waiters.park(wait, None if entry is None else entry.instance)

    def _find_missed(self, task_hub: str, instance_id: str) -> Entry | None:
        """An instance about which somebody wants to know."""
        entry = self._engine.find(task_hub, instance_id)
        if entry is not None:
            self._engine.desk.is_missed(entry.turn)
        return entry

    def _end_wait(self, wait: Wait) -> None:
        self._engine.submit(Command(partial(self._engine.waiters.cancel, wait)))

    def _after_write(self, reply: Reply, action: Callable[[], None], concerns: Name | None = None) -> None:
        """See the state as committed: what others change in the same tick counts, but only once durable."""
        engine = self._engine
        engine.submit(Command(partial(engine.after_write, reply, action), reply, concerns=concerns))

    def _create_task_hub(self, call: Call) -> Cancel:
        checks.check_name("the task hub", call.task_hub, self._options.limits)

        def create() -> Message:
            if call.request.recreateIfExists and call.task_hub in self._task_hubs:
                raise HubError(
                    "FAILED_PRECONDITION",
                    f"task hub '{call.task_hub}' exists and is not deleted on request; "
                    "purge its instances, or start the scheduler on a new file",
                )
            self._storage.add_task_hub(call.task_hub)
            self._task_hubs.add(call.task_hub)
            return pb.CreateTaskHubResponse()

        self._engine.submit(Command(create, call.reply))
        return _nothing

    # -- queries: reader threads ----------------------------------------------------------------

    def _read(self, handler: Callable[[queries.Query], Message], call: Call) -> Cancel:
        query = queries.Query(self._engine, self._storage, call.task_hub, call.request, call.metadata)

        def run() -> None:
            send_reply(call.reply, handler(query), None)

        self._readers.submit(Reading(run, partial(send_reply, call.reply, None)))
        return _nothing

    # -- streams --------------------------------------------------------------------------------

    def _work_items(self, call: StreamCall) -> Cancel:
        engine = self._engine
        opened: list[Stream] = []

        def begin() -> None:
            if not call.cancelled.is_set():
                opened.append(engine.desk.streams.open(call.task_hub, call.request, call.sink))

        def end() -> None:
            for stream in opened:
                engine.desk.streams.end(stream)
            call.sink.close()

        def cancel() -> None:
            call.cancelled.set()
            engine.submit(Command(end))

        engine.submit(Command(begin, lambda _, error: call.fail(error) if error is not None else None))
        return cancel

    def _history(self, call: StreamCall) -> Cancel:
        if call.request.forWorkItemProcessing:
            self._past_of_turn(call)
        else:
            read = partial(
                queries.instance_history,
                self._storage,
                call.task_hub,
                call.request,
                lambda: not call.cancelled.is_set(),
            )
            self._send_history(call, read)
        return call.cancelled.set

    def _past_of_turn(self, call: StreamCall) -> None:
        """Just what the turn in flight has as its past, not what arrives meanwhile."""
        engine = self._engine

        def begin() -> None:
            lease = engine.desk.turns.lease_of(call.task_hub, call.request.instanceId)
            if lease is None:
                call.fail(HubError("NOT_FOUND", f"'{call.request.instanceId}' has no turn in flight; abandon it"))
                return
            snapshot = copy.copy(lease.work.entry.instance)
            self._send_history(call, partial(queries.past_of_turn, self._storage, snapshot, lease.history_key))

        engine.submit(Command(begin, lambda _, error: call.fail(error) if error is not None else None))

    def _send_history(self, call: StreamCall, read: Callable[[], Iterator[pb.HistoryEvent]]) -> None:
        self._readers.submit(Reading(lambda: self._send_chunks(call, queries.chunks(read())), call.fail))

    def _send_chunks(self, call: StreamCall, chunks: Iterator[pb.HistoryChunk]) -> None:
        """Some of the chunks; the others when the receiver has taken these, however slow it is."""
        if call.cancelled.is_set():
            return
        sent = 0
        for chunk in islice(chunks, _CHUNKS_UNDER_WAY):
            call.sink.send(chunk)
            sent += 1
        if sent < _CHUNKS_UNDER_WAY:
            call.sink.close()
            return
        go_on = Reading(partial(self._send_chunks, call, chunks), call.fail)
        call.sink.when_read(partial(self._readers.submit, go_on))


def _always(_: Instance) -> bool:
    return True


def _hello(call: Call) -> Cancel:
    send_reply(call.reply, empty_pb2.Empty(), None)
    return _nothing


def _unsupported(what: str, call: Call) -> Cancel:
    send_reply(call.reply, None, HubError("UNIMPLEMENTED", what))
    return _nothing


def _no_hub(task_hub: str) -> HubError:
    return HubError("NOT_FOUND", f"Task hub not found: {task_hub}")


def _nothing() -> None:
    """Nothing to cancel: the call is answered without waiting for anybody."""
