"""The command line's part in security: options of ``serve``, and the ``token`` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from durabletask_scheduler.security.errors import SecurityError
from durabletask_scheduler.security.hosts import is_loopback
from durabletask_scheduler.security.roles import ROLES

if TYPE_CHECKING:
    from durabletask_scheduler.security.oidc import OidcOptions
    from durabletask_scheduler.security.settings import Security
    from durabletask_scheduler.security.tls import TlsFiles

_PREFIX = "DURABLETASK_SCHEDULER_"
_TRUE = ("1", "true", "yes", "on")
_MOST_SKEW = 600


def add_security(serve: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    """Add the options of ``serve`` that protect its port."""
    group = serve.add_argument_group("security")
    for flag, metavar, text in _VALUES:
        variable = _variable(flag)
        group.add_argument(
            flag, metavar=metavar, default=environment.get(variable) or None, help=f"{text} (environment: {variable})"
        )
    group.add_argument(
        "--oidc-clock-skew",
        metavar="SECONDS",
        type=_seconds,
        default=environment.get(_variable("--oidc-clock-skew"), "60"),
        help=f"by how much the issuer's clock may differ (default: 60; environment: {_variable('--oidc-clock-skew')})",
    )
    for flag, text in _SWITCHES:
        variable = _variable(flag)
        default = environment.get(variable, "").lower() in _TRUE
        group.add_argument(flag, action="store_true", default=default, help=f"{text} (environment: {variable})")


def add_token(token: argparse.ArgumentParser) -> None:
    """Add what ``token`` can do."""
    actions = token.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a bearer token and the line of the token file that admits it")
    create.add_argument("--name", required=True, metavar="NAME", help="whose it is, for the audit log")
    create.add_argument("--role", required=True, action="append", dest="roles", choices=ROLES, help="may be repeated")
    create.add_argument("--task-hub", required=True, metavar="NAME", help="where it holds; '*' for every task hub")


def add_connection(command: argparse.ArgumentParser) -> None:
    """Add how a command that calls a running scheduler connects to it."""
    command.add_argument("--tls-ca", metavar="FILE", help="use TLS; these authorities vouch for the scheduler")
    command.set_defaults(token_variable=_PREFIX + "TOKEN")
    command.epilog = f"The bearer token, if the scheduler wants one, is taken from the environment: {_PREFIX}TOKEN"


def token_metadata(options: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    """The metadata that authenticates a command, from the environment: arguments are visible to other users.

    Raises:
        SecurityError: the token would travel to another machine in clear text.
    """
    token = os.environ.get(options.token_variable)
    if not token:
        return ()
    if options.tls_ca is None and not is_loopback(_host(options)):
        raise SecurityError(f"the token would travel to {_host(options)} in clear text: give --tls-ca")
    return (("authorization", f"Bearer {token}"),)


def open_channel(options: argparse.Namespace) -> Any:
    """A ``grpc.Channel`` to the address of a command; raises SecurityError if the file of authorities is no use."""
    import grpc

    if options.tls_ca is None:
        # gRPC would send calls in clear text through the environment's proxy, even those to this machine itself.
        direct = [("grpc.enable_http_proxy", 0)] if is_loopback(_host(options)) else None
        return grpc.insecure_channel(options.address, direct)
    from durabletask_scheduler.security.watched import read_bytes

    authorities = read_bytes("the certificates of the scheduler's authorities", options.tls_ca)
    return grpc.secure_channel(options.address, grpc.ssl_channel_credentials(authorities))


def _host(options: argparse.Namespace) -> str:
    host: str = options.address.rpartition(":")[0].strip("[]")
    return host


def security_from(options: argparse.Namespace) -> Security:
    """The :class:`Security` that the options of ``serve`` ask for.

    Raises:
        SecurityError: options that need each other were not given together.
    """
    from durabletask_scheduler.security.settings import Security

    return Security(
        tls=_tls(options),
        token_file=options.token_file,
        oidc=_oidc(options),
        allow_unauthenticated=options.allow_unauthenticated,
        allow_plaintext=options.allow_plaintext,
    )


def create_token(options: argparse.Namespace) -> int:
    """Write a new token and its line to standard output, the first and only time that it can be seen."""
    from durabletask_scheduler.security.tokens import new_token, token_line

    token = new_token()
    line = token_line(options.name, options.roles, options.task_hub, token)
    sys.stderr.write("The first line is the token, which cannot be shown again; the second is for the token file.\n")
    sys.stdout.write(f"{token}\n{line}\n")
    return 0


def _tls(options: argparse.Namespace) -> TlsFiles | None:
    from durabletask_scheduler.security.tls import TlsFiles

    if options.tls_cert and options.tls_key:
        return TlsFiles(options.tls_cert, options.tls_key, options.tls_client_ca)
    given = [flag for flag in ("--tls-cert", "--tls-key", "--tls-client-ca") if getattr(options, _attribute(flag))]
    if given:
        raise SecurityError(f"{given[0]} was given, but TLS needs both --tls-cert and --tls-key")
    return None


def _oidc(options: argparse.Namespace) -> OidcOptions | None:
    from durabletask_scheduler.security.oidc import OidcOptions

    if options.oidc_issuer and options.oidc_audience:
        audiences = tuple(name.strip() for name in options.oidc_audience.split(",") if name.strip())
        return OidcOptions(
            issuer=options.oidc_issuer,
            audiences=audiences,
            keys=options.oidc_jwks,
            roles_claim=options.oidc_roles_claim or OidcOptions.roles_claim,
            clock_skew=options.oidc_clock_skew,
        )
    flags = ("--oidc-issuer", "--oidc-audience", "--oidc-jwks", "--oidc-roles-claim")
    given = [flag for flag in flags if getattr(options, _attribute(flag))]
    if given:
        raise SecurityError(f"{given[0]} was given, but tokens of an issuer need --oidc-issuer and --oidc-audience")
    return None


def _seconds(text: str) -> float:
    if not (text.isascii() and text.isdigit() and int(text) <= _MOST_SKEW):
        raise argparse.ArgumentTypeError(f"expected seconds from 0 to {_MOST_SKEW}, found {text!r}")
    return float(text)


def _variable(flag: str) -> str:
    return _PREFIX + _attribute(flag).upper()


def _attribute(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


_VALUES = (
    ("--tls-cert", "FILE", "the certificate in PEM, followed by intermediate ones; turns TLS on"),
    ("--tls-key", "FILE", "its private key in PEM, without a password"),
    ("--tls-client-ca", "FILE", "clients must show a certificate signed by one of these authorities"),
    ("--oidc-issuer", "URL", "accept tokens of this OpenID Connect issuer ('iss'); needs the extra 'auth'"),
    ("--oidc-audience", "NAMES", "whom the tokens must be meant for ('aud'); several with commas"),
    ("--oidc-jwks", "FILE|URL", "the issuer's keys; by default the issuer is asked where they are"),
    ("--oidc-roles-claim", "NAME", "the claim with roles such as worker or worker:HUB; by default 'roles'"),
    ("--token-file", "FILE", "callers must show a bearer token whose hash is here; see 'token create'"),
)
_SWITCHES = (
    ("--allow-unauthenticated", "listen beyond loopback although whoever can connect may do everything"),
    ("--allow-plaintext", "take tokens beyond loopback without TLS, because a proxy in front ends TLS"),
)
