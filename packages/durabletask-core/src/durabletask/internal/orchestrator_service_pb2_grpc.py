"""The gRPC stubs of the protocol, under the name by which existing code imports them."""

from durabletask_proto.orchestrator_service_pb2_grpc import *  # noqa: F403
