"""Which logger a client or worker writes to."""

import io
import logging
import warnings
from typing import Any

import pytest
from durabletask.client import AsyncTaskHubGrpcClient, TaskHubGrpcClient
from durabletask.internal.shared import get_logger
from durabletask.logging_options import resolve_logger

CLIENTS = [TaskHubGrpcClient, AsyncTaskHubGrpcClient]


def test_the_default_logger_is_private() -> None:
    logger = resolve_logger("client")
    assert (logger.name, logger.level, logger.parent) == ("durabletask-client", logging.NOTSET, None)
    assert "durabletask-client" not in logging.Logger.manager.loggerDict
    (handler,) = logger.handlers
    assert handler.level == logging.INFO


def test_the_default_line_shows_time_name_and_level() -> None:
    stream = io.StringIO()
    get_logger("client", logging.StreamHandler(stream)).warning("hello")
    assert stream.getvalue().endswith(" durabletask-client WARNING: hello\n")


def test_a_given_logger_is_used_unchanged() -> None:
    mine = logging.getLogger("mine")
    assert resolve_logger("client", logger=mine) is mine
    assert mine.handlers == []


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("option", [{"log_handler": logging.NullHandler()}, {"log_formatter": logging.Formatter()}])
def test_a_logger_excludes_the_deprecated_options(client: Any, option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="logger cannot be combined"):
        client(logger=logging.getLogger("mine"), **option)


@pytest.mark.parametrize("client", CLIENTS)
def test_the_deprecation_points_at_the_code_of_the_user(client: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client(log_handler=logging.NullHandler())
    (warning,) = caught
    assert warning.category is DeprecationWarning
    assert warning.filename == __file__


def test_the_formatter_replaces_that_of_the_handler() -> None:
    handler, formatter = logging.NullHandler(), logging.Formatter("%(message)s")
    handler.setFormatter(logging.Formatter("%(levelname)s"))
    with pytest.warns(DeprecationWarning):
        resolve_logger("client", log_handler=handler, log_formatter=formatter)
    assert handler.formatter is formatter
