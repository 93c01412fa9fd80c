"""The HTTP API of the async-http-api sample: start an order, ask how it is, send it an event.

ENDPOINT and TASKHUB say where the scheduler is; by default ``http://localhost:8080`` and ``default``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from azure.identity.aio import DefaultAzureCredential
from durabletask.azuremanaged.client import AsyncDurableTaskSchedulerClient
from durabletask.client import OrchestrationState, OrchestrationStatus
from fastapi import Body, Depends, FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, Field

ENDED = {OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED, OrchestrationStatus.TERMINATED}
RETRY_SECONDS = "1"


class Order(BaseModel):
    item: str = Field(min_length=1)
    quantity: int = Field(ge=1)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for the life of the program, in its event loop."""
    endpoint = os.environ.get("ENDPOINT", "http://localhost:8080")
    taskhub = os.environ.get("TASKHUB", "default")
    # A local scheduler asks for no identity; a deployed one (https://...) does.
    local = endpoint.startswith("http://")
    credential = None if local else DefaultAzureCredential()
    async with AsyncDurableTaskSchedulerClient(
        host_address=endpoint,
        taskhub=taskhub,
        token_credential=credential,
        secure_channel=not local,
        logger=logging.getLogger("async-http-api"),  # says warnings and errors only
    ) as client:
        app.state.client = client
        yield
    if credential is not None:
        await credential.close()


app = FastAPI(title="Orders", lifespan=lifespan)


def get_client(request: Request) -> AsyncDurableTaskSchedulerClient:
    client: AsyncDurableTaskSchedulerClient = request.app.state.client
    return client


Client = Annotated[AsyncDurableTaskSchedulerClient, Depends(get_client)]


async def find(client: AsyncDurableTaskSchedulerClient, order_id: str) -> OrchestrationState:
    state = await client.get_orchestration_state(order_id)
    if state is None:
        raise HTTPException(404, "there is no such order")
    return state


@app.post("/orders", status_code=202)
async def start_order(order: Order, response: Response, client: Client) -> dict[str, str]:
    """Start an order. The answer does not wait for it, and says where to ask for it."""
    order_id = await client.schedule_new_orchestration("handle_order", input=order.model_dump())
    response.headers["Location"] = f"/orders/{order_id}"
    response.headers["Retry-After"] = RETRY_SECONDS
    return {"id": order_id}


@app.get("/orders/{order_id}")
async def get_order(order_id: str, response: Response, client: Client) -> dict[str, Any]:
    """200 once the order has ended, 202 while it has not."""
    state = await find(client, order_id)
    if state.runtime_status not in ENDED:
        response.status_code = 202
        response.headers["Retry-After"] = RETRY_SECONDS
    return {
        "id": order_id,
        "status": str(state.runtime_status),
        "detail": state.get_custom_status(),
        "result": state.get_output(),
        "error": state.failure_details.message if state.failure_details else None,
    }


@app.post("/orders/{order_id}/events/{name}", status_code=202)
async def send_event(order_id: str, name: str, data: Annotated[Any, Body()], client: Client) -> dict[str, str]:
    """Send an event, such as an approval, to an order that has not ended."""
    state = await find(client, order_id)
    if state.runtime_status in ENDED:
        raise HTTPException(409, "the order has ended")
    await client.raise_orchestration_event(order_id, name, data=data)
    return {"id": order_id}
