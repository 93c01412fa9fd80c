"""How entities plug into the engine, the worker and the clients: the entry point ``durabletask.features``."""

from typing import Final

from durabletask.entities.entity_metadata import EntityMetadata
from durabletask.entities.history import EVENT_HANDLERS
from durabletask.entities.orchestration import EntityRun
from durabletask.entities.registration import add_entity, entity_names
from durabletask.entities.rewinding import REWINDING
from durabletask.entities.work_items import run_first_form, run_second_form
from durabletask.features import ENTITIES, Feature

FEATURE: Final = Feature(
    name=ENTITIES,
    event_handlers=EVENT_HANDLERS,
    extension=EntityRun,
    work_items={"entityRequest": run_first_form, "entityRequestV2": run_second_form},
    register=add_entity,
    filter_names=entity_names,
    entity_metadata=EntityMetadata,
    rewinding=REWINDING,
)
