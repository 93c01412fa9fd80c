"""Refuses to run where another distribution owns the import name ``durabletask``."""

from functools import lru_cache
from importlib import metadata

_FOREIGN = "durabletask"


class ForeignDistributionError(RuntimeError):
    """Another distribution that ships ``durabletask/`` is installed beside this one."""


@lru_cache(maxsize=1)
def _foreign_version() -> str | None:
    try:
        return metadata.version(_FOREIGN)
    except metadata.PackageNotFoundError:
        return None


def refuse_foreign_distribution() -> None:
    """Raise if the distribution ``durabletask`` is installed beside ``durabletask-core``.

    Both own the folder ``durabletask/``, so files of one overwrite files of the other and which
    code runs is chance. The answer is looked up once a process.

    Raises:
        ForeignDistributionError: It is installed; the message names the cure.
    """
    version = _foreign_version()
    if version is not None:
        raise ForeignDistributionError(
            f"the distribution {_FOREIGN!r} (version {version}) is installed beside 'durabletask-core', and both own "
            f"the import name 'durabletask'. Keep one of them: pip uninstall {_FOREIGN} "
            "&& pip install --force-reinstall --no-deps durabletask-core"
        )
