"""A payload store of files in a folder that the worker and the client share."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import re
import uuid
from pathlib import Path

from durabletask.payload import LargePayloadStorageOptions, PayloadStore

TOKEN = re.compile(r"file-payload:([0-9a-f]{64})")


class FilePayloadStore(PayloadStore):
    """Keeps each payload in a compressed file that is named by the SHA-256 hash of its content.

    Args:
        folder: where the files are; it is created if need be.
        options: which payloads are kept here.
    """

    def __init__(self, folder: Path, options: LargePayloadStorageOptions | None = None) -> None:
        self._folder = folder
        self._options = options or LargePayloadStorageOptions()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def options(self) -> LargePayloadStorageOptions:
        return self._options

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        name = hashlib.sha256(data).hexdigest()
        target = self._path(name)
        if not target.exists():
            # Written beside its place and then moved there: nobody ever reads half a file.
            draft = target.with_suffix(f".{uuid.uuid4().hex}")
            draft.write_bytes(gzip.compress(data, compresslevel=1 if self._options.enable_compression else 0))
            os.replace(draft, target)
        return f"file-payload:{name}"

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        return await asyncio.to_thread(self.upload, data, instance_id=instance_id)

    def download(self, token: str) -> bytes:
        found = TOKEN.fullmatch(token)
        if found is None:
            raise ValueError(f"expected a token like file-payload:<SHA-256>, found {token[:80]!r}")
        most = self._options.max_stored_payload_bytes
        # A small file may unpack to a great deal.
        with gzip.open(self._path(found[1])) as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise ValueError(f"expected a payload of at most {most} bytes, found more in {token}")
        return data

    async def download_async(self, token: str) -> bytes:
        return await asyncio.to_thread(self.download, token)

    def is_known_token(self, value: str) -> bool:
        return TOKEN.fullmatch(value) is not None

    def count(self) -> int:
        """How many payloads are kept."""
        return sum(1 for _ in self._folder.glob("*.gz"))

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.gz"
