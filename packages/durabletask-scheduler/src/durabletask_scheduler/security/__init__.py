"""TLS, authentication, roles and the audit log of a scheduler's port.

:class:`Security` says how a port is protected; ``Scheduler.serve`` takes it. Nothing of this concerns in-process
channels: they are trusted.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durabletask_scheduler.security.errors import SecurityError
    from durabletask_scheduler.security.oidc import OidcOptions
    from durabletask_scheduler.security.settings import Security
    from durabletask_scheduler.security.tls import TlsFiles

__all__ = ["OidcOptions", "Security", "SecurityError", "TlsFiles"]

_HOMES = {"OidcOptions": "oidc", "Security": "settings", "SecurityError": "errors", "TlsFiles": "tls"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
