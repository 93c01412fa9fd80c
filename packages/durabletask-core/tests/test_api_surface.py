"""The names, parameters and defaults of the API that this package is a drop-in for, from api_surface.txt."""

import ast
import builtins
import inspect
import re
from dataclasses import is_dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import durabletask.history
import pytest
from durabletask import client, exception_properties, grpc_options, task, testing, worker
from durabletask.internal.json_encode_output_exception import JsonEncodeOutputException
from durabletask.payload import LargePayloadStorageOptions, PayloadStore
from durabletask.serialization import DataConverter

SURFACE = [
    line
    for line in (Path(__file__).parent / "api_surface.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
LINE = re.compile(
    r"(?P<path>[\w.]+:[\w.]+)"
    r"(?:(?P<parameters>\(.*?\))(?: \+ (?P<additions>.*?))?(?: -> (?P<returns>.*))?"
    r"| -> (?P<holds>.*)| < (?P<base>[\w.]+)| = (?P<value>.*))?"
)


ADDITIONS_ALSO_BY_POSITION = {"durabletask.worker:TaskHubGrpcWorker.stop"}


class Parameter(NamedTuple):
    name: str
    by_keyword_only: bool
    default: Any


def read_parameters(text: str) -> list[Parameter]:
    """The parameters of ``(a, *, b=1)``."""
    arguments = ast.parse(f"lambda {text}: 0", mode="eval").body.args
    positional = [*[inspect.Parameter.empty] * (len(arguments.args) - len(arguments.defaults)), *arguments.defaults]
    return [
        *(Parameter(a.arg, False, evaluated(default)) for a, default in zip(arguments.args, positional)),
        *(
            Parameter(a.arg, True, evaluated(default))
            for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults)
        ),
    ]


def evaluated(default: Any) -> Any:
    if default is None or default is inspect.Parameter.empty:
        return inspect.Parameter.empty
    return eval(ast.unparse(default), {"timedelta": timedelta})


def find(path: str) -> Any:
    module, _, names = path.partition(":")
    found: Any = import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    return found


def own_parameters(path: str) -> list[Parameter]:
    found = find(path)
    parameters = list(inspect.signature(found).parameters.values())
    is_method = path.partition(":")[2].count(".") and not isinstance(found, type)
    return [
        Parameter(p.name, p.kind is p.KEYWORD_ONLY, p.default)
        for p in parameters[1 if is_method else 0 :]
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]


def returned(path: str) -> str:
    """What a function or a property is annotated to return, without the modules of names."""
    found = find(path)
    annotation = inspect.signature(found.fget if isinstance(found, property) else found).return_annotation
    written = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"(?:\w+\.)+(\w+)|['\"~+]", r"\1", written)


def complaints(path: str, expected: list[Parameter], additions: list[Parameter]) -> list[str]:
    """How what is there differs from what is expected."""
    found, wrong = own_parameters(path), []
    mine = [p for p in found if p.name not in {a.name for a in additions}]
    if [p[:2] for p in mine] != [p[:2] for p in expected]:
        wrong.append(f"parameters are {[p[:2] for p in mine]}, expected {[p[:2] for p in expected]}")
    for is_, should in zip(mine, expected):
        has_default = is_.default is not inspect.Parameter.empty
        if (should.default is ... and not has_default) or (should.default is not ... and is_.default != should.default):
            wrong.append(f"the default of {is_.name} is {is_.default!r}, expected {should.default!r}")
    for addition in additions:
        (added,) = [p for p in found if p.name == addition.name] or [None]
        if added is None or added.default is inspect.Parameter.empty:
            wrong.append(f"the addition {addition.name} is missing or has no default")
        elif not added.by_keyword_only and path not in ADDITIONS_ALSO_BY_POSITION:
            wrong.append(f"the addition {addition.name} could be given by position")
    return wrong


@pytest.mark.parametrize("line", SURFACE, ids=[line.partition("(")[0].strip() for line in SURFACE])
def test_the_surface_is_there(line: str) -> None:
    parts = LINE.fullmatch(line)
    assert parts is not None, line
    path = parts["path"]
    if parts["parameters"]:
        expected = read_parameters(parts["parameters"][1:-1])
        additions = read_parameters(f"*, {parts['additions']}") if parts["additions"] else []
        assert complaints(path, expected, additions) == []
        assert parts["returns"] is None or returned(path) == parts["returns"]
    elif parts["holds"]:
        assert returned(path) == parts["holds"]
    elif parts["base"]:
        base = parts["base"]
        home = "builtins" if base in dir(builtins) else path.partition(":")[0]
        assert issubclass(find(path), find(base.replace(".", ":") if "." in base else f"{home}:{base}"))
    elif parts["value"]:
        found = find(path)
        assert getattr(found, "value", found) == eval(parts["value"], {"timedelta": timedelta})
    else:
        assert find(path) is not None


def test_the_check_bites() -> None:
    def example(a: int, b: int = 1, *, c: int = 2, extra: int = 3) -> None: ...

    import_module("durabletask").__dict__["example"] = example
    try:
        for expected, additions, wrong in [
            ("a, b=1, *, c=2", "*, extra=3", 0),
            ("a, b=1, *, c=2", "", 1),
            ("a, b=7, *, c=2", "*, extra=3", 1),
            ("a, b=..., c=2", "*, extra=3", 1),
            ("a, *, c=2", "*, b=1, extra=3", 1),
        ]:
            found = complaints(
                "durabletask:example", read_parameters(expected), read_parameters(additions) if additions else []
            )
            assert len(found) == wrong, (expected, found)
    finally:
        del import_module("durabletask").__dict__["example"]


def public_methods(cls: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in vars(cls).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    for_threads = public_methods(client.TaskHubGrpcClient)
    for_asyncio = public_methods(client.AsyncTaskHubGrpcClient)
    assert {name: list(s.parameters.values()) for name, s in for_threads.items()} == {
        name: list(s.parameters.values()) for name, s in for_asyncio.items()
    }
    assert all(inspect.iscoroutinefunction(getattr(client.AsyncTaskHubGrpcClient, name)) for name in for_asyncio)
    constructors = [inspect.signature(c) for c in (client.TaskHubGrpcClient, client.AsyncTaskHubGrpcClient)]
    assert [(p.name, p.kind, p.default) for p in constructors[0].parameters.values()] == [
        (p.name, p.kind, p.default) for p in constructors[1].parameters.values()
    ]
    assert not issubclass(client.AsyncTaskHubGrpcClient, client.TaskHubGrpcClient)


ABSTRACT = {
    task.OrchestrationContext: {
        *("instance_id", "parent_instance_id", "version", "current_utc_datetime", "is_replaying", "set_custom_status"),
        *("create_timer", "call_activity", "call_entity", "signal_entity", "lock_entities", "call_sub_orchestrator"),
        *("wait_for_external_event", "continue_as_new", "new_uuid", "_exit_critical_section"),
    },
    task.CompositeTask: {"on_child_completed"},
    DataConverter: {"serialize", "deserialize", "coerce"},
    PayloadStore: {"options", "upload", "upload_async", "download", "download_async", "is_known_token"},
}


@pytest.mark.parametrize("cls", ABSTRACT, ids=lambda cls: cls.__name__)
def test_what_a_subclass_must_provide_is_what_it_always_was(cls: Any) -> None:
    """Pinned 10: a context of somebody's own needs no ``send_event``, and nothing that is new."""
    assert cls.__abstractmethods__ == ABSTRACT[cls]


# The names of these classes are in stored failures and in what applications compare them with.
TRAVELLING = {
    **{task.__dict__[name]: "durabletask.task" for name in ("TaskFailedError", "NonDeterminismError")},
    **{task.__dict__[name]: "durabletask.task" for name in ("TaskCancelledError", "OrchestrationStateError")},
    worker.OrchestratorNotRegisteredError: "durabletask.worker",
    worker.ActivityNotRegisteredError: "durabletask.worker",
    worker.EntityNotRegisteredError: "durabletask.worker",
    client.OrchestrationFailedError: "durabletask.client",
    JsonEncodeOutputException: "durabletask.internal.json_encode_output_exception",
}


@pytest.mark.parametrize("cls", TRAVELLING, ids=lambda cls: cls.__name__)
def test_a_class_that_failures_name_says_it_is_where_it_always_was(cls: type) -> None:
    """Pinned 4"""
    assert (cls.__module__, getattr(import_module(TRAVELLING[cls]), cls.__qualname__)) == (TRAVELLING[cls], cls)


FROZEN = (
    task.FailureDetails,
    worker.OrchestrationWorkItemFilter,
    worker.ActivityWorkItemFilter,
    worker.EntityWorkItemFilter,
    worker.WorkItemFilters,
)
CHANGEABLE = (
    client.OrchestrationState,
    client.OrchestrationQuery,
    client.EntityQuery,
    client.PurgeInstancesResult,
    client.Page,
    client.CleanEntityStorageResult,
    LargePayloadStorageOptions,
)
SLOTTED = (
    grpc_options.GrpcRetryPolicyOptions,
    grpc_options.GrpcChannelOptions,
    grpc_options.GrpcWorkerResiliencyOptions,
    grpc_options.GrpcClientResiliencyOptions,
    *(getattr(durabletask.history, name) for name in durabletask.history.__all__ if name != "to_dict"),
)


@pytest.mark.parametrize("cls", [*FROZEN, *CHANGEABLE, *SLOTTED], ids=lambda cls: cls.__name__)
def test_values_are_dataclasses_of_the_kind_they_always_were(cls: Any) -> None:
    assert is_dataclass(cls)
    parameters = vars(cls)["__dataclass_params__"]
    assert parameters.eq
    assert parameters.frozen == (cls in FROZEN)
    assert ("__slots__" in vars(cls)) == (cls in SLOTTED)
    assert (cls.__hash__ is None) == (cls not in FROZEN)


def test_a_provider_of_exception_properties_is_any_class_with_the_method() -> None:
    assert getattr(exception_properties.ExceptionPropertiesProvider, "_is_protocol", False)


def test_the_lists_of_public_names_have_what_they_had() -> None:
    assert {"InMemoryOrchestrationBackend", "create_test_backend"} <= set(testing.__all__)
    assert {"ConcurrencyOptions", "TaskHubGrpcWorker"} <= set(worker.__all__)
    assert not hasattr(task, "__all__")
    helpers = {"HistoryEvent", "OrchestrationInstance", "ParentInstanceInfo", "TraceContext", "to_dict"}
    listed = {line.partition(":")[2].partition("(")[0] for line in SURFACE if line.startswith("durabletask.history:")}
    assert set(durabletask.history.__all__) == {name for name in listed if "." not in name} | helpers
