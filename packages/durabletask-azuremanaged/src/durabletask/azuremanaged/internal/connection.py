"""What the constructors of clients and workers check: the task hub's name, and that no token leaves in clear text."""

from __future__ import annotations

import ipaddress
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from durabletask.grpc_options import GrpcChannelOptions

_logger = logging.getLogger("durabletask-azuremanaged")

_PLAINTEXT_SCHEMES = ("http://", "grpc://")
_TLS_SCHEMES = ("https://", "grpcs://")
_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
_RESOLVER_PREFIXES = ("dns:///", "dns:", "ipv4:", "ipv6:")


@dataclass(frozen=True)
class SchedulerConnection:
    """How a client or worker was asked to connect.

    Args:
        host_address: the endpoint, with or without a scheme.
        taskhub: the task hub's name.
        carries_token: whether calls will carry an access token.
        channel: a channel of the user's, to be used as it is.
        secure_channel: whether an address without a scheme gets TLS.
        interceptors: those of the user.
        channel_options: options of the channel.
        allow_insecure_token: whether tokens may travel to another machine in clear text; a warning is logged then.

    Raises:
        ValueError: ``taskhub`` is empty; or tokens, a plaintext channel and a host that is not a loopback one.
    """

    host_address: str
    taskhub: str
    carries_token: bool = False
    channel: Any = None
    secure_channel: bool = True
    interceptors: Sequence[Any] | None = None
    channel_options: GrpcChannelOptions | None = None
    allow_insecure_token: bool = False

    def __post_init__(self) -> None:
        if not self.taskhub or not self.taskhub.strip():
            raise ValueError(
                f"taskhub must be the name of a task hub, found {self.taskhub!r}: pass the name, e.g. 'default'."
            )
        if self.shows_token and not _is_loopback(self.host_address):
            self._refuse_clear_text()

    @property
    def shows_token(self) -> bool:
        """Whether access tokens travel in clear text.

        A scheme in the address decides over ``secure_channel``, so ``http://`` makes a channel plaintext that was
        asked to be secure.
        """
        address = self.host_address.lower()
        is_tls = address.startswith(_TLS_SCHEMES) or (
            self.secure_channel and not address.startswith(_PLAINTEXT_SCHEMES)
        )
        return self.carries_token and not is_tls

    def _refuse_clear_text(self) -> None:
        if self.allow_insecure_token:
            _logger.warning(
                "allow_insecure_token=True: access tokens travel to %s in clear text, and whoever reads them can use "
                "them.",
                self.host_address,
            )
            return
        cause = (
            f"the address {self.host_address!r} asks for a plaintext channel, whatever secure_channel says"
            if self.host_address.lower().startswith(_PLAINTEXT_SCHEMES)
            else "secure_channel=False asks for a plaintext channel"
        )
        raise ValueError(
            f"A token_credential was given, but {cause}: its access tokens would travel to another machine in clear "
            "text. Use an https:// address (or one without a scheme and secure_channel=True), or "
            "token_credential=None; on a network that encrypts by itself, allow_insecure_token=True."
        )


def connection_arguments(connection: SchedulerConnection, headers: Any) -> dict[str, Any]:
    """Give the keyword arguments of a base class's constructor that say how to connect.

    Args:
        connection: what was asked for.
        headers: the interceptor that adds the scheduler's headers; it comes after those of the user.
    """
    return {
        "host_address": connection.host_address,
        "channel": connection.channel,
        "secure_channel": connection.secure_channel,
        "metadata": None,
        "interceptors": [*(connection.interceptors or ()), headers],
        "channel_options": _without_proxy(connection),
    }


def _without_proxy(connection: SchedulerConnection) -> GrpcChannelOptions | None:
    """The channel options, with proxies switched off where one would read tokens in clear text.

    gRPC sends calls through the proxy that the environment names, also those to this machine itself.
    """
    options = connection.channel_options
    if not connection.shows_token or not any(os.environ.get(name) for name in _PROXY_VARIABLES):
        return options
    options = options or GrpcChannelOptions()
    return replace(options, raw_options=[*options.raw_options, ("grpc.enable_http_proxy", 0)])


def _is_loopback(host_address: str) -> bool:
    address = host_address.lower()
    for prefix in (*_PLAINTEXT_SCHEMES, *_RESOLVER_PREFIXES):
        address = address.removeprefix(prefix)
    if address.startswith("unix:"):
        return True
    host = _without_port(address.partition("/")[0])
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _without_port(authority: str) -> str:
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    is_bare_ipv6 = authority.count(":") > 1
    return authority if is_bare_ipv6 else authority.partition(":")[0]
