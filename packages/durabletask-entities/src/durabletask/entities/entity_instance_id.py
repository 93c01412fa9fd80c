"""The identity of an entity: a name, which says what code it runs, and a key, which tells entities apart."""

from dataclasses import dataclass

_MARK = "@"


@dataclass(frozen=True, slots=True)
class EntityInstanceId:
    """Which entity: its ``str()`` is ``@<entity>@<key>``, the form on the wire.

    ``entity`` is kept in lower case, so that names are the same in any letter case; ``key`` is kept as it
    is. Ids are hashable, and are ordered by that text. Raises ValueError when a part is empty, is not a
    text or contains ``@``.
    """

    entity: str
    key: str

    def __post_init__(self) -> None:
        self.validate_entity_name(self.entity)
        self.validate_key(self.key)
        object.__setattr__(self, "entity", self.entity.lower())

    def __str__(self) -> str:
        return f"{_MARK}{self.entity}{_MARK}{self.key}"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, EntityInstanceId):
            return NotImplemented
        return str(self) < str(other)

    @staticmethod
    def parse(entity_id: str) -> "EntityInstanceId":
        """The id whose text is ``entity_id``; raises ValueError when it is not ``@<entity>@<key>``."""
        name, key = _split(entity_id)
        return EntityInstanceId(name, key)

    @staticmethod
    def from_wire(entity_id: str) -> "EntityInstanceId":
        """The id whose text is ``entity_id``, also one that only other SDKs can make.

        They allow keys that are empty or contain ``@``, and a worker must serve such entities as well.
        Raises ValueError when there is no name.
        """
        name, key = _split(entity_id)
        EntityInstanceId.validate_entity_name(name)
        found = object.__new__(EntityInstanceId)
        object.__setattr__(found, "entity", name.lower())
        object.__setattr__(found, "key", key)
        return found

    @staticmethod
    def validate_entity_name(name: str) -> None:
        """Raise ValueError unless ``name`` can be the name of an entity."""
        _require_part("name", name)

    @staticmethod
    def validate_key(key: str) -> None:
        """Raise ValueError unless ``key`` can be the key of an entity."""
        _require_part("key", key)

    def to_json(self) -> str:
        """The id as an input or output of anything durable."""
        return str(self)

    @classmethod
    def from_json(cls, value: str) -> "EntityInstanceId":
        """The id that ``to_json`` made ``value`` of."""
        return cls.from_wire(value)


def _require_part(part: str, text: str) -> None:
    if text is None or text == "":
        raise ValueError(f"The {part} of an entity must not be empty.")
    if not isinstance(text, str):
        raise ValueError(f"The {part} of an entity must be a text, got {text!r} of type {type(text).__name__}.")
    if _MARK in text:
        raise ValueError(f"The {part} of an entity must not contain '@', got {text!r}.")


def _split(entity_id: str) -> tuple[str, str]:
    if not isinstance(entity_id, str) or not entity_id.startswith(_MARK):
        raise ValueError(f"An entity id begins with '@', as in '@counter@total'; got {entity_id!r}.")
    name, mark, key = entity_id[1:].partition(_MARK)
    if not mark:
        raise ValueError(f"An entity id has a name and a key, as in '@counter@total'; got {entity_id!r}.")
    return name, key
