"""Moves large payloads out of protobuf messages and back into them, in place.

A payload is any ``google.protobuf.StringValue`` in the message: singular, repeated, value of a map
or nested in another message.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue

from durabletask.payload.store import PayloadStore

_logger = logging.getLogger("durabletask-payloads")
_MAX_UTF8_BYTES_PER_CHARACTER = 4


def externalize_payloads(msg: Message, store: PayloadStore, *, instance_id: str | None = None) -> None:
    """Upload every payload above the store's threshold and put its token in its place.

    Raises:
        ValueError: A payload is longer than the store's maximum.
    """
    for holder, data in _oversized(msg, store):
        holder.value = store.upload(data, instance_id=instance_id)
        _log_upload(data, holder.value)


async def externalize_payloads_async(msg: Message, store: PayloadStore, *, instance_id: str | None = None) -> None:
    """As ``externalize_payloads``, for asyncio.

    Raises:
        ValueError: A payload is longer than the store's maximum.
    """
    for holder, data in _oversized(msg, store):
        holder.value = await store.upload_async(data, instance_id=instance_id)
        _log_upload(data, holder.value)


def deexternalize_payloads(msg: Message, store: PayloadStore) -> None:
    """Replace every token of the store by the payload it stands for."""
    for holder in _tokens(msg, store):
        holder.value = store.download(holder.value).decode("utf-8")


async def deexternalize_payloads_async(msg: Message, store: PayloadStore) -> None:
    """As ``deexternalize_payloads``, for asyncio."""
    for holder in _tokens(msg, store):
        holder.value = (await store.download_async(holder.value)).decode("utf-8")


def _oversized(msg: Message, store: PayloadStore) -> Iterator[tuple[StringValue, bytes]]:
    options = store.options
    for holder in _string_values(msg):
        if len(holder.value) * _MAX_UTF8_BYTES_PER_CHARACTER <= options.threshold_bytes:
            continue
        data = holder.value.encode("utf-8")
        if len(data) <= options.threshold_bytes or store.is_known_token(holder.value):
            continue
        if len(data) > options.max_stored_payload_bytes:
            raise ValueError(
                f"the payload has {len(data)} bytes, the payload store accepts at most "
                f"{options.max_stored_payload_bytes}: send less, or raise max_stored_payload_bytes"
            )
        yield holder, data


def _tokens(msg: Message, store: PayloadStore) -> Iterator[StringValue]:
    return (holder for holder in _string_values(msg) if store.is_known_token(holder.value))


def _string_values(msg: Message) -> Iterator[StringValue]:
    if isinstance(msg, StringValue):
        yield msg
        return
    for field, value in msg.ListFields():
        for child in _child_messages(field, value):
            yield from _string_values(child)


def _child_messages(field: FieldDescriptor, value: Any) -> Iterable[Message]:
    if field.message_type is None:
        return ()
    if isinstance(value, Message):
        return (value,)
    if not field.message_type.GetOptions().map_entry:
        return tuple(value)
    holds_messages = field.message_type.fields_by_name["value"].message_type is not None
    return tuple(value.values()) if holds_messages else ()


def _log_upload(data: bytes, token: str) -> None:
    _logger.debug("stored a payload of %d bytes as %s", len(data), token)
