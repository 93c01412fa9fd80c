"""What rows of instances hold in SQLite only: tags as the text of a JSON object."""

from __future__ import annotations

import json

from durabletask_scheduler.hub.model import Instance
from durabletask_scheduler.storage.rows import TAGS, Row, all_columns, changing_columns, columns_without_index

_NO_TAGS = "{}"


def updated_columns(instance: Instance) -> Row:
    """What an update of an instance row writes, and by what it finds the row."""
    return (*changing_columns(instance, tags_text(instance.tags)), instance.key)


def columns_in_place(instance: Instance) -> Row:
    """What an update of a live instance row writes that changes no index, and by what it finds the row."""
    values = columns_without_index(instance, tags_text(instance.tags))
    return (*values, instance.key, instance.status, instance.created_at)


def created_columns(instance: Instance, hub: int) -> Row:
    return all_columns(instance, tags_text(instance.tags), hub)


def tags_text(tags: dict[str, str]) -> str:
    return json.dumps(tags, ensure_ascii=False) if tags else _NO_TAGS


def tags_from(text: str) -> dict[str, str]:
    return {} if text == _NO_TAGS else dict(json.loads(text))


def with_tags(row: Row) -> Row:
    """A row of an instance as it was read, with its tags as a dict; None for none."""
    return row if row[TAGS] is None else (*row[:TAGS], tags_from(row[TAGS]), *row[TAGS + 1 :])


def tags_include(text: str, wanted: str) -> bool:
    """Whether tags hold all of the wanted ones, both as JSON objects."""
    found = tags_from(text)
    return all(found.get(name) == value for name, value in json.loads(wanted).items())
