"""The messages of the protocol, under the name by which existing code imports them."""

from durabletask_proto.orchestrator_service_pb2 import *  # noqa: F403
