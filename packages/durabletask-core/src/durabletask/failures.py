"""Failures: what an exception looks like on the wire, and what a wire failure looks like to user code.

The wire form is the protocol's ``TaskFailureDetails``: the fully qualified type name (``builtins.``
included), ``str(exception)``, the traceback's frames, the chain of causes as inner failures, and
properties from an ExceptionPropertiesProvider.
"""

import math
import numbers
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf import struct_pb2

from durabletask.exception_properties import ExceptionPropertiesProvider

MAXIMUM_DEPTH = 10
"""How many exceptions of a chain of causes are reported."""
MAXIMUM_TEXT = 64 * 1024
"""Characters of a message or a stack trace that are kept; the rest is cut, and the cut is said."""


@dataclass(frozen=True)
class FailureDetails:
    """What is known of a failure that happened elsewhere.

    ``error_type`` is the fully qualified name of the exception class, ``stack_trace`` the frames as text,
    ``inner_failure`` the failure that caused this one, ``properties`` what the worker's
    ExceptionPropertiesProvider added (numbers are floats).
    """

    message: str
    error_type: str
    stack_trace: str | None
    inner_failure: "FailureDetails | None" = None
    properties: dict[str, Any] | None = None

    def is_caused_by(self, error_type: str | type[BaseException]) -> bool:
        """Whether the failed exception was of ``error_type``; inner failures are not searched.

        A class also matches its subclasses, as far as they are imported here. Two names match when they
        are equal, or, if at most one of them is qualified, when their last parts are. Raises TypeError
        when ``error_type`` is neither a name nor an exception class.
        """
        if isinstance(error_type, str):
            return self._matches_name(error_type)
        if isinstance(error_type, type) and issubclass(error_type, BaseException):
            return self._matches_class(error_type)
        raise TypeError(f"is_caused_by() expects an exception class or its name, got {error_type!r}")

    def _matches_name(self, name: str) -> bool:
        mine = self.error_type
        if not mine or not name:
            return False
        if mine == name:
            return True
        both_qualified = "." in mine and "." in name
        return not both_qualified and mine.rpartition(".")[2] == name.rpartition(".")[2]

    def _matches_class(self, cls: type[BaseException]) -> bool:
        if not self.error_type:
            return False
        bare = "." not in self.error_type
        return any(self.error_type == (c.__name__ if bare else qualified_name(c)) for c in _with_subclasses(cls))


# The class is part of durabletask.task, where user code finds it; its type name crosses the wire.
FailureDetails.__module__ = "durabletask.task"


def qualified_name(cls: type) -> str:
    """The class's name as reported in ``errorType``, for example ``builtins.ValueError``."""
    return f"{cls.__module__}.{cls.__qualname__}"


def failure_of(
    exception: BaseException,
    provider: ExceptionPropertiesProvider | None = None,
    warn: Callable[[str], None] | None = None,
) -> pb.TaskFailureDetails:
    """The wire form of ``exception`` and of up to MAXIMUM_DEPTH exceptions of its chain of causes.

    Never raises for a faulty exception: one that cannot be printed is reported with a text that says so, one
    whose attributes cannot be read without what they say, and a cycle of causes ends where it closes. ``warn`` is
    told what the ``provider`` did wrong.
    """
    try:
        return _failure(exception, _Reporter(provider, warn), frozenset())
    except Exception as error:
        # Whoever reports a failure has nothing else to answer with: without this one nobody would hear of it.
        kind = type(exception).__name__
        return plain_failure(kind, f"<{kind} that cannot be reported, because that raises {type(error).__name__}>")


def failure_details(failure: pb.TaskFailureDetails) -> FailureDetails:
    """The public form of a wire failure."""
    return FailureDetails(
        message=failure.errorMessage,
        error_type=failure.errorType,
        stack_trace=failure.stackTrace.value if failure.HasField("stackTrace") else None,
        inner_failure=failure_details(failure.innerFailure) if failure.HasField("innerFailure") else None,
        properties={k: from_value(v) for k, v in failure.properties.items()} if failure.properties else None,
    )


def details_failure(details: FailureDetails) -> pb.TaskFailureDetails:
    """The wire form of public failure details."""
    failure = pb.TaskFailureDetails(errorType=details.error_type, errorMessage=details.message)
    if details.stack_trace is not None:
        failure.stackTrace.value = details.stack_trace
    if details.inner_failure is not None:
        failure.innerFailure.CopyFrom(details_failure(details.inner_failure))
    for key, value in (details.properties or {}).items():
        failure.properties[key].CopyFrom(to_value(value))
    return failure


def plain_failure(
    error_type: str, message: str, *, stack_trace: str = "", non_retriable: bool = False
) -> pb.TaskFailureDetails:
    """A failure that no exception object stands for."""
    failure = pb.TaskFailureDetails(
        errorType=error_type, errorMessage=_wire_text(message), isNonRetriable=non_retriable
    )
    failure.stackTrace.value = _wire_text(stack_trace)
    return failure


def to_value(value: Any) -> struct_pb2.Value:
    """A property as a protobuf Value; what has no Value form becomes its text."""
    for kinds, convert in _VALUE_FORMS:
        if isinstance(value, kinds):
            return convert(value)
    return struct_pb2.Value(string_value=_wire_text(_text_of(value)))


def from_value(value: struct_pb2.Value) -> Any:
    """A protobuf Value as a Python object; numbers are floats."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {k: from_value(v) for k, v in value.struct_value.fields.items()}
    if kind == "list_value":
        return [from_value(v) for v in value.list_value.values]
    return None if kind in (None, "null_value") else getattr(value, kind)


def safe_text(exception: BaseException) -> str:
    """``str(exception)``, or a text that says why there is none; never raises."""
    return _text_of(exception)


def shown(value: object) -> str:
    """A short ``repr(value)`` for a message; never raises."""
    try:
        return repr(value)[:200]
    except Exception as error:
        return f"<object whose repr() raises {type(error).__name__}>"


@dataclass(frozen=True)
class _Reporter:
    provider: ExceptionPropertiesProvider | None
    warn: Callable[[str], None] | None

    def properties(self, exception: BaseException) -> Mapping[str, struct_pb2.Value]:
        if self.provider is None or not isinstance(exception, Exception):
            return {}
        try:
            found = self.provider.get_exception_properties(exception)
            if found is None or isinstance(found, Mapping):
                return {_wire_text(_text_of(k)): to_value(v) for k, v in (found or {}).items()}
        except Exception as error:
            self._tell(f"failed with {type(error).__name__}: {_text_of(error)}")
            return {}
        self._tell(f"returned {type(found).__name__} where a mapping or None is expected")
        return {}

    def _tell(self, what: str) -> None:
        if self.warn is not None:
            self.warn(f"The exception properties provider {what}; the failure is reported without properties.")


def _failure(exception: BaseException, reporter: _Reporter, seen: frozenset[int]) -> pb.TaskFailureDetails:
    failure = plain_failure(qualified_name(type(exception)), _text_of(exception), stack_trace=_stack_of(exception))
    for key, value in reporter.properties(exception).items():
        failure.properties[key].CopyFrom(value)
    try:
        inner = _inner_failure(exception, reporter, seen | {id(exception)})
    except Exception:
        # The attributes are the user's code as much as str() is; the failure itself is known already.
        inner = None
    if inner is not None:
        failure.innerFailure.CopyFrom(inner)
    return failure


def _inner_failure(exception: BaseException, reporter: _Reporter, seen: frozenset[int]) -> pb.TaskFailureDetails | None:
    details = _attribute(exception, "details")
    if isinstance(details, FailureDetails):
        return details_failure(details)
    # An exception may be false, for example one with a length.
    cause = exception.__cause__
    if cause is None and not exception.__suppress_context__:
        cause = exception.__context__
    if isinstance(cause, Exception) and id(cause) not in seen and len(seen) < MAXIMUM_DEPTH:
        return _failure(cause, reporter, seen)
    return None


def _attribute(exception: BaseException, name: str) -> Any:
    """An attribute that an exception may have; None without it, and where reading it raises."""
    try:
        return getattr(exception, name, None)
    except Exception:
        return None


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__} whose str() raises {type(error).__name__}>"


def _stack_of(exception: BaseException) -> str:
    return "".join(traceback.format_tb(exception.__traceback__))


def _wire_text(text: str) -> str:
    """``text`` cut to its limit and free of lone surrogates, which protobuf refuses."""
    if len(text) > MAXIMUM_TEXT:
        text = f"{text[:MAXIMUM_TEXT]}... (cut: {len(text)} characters)"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _with_subclasses(cls: type[BaseException]) -> Iterator[type[BaseException]]:
    seen: set[type[BaseException]] = set()
    waiting = [cls]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            yield current
            waiting.extend(current.__subclasses__())


def _null(value: Any) -> struct_pb2.Value:
    return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)


def _number(value: Any) -> struct_pb2.Value:
    try:
        number = float(value)
    except (OverflowError, ValueError):
        number = math.inf
    # A Value with a non-finite number has no JSON form.
    if not math.isfinite(number):
        return struct_pb2.Value(string_value=_text_of(value))
    return struct_pb2.Value(number_value=number)


def _mapping(value: Mapping[Any, Any]) -> struct_pb2.Value:
    fields = {_wire_text(_text_of(k)): to_value(v) for k, v in value.items()}
    return struct_pb2.Value(struct_value=struct_pb2.Struct(fields=fields))


def _sequence(value: Sequence[Any]) -> struct_pb2.Value:
    return struct_pb2.Value(list_value=struct_pb2.ListValue(values=[to_value(v) for v in value]))


_VALUE_FORMS: tuple[tuple[Any, Callable[[Any], struct_pb2.Value]], ...] = (
    (type(None), _null),
    (bool, lambda v: struct_pb2.Value(bool_value=v)),
    ((numbers.Real, Decimal), _number),
    (str, lambda v: struct_pb2.Value(string_value=_wire_text(v))),
    (Mapping, _mapping),
    ((bytes, bytearray), lambda v: struct_pb2.Value(string_value=_wire_text(_text_of(v)))),
    (Sequence, _sequence),
)
