"""How an application adds properties of its exceptions to the failures it reports."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class ExceptionPropertiesProvider(Protocol):
    """Gives extra properties for exceptions that a worker reports.

    Pass an object of this shape as ``exception_properties_provider`` of a worker. It is asked for the
    reported exception and for each exception in its chain of causes.
    """

    def get_exception_properties(self, exception: Exception) -> Mapping[str, Any] | None:
        """Return the properties of ``exception``, or None for no properties.

        ``None``, ``bool``, numbers, ``str``, mappings and sequences travel as such (numbers as floats);
        any other value travels as ``str(value)``. They come back as ``FailureDetails.properties``. What
        this method raises is logged as a warning and the failure is reported without properties.
        """
        ...
