"""The generated stubs against the wire contract as data (``wire_contract.txt``), which is written independently."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import orchestrator_service_pb2_grpc as pb_grpc
from google.protobuf.descriptor import FieldDescriptor


@dataclass(frozen=True)
class Field:
    number: int
    name: str
    type: str
    oneof: str | None

    @property
    def element(self) -> str:
        return self.type.removesuffix("[]")

    @property
    def repeated(self) -> bool:
        return self.type.endswith("[]")


@dataclass
class Contract:
    messages: dict[str, list[Field]] = field(default_factory=dict)
    enums: dict[str, dict[int, str]] = field(default_factory=dict)
    rpcs: dict[str, tuple[str, str, bool]] = field(default_factory=dict)


def read_contract() -> Contract:
    contract = Contract()
    kind = name = ""
    for line in (pathlib.Path(__file__).parent / "wire_contract.txt").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words or words[0] == "#":
            continue
        if words[0] == "rpc":
            contract.rpcs[words[1]] = (words[2], words[3], words[4:] == ["stream"])
        elif not line.startswith(" "):
            kind, name = words
            if kind == "message":
                contract.messages[name] = []
        elif kind == "enum":
            contract.enums.setdefault(name, {})[int(words[0])] = words[1]
        else:
            oneof = words[4] if words[3:4] == ["oneof"] else None
            contract.messages[name].append(Field(int(words[0]), words[1], words[2], oneof))
    return contract


CONTRACT = read_contract()
FILE = pb.DESCRIPTOR
SCALARS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT32: "int32",
}


def described(descriptor: FieldDescriptor) -> Field:
    """One field of our stubs in the contract's words."""
    oneof = descriptor.containing_oneof.name if descriptor.containing_oneof else None
    return Field(descriptor.number, descriptor.name, type_of(descriptor), oneof)


def type_of(descriptor: FieldDescriptor) -> str:
    message = descriptor.message_type
    if message is not None and message.GetOptions().map_entry:
        key, value = (type_of(message.fields_by_name[part]) for part in ("key", "value"))
        return f"map<{key},{value}>"
    named = message or descriptor.enum_type
    return (named.name if named else SCALARS[descriptor.type]) + ("[]" if descriptor.is_repeated else "")


def test_the_stubs_hold_the_messages_of_the_contract_and_no_others() -> None:
    assert len(CONTRACT.messages) == 118
    assert sorted(FILE.message_types_by_name) == sorted(CONTRACT.messages)


@pytest.mark.parametrize("name", sorted(CONTRACT.messages))
def test_a_message_has_the_field_numbers_types_and_oneofs_of_the_contract(name: str) -> None:
    ours = sorted(map(described, FILE.message_types_by_name[name].fields), key=lambda item: item.number)
    assert ours == CONTRACT.messages[name]


@pytest.mark.parametrize("name", sorted(CONTRACT.enums))
def test_an_enum_has_the_values_of_the_contract(name: str) -> None:
    assert {value.number: value.name for value in FILE.enum_types_by_name[name].values} == CONTRACT.enums[name]


# --- bytes, encoded by hand ---------------------------------------------------------------------------------

VARINT, LENGTH_DELIMITED = 0, 2
TEXT = b"t\xc3\xa4sk"


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def tagged(number: int, wire_type: int, payload: bytes) -> bytes:
    size = varint(len(payload)) if wire_type == LENGTH_DELIMITED else b""
    return varint(number << 3 | wire_type) + size + payload


def text(number: int, value: bytes = TEXT) -> bytes:
    return tagged(number, LENGTH_DELIMITED, value)


# How one value of a type is written: (wire type, payload). A message that is not listed is written empty.
SAMPLES: dict[str, tuple[int, bytes]] = {
    "string": (LENGTH_DELIMITED, TEXT),
    "bool": (VARINT, varint(1)),
    "int32": (VARINT, varint(-1)),
    "OrchestrationStatus": (VARINT, varint(7)),
    "WorkerCapability": (VARINT, varint(3)),
    "StringValue": (LENGTH_DELIMITED, text(1)),
    "Int32Value": (LENGTH_DELIMITED, tagged(1, VARINT, varint(-1))),
    "BoolValue": (LENGTH_DELIMITED, tagged(1, VARINT, varint(1))),
    "Timestamp": (LENGTH_DELIMITED, tagged(1, VARINT, varint(1_700_000_000)) + tagged(2, VARINT, varint(999_999_999))),
    "Duration": (LENGTH_DELIMITED, tagged(1, VARINT, varint(90))),
    "Value": (LENGTH_DELIMITED, text(3)),
    "map<string,string>": (LENGTH_DELIMITED, text(1) + text(2)),
    "map<string,Value>": (LENGTH_DELIMITED, text(1) + tagged(2, LENGTH_DELIMITED, text(3))),
}


def encode(item: Field) -> bytes:
    wire_type, payload = SAMPLES.get(item.element, (LENGTH_DELIMITED, b""))
    if item.repeated and item.element in CONTRACT.enums:
        return tagged(item.number, LENGTH_DELIMITED, payload + varint(1))
    once = tagged(item.number, wire_type, payload)
    return once * 2 if item.repeated else once


FIELDS = [(name, item) for name, items in CONTRACT.messages.items() for item in items]


@pytest.mark.parametrize(("message", "item"), FIELDS, ids=[f"{name}.{item.name}" for name, item in FIELDS])
def test_hand_encoded_bytes_of_every_field_survive_parsing_and_writing(message: str, item: Field) -> None:
    data = encode(item)
    parsed = getattr(pb, message).FromString(data)
    assert [descriptor.name for descriptor, _ in parsed.ListFields()] == [item.name]
    assert parsed.SerializeToString(deterministic=True) == data


CASES: list[tuple[str, Callable[[], Any], bytes]] = [
    ("a history event that no action caused carries -1 in ten bytes",
     lambda: pb.HistoryEvent(eventId=-1), b"\x08" + b"\xff" * 9 + b"\x01"),
    ("repeated enums are packed",
     lambda: pb.GetWorkItemsRequest(capabilities=[1, 3]), b"\x52\x02\x01\x03"),
    ("an unknown capability number is kept: the enum is open",
     lambda: pb.GetWorkItemsRequest(capabilities=[1001]), b"\x52\x02\xe9\x07"),
    ("a running status is absent",
     lambda: pb.OrchestrationState(orchestrationStatus=pb.ORCHESTRATION_STATUS_RUNNING), b""),
    ("a completion token stands outside the oneof, at number 10",
     lambda: pb.WorkItem(completionToken="t", healthPing=pb.HealthPing()), b"\x22\x00\x52\x01t"),
]  # fmt: skip


@pytest.mark.parametrize(("message", "data"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_bytes_that_servers_rely_on(message: Callable[[], Any], data: bytes) -> None:
    assert message().SerializeToString(deterministic=True) == data


def test_unpacked_enums_of_older_senders_are_understood() -> None:
    parsed = pb.InstanceQuery.FromString(b"\x08\x00\x08\x07")
    assert list(parsed.runtimeStatus) == [pb.ORCHESTRATION_STATUS_RUNNING, pb.ORCHESTRATION_STATUS_SUSPENDED]


def test_an_empty_string_value_is_not_a_missing_one() -> None:
    parsed = pb.CreateInstanceRequest.FromString(b"\x1a\x00")
    assert parsed.HasField("version")
    assert not pb.CreateInstanceRequest.FromString(b"").HasField("version")


def test_a_field_of_a_newer_sender_is_carried_through() -> None:
    data = b"\x0a\x01i" + text(99)
    assert pb.GetInstanceRequest.FromString(data).SerializeToString() == data


# --- the service ----------------------------------------------------------------------------------------------


class RecordingChannel:
    """Stands in for a channel and records the paths and kinds of the methods that a stub asks for."""

    def __init__(self) -> None:
        self.methods: dict[str, str] = {}

    def unary_unary(self, path: str, **_: Any) -> None:
        self.methods[path] = "unary_unary"

    def unary_stream(self, path: str, **_: Any) -> None:
        self.methods[path] = "unary_stream"


def test_the_stub_calls_the_unpackaged_service_of_the_protocol() -> None:
    channel = RecordingChannel()
    pb_grpc.TaskHubSidecarServiceStub(channel)  # type: ignore[arg-type]
    assert channel.methods == {
        f"/TaskHubSidecarService/{name}": "unary_stream" if stream else "unary_unary"
        for name, (_, _, stream) in CONTRACT.rpcs.items()
    }


@pytest.mark.parametrize("name", sorted(CONTRACT.rpcs))
def test_an_rpc_takes_and_returns_the_messages_of_the_contract(name: str) -> None:
    method = FILE.services_by_name["TaskHubSidecarService"].methods_by_name[name]
    assert (method.input_type.name, method.output_type.name, method.server_streaming) == CONTRACT.rpcs[name]
    assert not method.client_streaming


def test_the_stubs_load_beside_an_unpackaged_copy_of_the_same_messages() -> None:
    """Another SDK's stubs register the bare names in the same descriptor pool; ours are packaged."""
    assert {message.full_name.split(".")[0] for message in FILE.message_types_by_name.values()} == {"durabletask_proto"}
    program = """
        from google.protobuf import descriptor_pb2, descriptor_pool
        from durabletask_proto import orchestrator_service_pb2 as pb
        other = descriptor_pb2.FileDescriptorProto(name="another_sdk/orchestrator_service.proto", syntax="proto3")
        for name in pb.DESCRIPTOR.message_types_by_name:
            other.message_type.add(name=name)
        other.service.add(name="TaskHubSidecarService")
        pool = descriptor_pool.Default()
        pool.AddSerializedFile(other.SerializeToString())
        print(pool.FindMessageTypeByName("HistoryEvent").file.name)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout.strip()) == (0, "another_sdk/orchestrator_service.proto"), result.stderr
