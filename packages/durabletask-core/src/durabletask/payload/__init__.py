"""Large payloads: kept in a store of the user's choice, with a token in the message."""

from durabletask.payload.helpers import (
    deexternalize_payloads,
    deexternalize_payloads_async,
    externalize_payloads,
    externalize_payloads_async,
)
from durabletask.payload.store import LargePayloadStorageOptions, PayloadStore

__all__ = [
    "LargePayloadStorageOptions",
    "PayloadStore",
    "deexternalize_payloads",
    "deexternalize_payloads_async",
    "externalize_payloads",
    "externalize_payloads_async",
]
