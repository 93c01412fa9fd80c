"""Durable Task for Python: durable orchestrations as ordinary functions.

Importing this package is cheap: gRPC, protobuf and the worker are loaded by the first use of a
name that needs them.
"""

from importlib import import_module
from pkgutil import extend_path
from sys import _getframe
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durabletask.exception_properties import ExceptionPropertiesProvider
    from durabletask.grpc_options import GrpcChannelOptions, GrpcRetryPolicyOptions
    from durabletask.payload import LargePayloadStorageOptions, PayloadStore
    from durabletask.worker import (
        ActivityWorkItemFilter,
        ConcurrencyOptions,
        EntityWorkItemFilter,
        OrchestrationWorkItemFilter,
        VersioningOptions,
        WorkItemFilters,
    )

# Add-ons ship their own sub-package, which may lie in another folder than this file.
__path__ = extend_path(__path__, __name__)

PACKAGE_NAME = "durabletask"

__all__ = [
    "ActivityWorkItemFilter",
    "ConcurrencyOptions",
    "EntityWorkItemFilter",
    "ExceptionPropertiesProvider",
    "GrpcChannelOptions",
    "GrpcRetryPolicyOptions",
    "LargePayloadStorageOptions",
    "OrchestrationWorkItemFilter",
    "PayloadStore",
    "VersioningOptions",
    "WorkItemFilters",
]

_EXPORTS = {
    "ActivityWorkItemFilter": "durabletask.worker",
    "ConcurrencyOptions": "durabletask.worker",
    "EntityWorkItemFilter": "durabletask.worker",
    "ExceptionPropertiesProvider": "durabletask.exception_properties",
    "GrpcChannelOptions": "durabletask.grpc_options",
    "GrpcRetryPolicyOptions": "durabletask.grpc_options",
    "LargePayloadStorageOptions": "durabletask.payload",
    "OrchestrationWorkItemFilter": "durabletask.worker",
    "PayloadStore": "durabletask.payload",
    "VersioningOptions": "durabletask.worker",
    "WorkItemFilters": "durabletask.worker",
}
_SUBMODULES = frozenset({"entities", "grpc_options", "internal", "payload", "serialization", "task", "worker"})
_ADD_ONS = {
    "azuremanaged": "durabletask-azuremanaged",
    "entities": "durabletask-entities",
    "scheduled": "durabletask-entities",
}


def __getattr__(name: str) -> Any:
    if name in _ADD_ONS and _getframe(1).f_code.co_name == "_handle_fromlist":
        # ``from durabletask import entities`` keeps nothing of what an AttributeError says.
        return _submodule(name, ImportError)
    if name in _SUBMODULES:
        return _submodule(name, AttributeError)
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def _submodule(name: str, error_if_missing: type[Exception]) -> Any:
    full_name = f"{__name__}.{name}"
    try:
        return import_module(full_name)
    except ModuleNotFoundError as error:
        if error.name != full_name:
            raise
        raise error_if_missing(
            f"module {__name__!r} has no attribute {name!r}: install the distribution that ships it "
            f"(pip install {_ADD_ONS.get(name, 'durabletask-core')})"
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
