"""What the constructors of clients and workers check: the task hub's name, and that no token leaves in clear text."""

from __future__ import annotations

import ipaddress

_PLAINTEXT_SCHEMES = ("http://", "grpc://")
_TLS_SCHEMES = ("https://", "grpcs://")
_RESOLVER_PREFIXES = ("dns:///", "dns:", "ipv4:", "ipv6:")


def check_connection(taskhub: str, host_address: str, *, secure_channel: bool, carries_token: bool) -> None:
    """Refuse an empty task hub, and tokens that would leave this machine unencrypted.

    A scheme in the address decides over ``secure_channel``, so ``http://`` makes a channel plaintext that
    was asked to be secure. A plaintext channel to this machine itself (an emulator) may carry tokens.

    Args:
        taskhub: the task hub's name.
        host_address: the endpoint, with or without a scheme.
        secure_channel: whether an address without a scheme gets TLS.
        carries_token: whether calls on the channel will carry an access token.

    Raises:
        ValueError: ``taskhub`` is empty; or tokens, a plaintext channel and a host that is not a loopback one.
    """
    if not taskhub:
        raise ValueError(f"taskhub must be the name of a task hub, found {taskhub!r}: pass the name, e.g. 'default'.")
    if not carries_token or _is_tls(host_address, secure_channel) or _is_loopback(host_address):
        return
    cause = (
        f"the address {host_address!r} asks for a plaintext channel, whatever secure_channel says"
        if host_address.lower().startswith(_PLAINTEXT_SCHEMES)
        else "secure_channel=False asks for a plaintext channel"
    )
    raise ValueError(
        f"A token_credential was given, but {cause}: its access tokens would travel to another machine in clear "
        "text. Use an https:// address (or one without a scheme and secure_channel=True), or token_credential=None."
    )


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
