"""What the constructors of clients and workers check: the task hub's name, and that no token leaves in clear text."""

from __future__ import annotations

import ipaddress
import logging
import os
from dataclasses import replace

from durabletask.grpc_options import GrpcChannelOptions

_logger = logging.getLogger("durabletask-azuremanaged")

_PLAINTEXT_SCHEMES = ("http://", "grpc://")
_TLS_SCHEMES = ("https://", "grpcs://")
_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
_RESOLVER_PREFIXES = ("dns:///", "dns:", "ipv4:", "ipv6:")


def check_connection(
    taskhub: str,
    host_address: str,
    *,
    secure_channel: bool,
    carries_token: bool,
    allow_insecure_token: bool = False,
) -> None:
    """Refuse an empty task hub, and tokens that would leave this machine unencrypted.

    A scheme in the address decides over ``secure_channel``, so ``http://`` makes a channel plaintext that
    was asked to be secure. A plaintext channel to this machine itself (an emulator) may carry tokens.

    Args:
        taskhub: the task hub's name.
        host_address: the endpoint, with or without a scheme.
        secure_channel: whether an address without a scheme gets TLS.
        carries_token: whether calls on the channel will carry an access token.
        allow_insecure_token: whether tokens may travel to another machine in clear text; a warning is logged then.

    Raises:
        ValueError: ``taskhub`` is empty; or tokens, a plaintext channel and a host that is not a loopback one.
    """
    if not taskhub or not taskhub.strip():
        raise ValueError(f"taskhub must be the name of a task hub, found {taskhub!r}: pass the name, e.g. 'default'.")
    if not carries_token or _is_tls(host_address, secure_channel) or _is_loopback(host_address):
        return
    cause = (
        f"the address {host_address!r} asks for a plaintext channel, whatever secure_channel says"
        if host_address.lower().startswith(_PLAINTEXT_SCHEMES)
        else "secure_channel=False asks for a plaintext channel"
    )
    if allow_insecure_token:
        _logger.warning(
            "allow_insecure_token=True: access tokens travel to %s in clear text, and whoever reads them can use them.",
            host_address,
        )
        return
    raise ValueError(
        f"A token_credential was given, but {cause}: its access tokens would travel to another machine in clear "
        "text. Use an https:// address (or one without a scheme and secure_channel=True), or token_credential=None; "
        "on a network that encrypts by itself, allow_insecure_token=True."
    )


def without_proxy(
    options: GrpcChannelOptions | None, host_address: str, *, secure_channel: bool, carries_token: bool
) -> GrpcChannelOptions | None:
    """The channel options, with proxies switched off where one would read tokens in clear text.

    gRPC sends calls through the proxy that the environment names, also those to this machine itself.
    """
    if not carries_token or _is_tls(host_address, secure_channel):
        return options
    if not any(os.environ.get(name) for name in _PROXY_VARIABLES):
        return options
    options = options or GrpcChannelOptions()
    return replace(options, raw_options=[*options.raw_options, ("grpc.enable_http_proxy", 0)])


def _is_tls(host_address: str, secure_channel: bool) -> bool:
    address = host_address.lower()
    return address.startswith(_TLS_SCHEMES) or (secure_channel and not address.startswith(_PLAINTEXT_SCHEMES))


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
