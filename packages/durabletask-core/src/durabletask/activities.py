"""Running one activity: a request in, a response out, whatever user code does in between."""

from dataclasses import dataclass
from typing import Any

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask.exception_properties import ExceptionPropertiesProvider
from durabletask.failures import failure_of
from durabletask.registry import ActivityNotRegisteredError, Registration
from durabletask.serialization import DEFAULT_DATA_CONVERTER, DataConverter, encoded_text
from durabletask.task import ActivityContext


@dataclass(frozen=True)
class ActivityOptions:
    """What activities of a worker share; both default to what a worker defaults to."""

    data_converter: DataConverter = DEFAULT_DATA_CONVERTER
    exception_properties_provider: ExceptionPropertiesProvider | None = None


_DEFAULT_OPTIONS = ActivityOptions()


def run_activity(
    registration: Registration | None, request: pb.ActivityRequest, options: ActivityOptions = _DEFAULT_OPTIONS
) -> pb.ActivityResponse:
    """Call the activity and return its response, which lacks only the completion token.

    Never raises for a fault of user code: any exception, SystemExit and KeyboardInterrupt included, becomes
    the failure of this activity, and so do an input that cannot be decoded and a result that cannot be
    encoded. ``registration`` None fails it as not registered. A result that must be awaited needs
    ``run_activity_async`` and fails the activity here.
    """
    try:
        result = _called(registration, request, options)
        if hasattr(result, "__await__"):
            _discard(result)
            raise TypeError(f"The activity {request.name!r} returned an awaitable; define it with 'async def'.")
        return _completed(request, options, result)
    except BaseException as error:
        return failed_response(request, error, options)


async def run_activity_async(
    registration: Registration | None, request: pb.ActivityRequest, options: ActivityOptions = _DEFAULT_OPTIONS
) -> pb.ActivityResponse:
    """The same for an activity that is awaited on the running event loop; a plain result is taken as it is.

    The cancellation of the task that runs this is passed on: who made the task knows whether it is the activity's
    own doing. Before Python 3.11 every CancelledError is.
    """
    from asyncio import CancelledError, current_task

    try:
        result = _called(registration, request, options)
        if hasattr(result, "__await__"):
            result = await result
        return _completed(request, options, result)
    except CancelledError as error:
        task = current_task()
        # Before Python 3.11 a task does not tell whether it was cancelled.
        if task is None or not hasattr(task, "cancelling") or task.cancelling():
            raise
        return failed_response(request, error, options)
    except BaseException as error:
        return failed_response(request, error, options)


def failed_response(
    request: pb.ActivityRequest, error: BaseException, options: ActivityOptions = _DEFAULT_OPTIONS
) -> pb.ActivityResponse:
    """The response that fails the activity with ``error``."""
    failure = failure_of(error, options.exception_properties_provider)
    failure.isNonRetriable = isinstance(error, ActivityNotRegisteredError)
    return pb.ActivityResponse(
        instanceId=request.orchestrationInstance.instanceId, taskId=request.taskId, failureDetails=failure
    )


def _called(registration: Registration | None, request: pb.ActivityRequest, options: ActivityOptions) -> Any:
    if registration is None:
        version = f" version {request.version.value!r}" if request.version.value else ""
        raise ActivityNotRegisteredError(
            f"The activity {request.name!r}{version} is not registered with this worker. Names are case-sensitive; "
            "register it with add_activity() before the worker starts."
        )
    converter = options.data_converter
    declared = registration.input_type
    expected = declared if declared is not None and converter.can_reconstruct(declared) else None
    context = ActivityContext(request.orchestrationInstance.instanceId, request.taskId)
    return registration.function(context, converter.deserialize(request.input.value, expected))


def _completed(request: pb.ActivityRequest, options: ActivityOptions, result: Any) -> pb.ActivityResponse:
    response = pb.ActivityResponse(instanceId=request.orchestrationInstance.instanceId, taskId=request.taskId)
    encoded = encoded_text(options.data_converter, result)
    if encoded is not None:
        response.result.value = encoded
    return response


def _discard(awaitable: Any) -> None:
    """Close a coroutine that nobody will await, which would otherwise warn."""
    close = getattr(awaitable, "close", None)
    if callable(close):
        close()
