"""Connection strings: ``Endpoint=...;TaskHub=...;Authentication=...``, and the credentials they name.

Keys are case-insensitive. What a string holds is never repeated in an error: a string that is malformed may well be
another, secret one, pasted by mistake.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from durabletask.azuremanaged.internal.own_credential import OwnAsyncCredential, OwnCredential

CONNECTION_STRING_VARIABLE = "DURABLE_TASK_SCHEDULER_CONNECTION_STRING"

_REQUIRED = ("Endpoint", "TaskHub", "Authentication")
_OPTIONAL = ("ClientID", "TenantId", "TokenFilePath", "AdditionallyAllowedTenants")
_KEYS = {key.lower(): key for key in (*_REQUIRED, *_OPTIONAL)}
_SCHEMES = ("https://", "http://", "grpcs://", "grpc://")
_SYNTAX = "Endpoint=https://...;TaskHub=...;Authentication=..."


@dataclass(frozen=True)
class _Kind:
    """A credential class of azure-identity, and which of its keywords the keys of a connection string set."""

    credential: str | None
    keywords: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_TENANT: Mapping[str, tuple[str, ...]] = {
    "TenantId": ("tenant_id",),
    "AdditionallyAllowedTenants": ("additionally_allowed_tenants",),
}
_KINDS = {
    "None": _Kind(None),
    "DefaultAzure": _Kind(
        "DefaultAzureCredential",
        {
            "ClientID": ("managed_identity_client_id", "workload_identity_client_id"),
            "TenantId": ("workload_identity_tenant_id",),
            "AdditionallyAllowedTenants": ("additionally_allowed_tenants",),
        },
    ),
    "ManagedIdentity": _Kind("ManagedIdentityCredential", {"ClientID": ("client_id",)}),
    "WorkloadIdentity": _Kind(
        "WorkloadIdentityCredential", {**_TENANT, "ClientID": ("client_id",), "TokenFilePath": ("token_file_path",)}
    ),
    "Environment": _Kind("EnvironmentCredential", {"AdditionallyAllowedTenants": ("additionally_allowed_tenants",)}),
    "AzureCLI": _Kind("AzureCliCredential", _TENANT),
    "AzurePowerShell": _Kind("AzurePowerShellCredential", _TENANT),
    "VisualStudio": _Kind("VisualStudioCredential", _TENANT),
    "VisualStudioCode": _Kind("VisualStudioCodeCredential", _TENANT),
    "InteractiveBrowser": _Kind("InteractiveBrowserCredential", {**_TENANT, "ClientID": ("client_id",)}),
}
_KIND_NAMES = {name.lower(): name for name in _KINDS}


@dataclass(frozen=True)
class ConnectionString:
    """What a connection string says.

    Args:
        endpoint: the address, always with a scheme; ``https://`` if the string names none.
        taskhub: the task hub's name.
        authentication: the kind of authentication, as documented, e.g. ``ManagedIdentity``.
        options: the other keys and their values; values that are lists are still separated by commas.
    """

    endpoint: str
    taskhub: str
    authentication: str
    options: dict[str, str]

    def arguments(self, *, asynchronous: bool) -> dict[str, Any]:
        """Give the keyword arguments of a client's or worker's constructor that the string sets.

        The credential is marked as the client's own, to be closed with it. Arguments and errors as of
        :meth:`credential`.
        """
        credential = self.credential(asynchronous=asynchronous)
        own = OwnAsyncCredential if asynchronous else OwnCredential
        return {
            "host_address": self.endpoint,
            "taskhub": self.taskhub,
            "token_credential": None if credential is None else own(credential),
        }

    def credential(self, *, asynchronous: bool) -> Any:
        """Build the credential of azure-identity that the string names, or None for ``Authentication=None``.

        Args:
            asynchronous: whether to take it from ``azure.identity.aio``.

        Raises:
            ValueError: azure-identity has no such credential for Python, or it refuses the keys.
            ImportError: the credential needs a package that is not installed, such as aiohttp.
        """
        kind = _KINDS[self.authentication]
        if kind.credential is None:
            return None
        module = "azure.identity.aio" if asynchronous else "azure.identity"
        make = getattr(import_module(module), kind.credential, None)
        if make is None:
            raise ValueError(
                f"Authentication={self.authentication} cannot be used here: {module} has no {kind.credential}. "
                "Use another kind, or pass token_credential to the constructor."
            )
        keywords: dict[str, Any] = {}
        for key, text in self.options.items():
            is_list = key == "AdditionallyAllowedTenants"
            value = [part.strip() for part in text.split(",") if part.strip()] if is_list else text
            keywords.update(dict.fromkeys(kind.keywords[key], value))
        try:
            return make(**keywords)
        except ImportError as error:
            raise ImportError(
                f"Authentication={self.authentication} needs a package that is not installed ({error}): asynchronous "
                "credentials of azure-identity send their requests with aiohttp (pip install aiohttp)."
            ) from error


def read_connection_string(text: str | None) -> ConnectionString:
    """Read a connection string.

    Args:
        text: the string; None for that of the environment variable DURABLE_TASK_SCHEDULER_CONNECTION_STRING.

    Raises:
        ValueError: there is none, it is malformed, a key is missing, empty, unknown or there twice, the kind of
            authentication is unknown, or a key does not apply to it. The message names the key, never a value.
    """
    source = "the connection string"
    if text is None:
        text, source = os.environ.get(CONNECTION_STRING_VARIABLE), CONNECTION_STRING_VARIABLE
        if not text:
            raise ValueError(
                f"There is no connection string: pass one, or set the environment variable {source} to {_SYNTAX}"
            )
    values = _read_pairs(text, source)
    for key in _REQUIRED:
        if key not in values:
            raise ValueError(f"{key} is missing in {source}: add it, as in {_SYNTAX}")
    kind = _KIND_NAMES.get(values["Authentication"].lower())
    if kind is None:
        known = ", ".join(_KINDS)
        raise ValueError(f"Authentication in {source} is of an unknown kind: expected one of {known}.")
    options = {key: value for key, value in values.items() if key in _OPTIONAL}
    for key in options:
        if key not in _KINDS[kind].keywords:
            takes = ", ".join(_KINDS[kind].keywords) or "no further keys"
            raise ValueError(
                f"{key} in {source} does not apply to Authentication={kind}, which takes {takes}: leave it out."
            )
    return ConnectionString(_endpoint(values["Endpoint"], source), values["TaskHub"], kind, options)


def _read_pairs(text: str, source: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for number, part in enumerate(text.split(";"), 1):
        if not part.strip():
            continue
        name, equals, value = part.partition("=")
        key = _KEYS.get(name.strip().lower())
        if not equals:
            raise ValueError(f"Part {number} of {source} has no '=': expected {_SYNTAX}")
        if key is None:
            raise ValueError(
                f"Part {number} of {source} has an unknown key: expected one of {', '.join(_KEYS.values())}."
            )
        if not value.strip():
            raise ValueError(f"{key} in {source} is empty: give it a value.")
        if key in values:
            raise ValueError(f"{key} is in {source} twice: leave one out.")
        values[key] = value.strip()
    return values


def _endpoint(value: str, source: str) -> str:
    if "://" not in value:
        value = f"https://{value}"
    elif not value.lower().startswith(_SCHEMES):
        raise ValueError(f"Endpoint in {source} has an unknown scheme: expected https:// or http://.")
    scheme, _, rest = value.partition("://")
    host = rest.rstrip("/")
    if not host or "/" in host or "@" in host:
        raise ValueError(f"Endpoint in {source} must be a host, with or without a port: expected https://host:port.")
    return f"{scheme}://{host}"
