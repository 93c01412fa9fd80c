"""Where payloads too large for a message are kept."""

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass
class LargePayloadStorageOptions:
    """Which payloads leave the message, and how they are stored.

    Args:
        threshold_bytes: Payloads whose UTF-8 length is greater than this are stored outside the message.
        max_stored_payload_bytes: Payloads longer than this are refused with a ValueError.
        enable_compression: Whether the store compresses what it keeps.
    """

    threshold_bytes: int = 262144
    max_stored_payload_bytes: int = 10485760
    enable_compression: bool = True


class PayloadStore(ABC):
    """Keeps payloads outside the messages; a token takes the place of each.

    Payloads are JSON text, so nothing that a program passes as a value is taken for a token. But whoever may write to
    the task hub can send any text in the place of a payload, and makes the worker ask the store for it. A store
    therefore has to refuse, in ``is_known_token``, every text that it cannot have issued itself (another container,
    another folder), and to stop reading in ``download`` when a payload grows beyond ``max_stored_payload_bytes``.
    """

    @property
    @abstractmethod
    def options(self) -> LargePayloadStorageOptions:
        """Which payloads this store takes."""

    @abstractmethod
    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        """Keep ``data`` and return the token that stands for it.

        Args:
            data: The payload, UTF-8 encoded.
            instance_id: The orchestration instance or entity it belongs to, if known.
        """

    @abstractmethod
    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        """As ``upload``, for asyncio."""

    @abstractmethod
    def download(self, token: str) -> bytes:
        """Return what ``upload`` was given for ``token``.

        An error fails the activity whose payload it is; a turn is tried again.
        """

    @abstractmethod
    async def download_async(self, token: str) -> bytes:
        """As ``download``, for asyncio."""

    @abstractmethod
    def is_known_token(self, value: str) -> bool:
        """Whether ``value`` is a token that this store can have issued, rather than a payload or another's token."""
