"""The client of the async-http-api sample: places an order over HTTP, approves it and waits for its end.

It knows nothing of orchestrations, only the API; API_URL says where that is, by default ``http://localhost:8000``.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from typing import Any, NamedTuple

API_URL = os.environ.get("API_URL", "http://localhost:8000")
TIMEOUT = 60  # seconds


class Answer(NamedTuple):
    code: int
    location: str
    body: dict[str, Any]


def call(method: str, path: str, body: object = None) -> Answer:
    """One HTTP request with a JSON body, if any; answers of every code are returned."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(API_URL + path, data, {"Content-Type": "application/json"}, method=method)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        return Answer(response.status, response.headers.get("Location", ""), json.load(response))


def wait_until(location: str, **expected: object) -> Answer:
    """Ask for the status until it has the expected values, as the Retry-After header invites to."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        answer = call("GET", location)
        if all(answer.body.get(name) == value for name, value in expected.items()):
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"the order is not {expected} but {answer}; is the worker running?")
        time.sleep(0.1)


def main() -> int:
    started = call("POST", "/orders", {"item": "globe", "quantity": 2})
    print(f"POST /orders: {started.code}, Location: {started.location}")
    waiting = wait_until(started.location, detail="waiting for approval")
    print(f"GET Location: {waiting.code}, {waiting.body['status']}, {waiting.body['detail']}")
    approved = call("POST", f"{started.location}/events/approval", "Grace")
    print(f"POST Location/events/approval: {approved.code}")
    done = wait_until(started.location, status="COMPLETED")
    print(f"GET Location: {done.code}, {done.body['status']}, {done.body['result']}")
    late = call("POST", f"{started.location}/events/approval", "Grace")
    print(f"POST Location/events/approval: {late.code}, {late.body['detail']}")
    unknown = call("GET", "/orders/nonsense")
    print(f"GET /orders/nonsense: {unknown.code}, {unknown.body['detail']}")
    return 0 if done.code == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
