"""What is ours stays apart from the protocol: another service, other messages, names that agree with the code."""

from __future__ import annotations

from durabletask_proto import additions
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from durabletask_proto import scheduler_additions_pb2_grpc as additions_pb_grpc

SERVICE = additions_pb.DESCRIPTOR.services_by_name["SchedulerAdditions"]


def test_the_service_has_the_name_that_clients_and_scheduler_use() -> None:
    assert SERVICE.full_name == additions.SERVICE


def test_no_call_and_no_message_has_a_name_of_the_protocol() -> None:
    protocol = pb.DESCRIPTOR.services_by_name["TaskHubSidecarService"]
    assert not {method.name for method in SERVICE.methods} & {method.name for method in protocol.methods}
    assert not set(additions_pb.DESCRIPTOR.message_types_by_name) & set(pb.DESCRIPTOR.message_types_by_name)


def test_the_stub_calls_the_paths_of_the_service() -> None:
    class Channel:
        def __init__(self) -> None:
            self.paths: list[str] = []

        def unary_unary(self, path: str, **_: object) -> object:
            self.paths.append(path)
            return object()

        unary_stream = stream_stream = unary_unary

    channel = Channel()
    additions_pb_grpc.SchedulerAdditionsStub(channel)  # type: ignore[call-overload]
    assert set(channel.paths) == {f"/{additions.SERVICE}/{method.name}" for method in SERVICE.methods}


def test_starts_carry_the_protocol_s_own_requests() -> None:
    start = pb.CreateInstanceRequest(instanceId="a", name="order")
    request = additions_pb.StartInstancesRequest(requests=[start])
    assert additions_pb.StartInstancesRequest.FromString(request.SerializeToString()).requests[0] == start
