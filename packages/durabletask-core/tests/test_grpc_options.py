"""Options of channels: their defaults, their validation and what gRPC is given."""

import json
from typing import Any

import pytest
from durabletask.grpc_options import (
    GrpcChannelOptions,
    GrpcClientResiliencyOptions,
    GrpcRetryPolicyOptions,
    GrpcWorkerResiliencyOptions,
)

BAD = [
    (GrpcRetryPolicyOptions, {"max_attempts": 1}, "max_attempts"),
    (GrpcRetryPolicyOptions, {"initial_backoff_seconds": 0}, "initial_backoff_seconds"),
    (GrpcRetryPolicyOptions, {"max_backoff_seconds": -1}, "max_backoff_seconds"),
    (GrpcRetryPolicyOptions, {"backoff_multiplier": 0}, "backoff_multiplier"),
    (GrpcRetryPolicyOptions, {"initial_backoff_seconds": 2, "max_backoff_seconds": 1}, "max_backoff_seconds"),
    (GrpcRetryPolicyOptions, {"retryable_status_codes": []}, "retryable_status_codes"),
    (GrpcRetryPolicyOptions, {"initial_backoff_seconds": 1e-10}, "rounds to zero"),
    (GrpcWorkerResiliencyOptions, {"hello_timeout_seconds": 0}, "hello_timeout_seconds"),
    (GrpcWorkerResiliencyOptions, {"silent_disconnect_timeout_seconds": -1}, "silent_disconnect_timeout_seconds"),
    (GrpcWorkerResiliencyOptions, {"channel_recreate_failure_threshold": -1}, "channel_recreate_failure_threshold"),
    (GrpcWorkerResiliencyOptions, {"reconnect_backoff_base_seconds": 0}, "reconnect_backoff_base_seconds"),
    (GrpcWorkerResiliencyOptions, {"reconnect_backoff_cap_seconds": 0.5}, "reconnect_backoff_cap_seconds"),
    (GrpcClientResiliencyOptions, {"channel_recreate_failure_threshold": -1}, "channel_recreate_failure_threshold"),
    (GrpcClientResiliencyOptions, {"min_recreate_interval_seconds": -1}, "min_recreate_interval_seconds"),
    (GrpcChannelOptions, {"root_certificates": b"/etc/ca.pem"}, "root_certificates must be the bytes of a PEM file"),
    (GrpcChannelOptions, {"client_key": "-----BEGIN PRIVATE KEY-----"}, "client_key must be the bytes of a PEM file"),
    (GrpcChannelOptions, {"client_key": b"-----BEGIN PRIVATE KEY-----"}, "belong together"),
    (GrpcChannelOptions, {"client_certificate": b"-----BEGIN CERTIFICATE-----"}, "belong together"),
]


@pytest.mark.parametrize(("options", "values", "named"), BAD)
def test_a_value_out_of_range_is_refused_by_name(options: Any, values: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        options(**values)


@pytest.mark.parametrize(
    "options",
    [
        GrpcWorkerResiliencyOptions(silent_disconnect_timeout_seconds=0, channel_recreate_failure_threshold=0),
        GrpcClientResiliencyOptions(channel_recreate_failure_threshold=0, min_recreate_interval_seconds=0),
    ],
)
def test_zero_switches_a_check_off(options: Any) -> None:
    assert options.channel_recreate_failure_threshold == 0


def test_the_service_config_of_a_retry_policy() -> None:
    config = GrpcRetryPolicyOptions(initial_backoff_seconds=0.05, max_backoff_seconds=1).to_service_config()
    assert config == {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1.0s",
                    "backoffMultiplier": 2.0,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }


def test_channel_arguments_in_order() -> None:
    policy = GrpcRetryPolicyOptions()
    options = GrpcChannelOptions(
        raw_options=[("grpc.primary_user_agent", "me")],
        max_receive_message_length=1,
        max_send_message_length=2,
        keepalive_time_ms=3,
        keepalive_timeout_ms=4,
        keepalive_permit_without_calls=False,
        retry_policy=policy,
    )
    assert options.to_grpc_options() == [
        ("grpc.primary_user_agent", "me"),
        ("grpc.max_receive_message_length", 1),
        ("grpc.max_send_message_length", 2),
        ("grpc.keepalive_time_ms", 3),
        ("grpc.keepalive_timeout_ms", 4),
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.enable_retries", 1),
        ("grpc.service_config", json.dumps(policy.to_service_config())),
    ]


def test_unset_options_are_left_to_grpc() -> None:
    assert GrpcChannelOptions().to_grpc_options() == []
    assert GrpcChannelOptions(keepalive_permit_without_calls=True).to_grpc_options() == [
        ("grpc.keepalive_permit_without_calls", 1)
    ]
