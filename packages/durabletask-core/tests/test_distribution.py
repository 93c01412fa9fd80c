"""What the installed distribution says of itself."""

import re
from importlib.metadata import requires


def test_the_distribution_needs_little_and_nothing_that_the_standard_library_has() -> None:
    """R30: a requirement named ``asyncio`` would pull a package of a stranger."""
    needed = [requirement for requirement in requires("durabletask-core") or () if "extra ==" not in requirement]
    assert {re.split(r"[<>=~!; ]", requirement)[0] for requirement in needed} == {"durabletask-proto", "packaging"}
