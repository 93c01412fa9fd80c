"""The loggers of clients and workers, and the options that choose them."""

import logging
import sys
import warnings

_FORMAT = "%(asctime)s.%(msecs)03d %(name)s %(levelname)s: %(message)s"
_DATE_FORMAT = "%Y-%m-%d %H:%M:%S"
_PACKAGE = "durabletask"


def private_logger(
    name_suffix: str, log_handler: logging.Handler | None = None, log_formatter: logging.Formatter | None = None
) -> logging.Logger:
    """Make the logger ``durabletask-<name_suffix>``, which is not part of the logging hierarchy.

    Args:
        name_suffix: For example ``client`` or ``worker``.
        log_handler: Where records go; by default standard error, from level INFO on.
        log_formatter: Set on the handler, also on one that already has a formatter.
    """
    logger = logging.Logger(f"{_PACKAGE}-{name_suffix}")
    handler = log_handler
    if handler is None:
        handler = logging.StreamHandler()
        handler.setLevel(logging.INFO)
    handler.setFormatter(log_formatter or logging.Formatter(_FORMAT, _DATE_FORMAT))
    logger.addHandler(handler)
    return logger


def resolve_logger(
    name_suffix: str,
    *,
    logger: logging.Logger | None = None,
    log_handler: logging.Handler | None = None,
    log_formatter: logging.Formatter | None = None,
) -> logging.Logger:
    """Choose the logger of a client or worker from its constructor's three logging options.

    A given ``logger`` is used unchanged. ``log_handler`` and ``log_formatter`` are deprecated.

    Raises:
        ValueError: ``logger`` is given together with ``log_handler`` or ``log_formatter``.
    """
    deprecated = log_handler is not None or log_formatter is not None
    if logger is not None and deprecated:
        raise ValueError("logger cannot be combined with log_handler or log_formatter: configure the logger itself")
    if deprecated:
        warnings.warn(
            "log_handler and log_formatter are deprecated: pass logger= instead",
            DeprecationWarning,
            stacklevel=_user_stack_level(),
        )
    return logger if logger is not None else private_logger(name_suffix, log_handler, log_formatter)


def _user_stack_level() -> int:
    """The stack level, seen from the caller, of the first frame outside this package."""
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
        level += 1
    return level


def _is_ours(module_name: str) -> bool:
    return module_name == _PACKAGE or module_name.startswith(f"{_PACKAGE}.")
