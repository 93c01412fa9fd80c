"""Connection strings: what they may say, which credential they name, and what their errors never repeat."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import azure.identity
import azure.identity.aio
import pytest
from durabletask.azuremanaged.client import AsyncDurableTaskSchedulerClient, DurableTaskSchedulerClient
from durabletask.azuremanaged.internal.connection_string import read_connection_string
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker

VARIABLE = "DURABLE_TASK_SCHEDULER_CONNECTION_STRING"
EMULATOR = "Endpoint=http://localhost:8080;Authentication=None;TaskHub=default"
SECRET = "AbCdEf123456="
ID = "11111111-2222-3333-4444-555555555555"
MAKERS: list[Any] = [
    DurableTaskSchedulerClient,
    AsyncDurableTaskSchedulerClient,
    DurableTaskSchedulerWorker,
]

GOOD = [
    (EMULATOR, ("http://localhost:8080", "default", "None", {})),
    (" endpoint = h.example ; TASKHUB=a ; authentication=none ;; ", ("https://h.example", "a", "None", {})),
    ("Endpoint=HTTPS://h:1/;TaskHub=a=b;Authentication=azurecli", ("HTTPS://h:1", "a=b", "AzureCLI", {})),
    (
        f"Endpoint=grpcs://h;TaskHub=a;Authentication=ManagedIdentity;clientid={ID}",
        ("grpcs://h", "a", "ManagedIdentity", {"ClientID": ID}),
    ),
]


@pytest.mark.parametrize(("text", "expected"), GOOD)
def test_a_connection_string_is_read(text: str, expected: tuple[Any, ...]) -> None:
    found = read_connection_string(text)
    assert (found.endpoint, found.taskhub, found.authentication, found.options) == expected


SYNTAX = "Endpoint=https://...;TaskHub=...;Authentication=..."
HOST_WANTED = "Endpoint in the connection string must be a host, with or without a port: expected https://host:port."
BAD = [
    ("", f"Endpoint is missing in the connection string: add it, as in {SYNTAX}"),
    ("TaskHub=a;Authentication=None", f"Endpoint is missing in the connection string: add it, as in {SYNTAX}"),
    ("Endpoint=h;Authentication=None", f"TaskHub is missing in the connection string: add it, as in {SYNTAX}"),
    ("Endpoint=h;TaskHub=a", f"Authentication is missing in the connection string: add it, as in {SYNTAX}"),
    ("Endpoint=h;TaskHub=;Authentication=None", "TaskHub in the connection string is empty: give it a value."),
    ("Endpoint=;TaskHub=a;Authentication=None", "Endpoint in the connection string is empty: give it a value."),
    (
        f"Endpoint=h;{SECRET[:-1]};TaskHub=a;Authentication=None",
        f"Part 2 of the connection string has no '=': expected {SYNTAX}",
    ),
    (
        f"Endpoint=h;TaskHub=a;Authentication=None;AccountKey={SECRET}",
        "Part 4 of the connection string has an unknown key: expected one of Endpoint, TaskHub, Authentication, "
        "ClientID, TenantId, TokenFilePath, AdditionallyAllowedTenants.",
    ),
    (
        "Endpoint=h;endpoint=g;TaskHub=a;Authentication=None",
        "Endpoint is in the connection string twice: leave one out.",
    ),
    (
        f"Endpoint=ftp://{SECRET};TaskHub=a;Authentication=None",
        "Endpoint in the connection string has an unknown scheme: expected https:// or http://.",
    ),
    (f"Endpoint=https://{SECRET}@h;TaskHub=a;Authentication=None", HOST_WANTED),
    (f"Endpoint=https://h/{SECRET};TaskHub=a;Authentication=None", HOST_WANTED),
    ("Endpoint=https://;TaskHub=a;Authentication=None", HOST_WANTED),
    (
        f"Endpoint=h;TaskHub=a;Authentication={SECRET}",
        "Authentication in the connection string is of an unknown kind: expected one of None, DefaultAzure, "
        "ManagedIdentity, WorkloadIdentity, Environment, AzureCLI, AzurePowerShell, VisualStudio, VisualStudioCode, "
        "InteractiveBrowser.",
    ),
    (
        f"Endpoint=h;TaskHub=a;Authentication=None;ClientID={SECRET}",
        "ClientID in the connection string does not apply to Authentication=None, which takes no further keys: leave "
        "it out.",
    ),
    (
        f"Endpoint=h;TaskHub=a;Authentication=ManagedIdentity;TenantId={SECRET}",
        "TenantId in the connection string does not apply to Authentication=ManagedIdentity, which takes ClientID: "
        "leave it out.",
    ),
    (
        "Endpoint=h;TaskHub=a;Authentication=VisualStudio",
        "Authentication=VisualStudio cannot be used here: MODULE has no VisualStudioCredential. Use another kind, or "
        "pass token_credential to the constructor.",
    ),
    (
        "Endpoint=http://h;TaskHub=a;Authentication=AzureCLI",
        "A token_credential was given, but the address 'http://h' asks for a plaintext channel, whatever "
        "secure_channel says: its access tokens would travel to another machine in clear text. Use an https:// "
        "address (or one without a scheme and secure_channel=True), or token_credential=None; on a "
        "network that encrypts by itself, allow_insecure_token=True.",
    ),
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_bad_connection_string_is_refused_by_the_name_of_its_key_and_never_repeated(
    make: Any, text: str, message: str
) -> None:
    with pytest.raises(ValueError) as refusal:
        make.from_connection_string(text)
    module = "azure.identity.aio" if make is AsyncDurableTaskSchedulerClient else "azure.identity"
    assert str(refusal.value) == message.replace("MODULE", module)
    assert SECRET[:-1] not in str(refusal.value)
    assert refusal.value.__context__ is None


@pytest.mark.parametrize("make", MAKERS)
def test_the_environment_names_the_connection_string_when_none_is_passed(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ValueError, match=f"set the environment variable {VARIABLE} to Endpoint="):
        make.from_connection_string()
    monkeypatch.setenv(VARIABLE, "Endpoint=h;Authentication=None")
    with pytest.raises(ValueError, match=f"TaskHub is missing in {VARIABLE}"):
        make.from_connection_string()
    monkeypatch.setenv(VARIABLE, EMULATOR)
    assert isinstance(make.from_connection_string(), make)


@pytest.mark.parametrize("make", MAKERS)
def test_options_of_the_constructor_are_passed_on(make: Any) -> None:
    with pytest.raises(ValueError, match="resource_id must name a resource"):
        make.from_connection_string(EMULATOR, resource_id="/")
    with pytest.raises(TypeError, match="taskhub"):
        make.from_connection_string(EMULATOR, taskhub="another")


TENANTS = {"tenant_id": ID, "additionally_allowed_tenants": ["a", "b"]}
KINDS = [
    (
        f"DefaultAzure;ClientID={ID};TenantId=t",
        "DefaultAzureCredential",
        {"managed_identity_client_id": ID, "workload_identity_client_id": ID, "workload_identity_tenant_id": "t"},
    ),
    ("ManagedIdentity", "ManagedIdentityCredential", {}),
    (f"ManagedIdentity;ClientID={ID}", "ManagedIdentityCredential", {"client_id": ID}),
    (
        f"WorkloadIdentity;ClientID={ID};TenantId={ID};TokenFilePath=/run/token;AdditionallyAllowedTenants=a, b",
        "WorkloadIdentityCredential",
        {**TENANTS, "client_id": ID, "token_file_path": "/run/token"},
    ),
    ("Environment", "EnvironmentCredential", {}),
    (f"AzureCLI;TenantId={ID};AdditionallyAllowedTenants=a,b", "AzureCliCredential", TENANTS),
    (f"AzurePowerShell;TenantId={ID};AdditionallyAllowedTenants=a,b", "AzurePowerShellCredential", TENANTS),
    (f"VisualStudioCode;TenantId={ID}", "VisualStudioCodeCredential", {"tenant_id": ID}),
    (f"InteractiveBrowser;ClientID={ID}", "InteractiveBrowserCredential", {"client_id": ID}),
]


class Recorded:
    """Stands for a credential class of azure-identity."""

    def __init__(self, **keywords: Any) -> None:
        self.keywords = keywords
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class AsyncRecorded(Recorded):
    async def close(self) -> None:  # type: ignore[override]
        self.closed += 1


@pytest.mark.parametrize(("kind", "credential", "keywords"), KINDS)
def test_a_kind_of_authentication_names_a_credential_of_azure_identity(
    kind: str, credential: str, keywords: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hasattr(azure.identity, credential)
    monkeypatch.setattr(azure.identity, credential, Recorded)
    found = read_connection_string(f"Endpoint=h;TaskHub=a;Authentication={kind}").credential(asynchronous=False)
    assert isinstance(found, Recorded)
    assert found.keywords == keywords


@pytest.mark.parametrize("kind", [kind for kind, *_ in KINDS if not kind.startswith(("Interactive", "Workload"))])
def test_the_keywords_are_those_that_azure_identity_takes(kind: str) -> None:
    parts = read_connection_string(f"Endpoint=h;TaskHub=a;Authentication={kind}")
    assert type(parts.credential(asynchronous=False)).__module__.startswith("azure.identity")


def test_a_package_that_an_asynchronous_credential_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(**_: Any) -> None:
        raise ImportError("aiohttp package is not installed")

    monkeypatch.setattr(azure.identity.aio, "ManagedIdentityCredential", unavailable)
    with pytest.raises(ImportError, match=r"Authentication=ManagedIdentity needs .*pip install aiohttp"):
        AsyncDurableTaskSchedulerClient.from_connection_string("Endpoint=h;TaskHub=a;Authentication=ManagedIdentity")


def test_a_browser_cannot_be_waited_for_on_an_event_loop() -> None:
    with pytest.raises(ValueError, match=r"azure\.identity\.aio has no InteractiveBrowserCredential"):
        AsyncDurableTaskSchedulerClient.from_connection_string("Endpoint=h;TaskHub=a;Authentication=InteractiveBrowser")


async def test_closing_a_client_closes_the_credential_that_its_connection_string_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Recorded] = []

    def recorder(kind: type[Recorded]) -> Any:
        def make(**keywords: Any) -> Recorded:
            made.append(kind(**keywords))
            return made[-1]

        return make

    monkeypatch.setattr(azure.identity, "EnvironmentCredential", recorder(Recorded))
    monkeypatch.setattr(azure.identity.aio, "EnvironmentCredential", recorder(AsyncRecorded))
    text = "Endpoint=h;TaskHub=a;Authentication=Environment"
    with DurableTaskSchedulerClient.from_connection_string(text) as client:
        assert made[0].closed == 0
    client.close()
    async with AsyncDurableTaskSchedulerClient.from_connection_string(text):
        pass
    assert [credential.closed for credential in made] == [1, 1]


def test_azure_identity_is_loaded_only_for_a_connection_string_that_needs_it() -> None:
    program = f"""
import sys
from durabletask.azuremanaged.client import DurableTaskSchedulerClient as Client
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
Client.from_connection_string({EMULATOR!r}).close()
before = "azure.identity" in sys.modules
Client.from_connection_string("Endpoint=h;TaskHub=a;Authentication=AzureCLI").close()
sys.exit(0 if not before and "azure.identity" in sys.modules else 1)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
