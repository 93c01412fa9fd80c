"""The pytest fixtures, used as the documentation shows them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTING = Path(__file__).parents[3] / "docs" / "testing.md"


@pytest.mark.skipif(not TESTING.is_file(), reason="the documentation is not part of a source distribution")
def test_the_tests_of_the_documentation_pass(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", TESTING.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    plugin = [block for block in blocks if block.startswith("pytest_plugins")]
    # What the test functions use is defined at the top level of the earlier blocks.
    program = "".join(block for block in blocks if re.search(r"^(def |from |import )", block, re.MULTILINE))
    (tmp_path / "conftest.py").write_text("".join(plugin))
    (tmp_path / "test_of_the_page.py").write_text(program)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout
