"""The status of a schedule."""

from enum import Enum


class ScheduleStatus(str, Enum):
    """Whether a schedule runs. The state of a schedule has it as its ordinal, as the .NET dashboard does."""

    UNINITIALIZED = "Uninitialized"
    ACTIVE = "Active"
    PAUSED = "Paused"

    def to_dotnet_ordinal(self) -> int:
        """0 for UNINITIALIZED, 1 for ACTIVE, 2 for PAUSED."""
        return _IN_ORDER.index(self)

    @classmethod
    def from_dotnet(cls, value: int | str | None) -> "ScheduleStatus":
        """The status of an ordinal or a name; UNINITIALIZED for everything else."""
        by_text = {str(ordinal): status for ordinal, status in enumerate(_IN_ORDER)}
        by_text.update({status.value: status for status in _IN_ORDER})
        return by_text.get(str(value), cls.UNINITIALIZED)


_IN_ORDER = (ScheduleStatus.UNINITIALIZED, ScheduleStatus.ACTIVE, ScheduleStatus.PAUSED)
