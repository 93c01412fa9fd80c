"""A unary gRPC call with nothing behind it: what a client's call costs over gRPC before a scheduler does anything.

As a program: a server on ``grpc.aio`` in a process of its own, as ``durabletask-scheduler serve`` is, that answers with
what it was sent and has no messages to parse.
"""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio

from drivers import meter
from drivers.children import end_with_the_driver, killed, line_of

SERVICE, METHOD = "bench", "echo"
REQUEST = b"r" * 100
WARM_UP = 200


def microseconds(count: int) -> dict[str, float]:
    """Time and CPU of both processes of one call, by a client that makes ``count`` calls one after the other."""
    with killed("drivers.echo") as server, grpc.insecure_channel(f"127.0.0.1:{line_of(server)}") as channel:
        call = channel.unary_unary(f"/{SERVICE}/{METHOD}")
        for _ in range(WARM_UP):
            call(REQUEST)
        with meter.Meter([server.pid]) as measured:
            for _ in range(count):
                call(REQUEST)
    return {"grpc_call_us": measured.wall / count * 1e6, "grpc_call_cpu_us": measured.cpu / count * 1e6}


async def _serve() -> None:
    async def echo(request: bytes, context: object) -> bytes:
        return request

    handler = grpc.unary_unary_rpc_method_handler(echo)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    end_with_the_driver()
    asyncio.run(_serve())
