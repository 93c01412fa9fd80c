"""Options of gRPC channels and of how client and worker behave when a connection is lost."""

import json
from dataclasses import dataclass, field
from typing import Any


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _as_duration(name: str, seconds: float) -> str:
    """Write seconds as a protobuf JSON duration, which has at most nine decimals."""
    text = f"{seconds:.9f}".rstrip("0")
    _require(float(text) > 0, f"{name} rounds to zero: expected at least one nanosecond, found {seconds!r} seconds")
    return f"{text}0s" if text.endswith(".") else f"{text}s"


@dataclass(slots=True, kw_only=True)
class GrpcRetryPolicyOptions:
    """How gRPC itself retries a unary call, below the client and the worker.

    Args:
        max_attempts: Attempts in all, the first included; at least 2.
        initial_backoff_seconds: Upper bound of the random delay before the first retry.
        max_backoff_seconds: Upper bound of every delay; not less than the initial one.
        backoff_multiplier: Growth of the bound from one retry to the next; positive.
        retryable_status_codes: Names of the gRPC status codes that are retried; not empty.

    Raises:
        ValueError: A value is outside the range named above.
    """

    max_attempts: int = 4
    initial_backoff_seconds: float = 0.05
    max_backoff_seconds: float = 0.25
    backoff_multiplier: float = 2.0
    retryable_status_codes: list[str] = field(default_factory=lambda: ["UNAVAILABLE"])

    def __post_init__(self) -> None:
        _require(self.max_attempts >= 2, f"max_attempts must be at least 2, found {self.max_attempts!r}")
        for name in ("initial_backoff_seconds", "max_backoff_seconds", "backoff_multiplier"):
            value = getattr(self, name)
            _require(value > 0, f"{name} must be greater than 0, found {value!r}")
        _require(
            self.max_backoff_seconds >= self.initial_backoff_seconds,
            f"max_backoff_seconds must not be less than initial_backoff_seconds ({self.initial_backoff_seconds!r}), "
            f"found {self.max_backoff_seconds!r}",
        )
        _require(len(self.retryable_status_codes) > 0, "retryable_status_codes must name at least one status code")
        _as_duration("initial_backoff_seconds", self.initial_backoff_seconds)
        _as_duration("max_backoff_seconds", self.max_backoff_seconds)

    def to_service_config(self) -> dict[str, Any]:
        """The gRPC service config that applies this policy to every method."""
        policy = {
            "maxAttempts": self.max_attempts,
            "initialBackoff": _as_duration("initial_backoff_seconds", self.initial_backoff_seconds),
            "maxBackoff": _as_duration("max_backoff_seconds", self.max_backoff_seconds),
            "backoffMultiplier": self.backoff_multiplier,
            "retryableStatusCodes": list(self.retryable_status_codes),
        }
        return {"methodConfig": [{"name": [{}], "retryPolicy": policy}]}


@dataclass(slots=True, kw_only=True)
class GrpcChannelOptions:
    """Options of a gRPC channel; whatever is left unset keeps gRPC's own default.

    Args:
        max_receive_message_length: Largest message accepted, in bytes (gRPC: 4 MiB); -1 is unlimited.
        max_send_message_length: Largest message sent, in bytes (gRPC: unlimited); -1 is unlimited.
        keepalive_time_ms: Milliseconds without traffic after which a ping is sent (gRPC: never).
        keepalive_timeout_ms: Milliseconds to wait for the answer of a ping.
        keepalive_permit_without_calls: Whether pings are sent while no call is open.
        retry_policy: How gRPC itself retries unary calls (gRPC: not).
        raw_options: Further ``(name, value)`` channel arguments, placed before all others.
        root_certificates: The certificates, as PEM bytes, that a server's must be signed by (gRPC: those it ships).
        client_certificate: The certificate chain, as PEM bytes, by which this end names itself (mutual TLS).
        client_key: The private key of ``client_certificate``, as PEM bytes.

    Raises:
        ValueError: Only one of ``client_certificate`` and ``client_key`` is given, or one of the three is not PEM.
    """

    max_receive_message_length: int | None = None
    max_send_message_length: int | None = None
    keepalive_time_ms: int | None = None
    keepalive_timeout_ms: int | None = None
    keepalive_permit_without_calls: bool | None = None
    retry_policy: GrpcRetryPolicyOptions | None = None
    raw_options: list[tuple[str, Any]] = field(default_factory=list)
    root_certificates: bytes | None = field(default=None, repr=False)
    client_certificate: bytes | None = field(default=None, repr=False)
    client_key: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("root_certificates", "client_certificate", "client_key"):
            value = getattr(self, name)
            # What was found is never shown: it may be a key.
            _require(
                value is None or (isinstance(value, bytes) and b"-----BEGIN" in value),
                f"{name} must be the bytes of a PEM file, which hold '-----BEGIN': read the file in binary mode",
            )
        _require(
            (self.client_certificate is None) == (self.client_key is None),
            "client_certificate and client_key belong together: give both or neither",
        )

    @property
    def has_certificates(self) -> bool:
        """Whether any option is set that only a TLS channel can follow."""
        return self.root_certificates is not None or self.client_certificate is not None

    def to_grpc_options(self) -> list[tuple[str, Any]]:
        """The channel arguments, in the order in which gRPC receives them."""
        permit = self.keepalive_permit_without_calls
        named: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", self.max_receive_message_length),
            ("grpc.max_send_message_length", self.max_send_message_length),
            ("grpc.keepalive_time_ms", self.keepalive_time_ms),
            ("grpc.keepalive_timeout_ms", self.keepalive_timeout_ms),
            ("grpc.keepalive_permit_without_calls", None if permit is None else int(permit)),
        ]
        options = [*self.raw_options, *((name, value) for name, value in named if value is not None)]
        if self.retry_policy is not None:
            options.append(("grpc.enable_retries", 1))
            options.append(("grpc.service_config", json.dumps(self.retry_policy.to_service_config())))
        return options


@dataclass(slots=True, kw_only=True)
class GrpcWorkerResiliencyOptions:
    """How a worker notices a dead connection and comes back.

    Args:
        hello_timeout_seconds: Deadline of the Hello call before the work-item stream; positive.
        silent_disconnect_timeout_seconds: Seconds without any message after which the stream counts
            as dead; 0 switches the check off.
        channel_recreate_failure_threshold: Failed connections in a row after which the channel is
            built anew; 0 switches that off.
        reconnect_backoff_base_seconds: Bound of the random delay before the first reconnection; positive.
        reconnect_backoff_cap_seconds: Greatest bound of any delay; not less than the base.

    Raises:
        ValueError: A value is outside the range named above.
    """

    hello_timeout_seconds: float = 30.0
    silent_disconnect_timeout_seconds: float = 120.0
    channel_recreate_failure_threshold: int = 5
    reconnect_backoff_base_seconds: float = 1.0
    reconnect_backoff_cap_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("hello_timeout_seconds", "reconnect_backoff_base_seconds", "reconnect_backoff_cap_seconds"):
            value = getattr(self, name)
            _require(value > 0, f"{name} must be greater than 0, found {value!r}")
        for name in ("silent_disconnect_timeout_seconds", "channel_recreate_failure_threshold"):
            value = getattr(self, name)
            _require(value >= 0, f"{name} must not be negative, found {value!r}")
        _require(
            self.reconnect_backoff_cap_seconds >= self.reconnect_backoff_base_seconds,
            "reconnect_backoff_cap_seconds must not be less than reconnect_backoff_base_seconds "
            f"({self.reconnect_backoff_base_seconds!r}), found {self.reconnect_backoff_cap_seconds!r}",
        )


@dataclass(slots=True, kw_only=True)
class GrpcClientResiliencyOptions:
    """When a client replaces a channel that keeps failing.

    Args:
        channel_recreate_failure_threshold: Transport failures in a row after which the channel is
            built anew; 0 switches that off.
        min_recreate_interval_seconds: Least time between two such replacements.

    Raises:
        ValueError: A value is negative.
    """

    channel_recreate_failure_threshold: int = 5
    min_recreate_interval_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("channel_recreate_failure_threshold", "min_recreate_interval_seconds"):
            value = getattr(self, name)
            _require(value >= 0, f"{name} must not be negative, found {value!r}")
