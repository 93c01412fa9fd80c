"""Taking instances into memory: what has had work since a restart or a failed write, and what calls ask for."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from functools import partial
from typing import TYPE_CHECKING

from durabletask_scheduler.group import logger
from durabletask_scheduler.hub.entity_ids import is_entity
from durabletask_scheduler.hub.times import SECOND
from durabletask_scheduler.instances import Entry, Name
from durabletask_scheduler.storage import StorageError, StorageLost

if TYPE_CHECKING:
    from durabletask_scheduler.engine import Command, Engine

_LOADS_PER_TICK = 256
_LOADS_TOGETHER = 4
_LONGEST_RETRY = 30 * SECOND


class Loading:
    """Belongs to the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._names: deque[Name] = deque()
        self._failures = 0

    @property
    def is_due(self) -> bool:
        """Whether :meth:`load_some` has anything to do."""
        return bool(self._names)

    def expect_stored_work(self) -> None:
        """Have everything taken up that is in the store and has work, now or when its time comes.

        Raises:
            StorageError: the store could not be read.
        """
        storage, alarms = self._engine.storage, self._engine.alarms
        for live in storage.live():
            name = (live.task_hub, live.instance_id)
            if live.wake_at == 0:
                self._names.append(name)
            elif live.wake_at > 0:
                alarms.set(live.key, live.wake_at, partial(self._names.append, name))
        for waiting in storage.waiting_entities():
            name = (waiting.task_hub, waiting.instance_id)
            alarms.set(name, waiting.wake_at, partial(self._names.append, name))

    def find(self, task_hub: str, instance_id: str) -> Entry | None:
        """The instance; if the store cannot be read now, it is loaded with all that is due when it can."""
        try:
            return self._engine.find(task_hub, instance_id)
        except StorageError as error:
            logger.warning("An instance could not be loaded and is tried again later: %s", error)
            self.load_later([(task_hub, instance_id)])
            return None

    def load_later(self, names: Iterable[Name]) -> None:
        """Have these taken up when the store can be used again."""
        self._names.extend(names)
        if not self._names:
            return
        waiting = tuple(self._names)
        self._names.clear()
        engine = self._engine
        delay = min(engine.options.retry_delay << min(self._failures, 10), _LONGEST_RETRY)
        self._failures += 1
        engine.alarms.set(object(), engine.now + delay, partial(self._names.extend, waiting))

    def store_works(self) -> None:
        """The store has done something: what cannot be loaded from now on is tried again soon."""
        self._failures = 0

    def load_some(self) -> None:
        """Take up some of what has work."""
        engine, names = self._engine, self._names
        missing: dict[Name, None] = {}
        for name in [names.popleft() for _ in range(min(len(names), _LOADS_PER_TICK))]:
            entry = engine.instances.cached(name)
            if is_entity(name[1]):
                engine.do(partial(engine.desk.entities.take_up, name))
            elif entry is not None:
                engine.do(partial(engine.desk.turns.consider, entry))
            else:
                missing[name] = None
        if missing:
            engine.do(partial(self._take_up, missing))
            engine.instances.forget_absent()

    def load_concerned(self, commands: Collection[Command]) -> None:
        """Load what the commands are about at once; what cannot be loaded now, they will say themselves."""
        if len(commands) < _LOADS_TOGETHER:
            return
        names = {command.concerns for command in commands if command.concerns is not None}
        missing = [name for name in names if self._engine.instances.cached(name) is None]
        if len(missing) >= _LOADS_TOGETHER:
            self._engine.do(partial(self._adopt_all, missing))

    def _take_up(self, names: Collection[Name]) -> None:
        try:
            self._adopt_all(names)
        except StorageLost:
            raise
        except StorageError as error:
            logger.warning("Instances could not be loaded and are tried again later: %s", error)
            self.load_later(name for name in names if self._engine.instances.cached(name) is None)

    def _adopt_all(self, names: Iterable[Name]) -> None:
        for entry in self._engine.instances.load_many(names):
            self._engine.adopt(entry)
