"""The wire contract of Durable Task: protocol buffer messages and gRPC stubs, generated."""
