"""A payload store for tests, which keeps what it is given in a dictionary."""

from __future__ import annotations

from durabletask.payload import LargePayloadStorageOptions, PayloadStore


class MemoryStore(PayloadStore):
    """Takes payloads above ``threshold`` bytes, and none above ``most``."""

    def __init__(self, threshold: int, most: int) -> None:
        self._options = LargePayloadStorageOptions(threshold_bytes=threshold, max_stored_payload_bytes=most)
        self.data: dict[str, bytes] = {}

    @property
    def options(self) -> LargePayloadStorageOptions:
        return self._options

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        token = f"memory:{len(self.data)}"
        self.data[token] = data
        return token

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        return self.upload(data, instance_id=instance_id)

    def download(self, token: str) -> bytes:
        return self.data[token]

    async def download_async(self, token: str) -> bytes:
        return self.download(token)

    def is_known_token(self, value: str) -> bool:
        return value.startswith("memory:")
