"""Memory for large payloads is not asked for and given back each time."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from durabletask_scheduler.memory import keep_large_blocks

def faults():
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [b"x" * 1_000_000 for _ in range(5)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begun

if sys.argv[1] == "kept":
    keep_large_blocks()
faults()
print(faults())
"""


def faults(how: str) -> int:
    command = [sys.executable, "-c", FAULTS, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_large_blocks_come_from_memory_that_is_kept():
    pages_of_one_block = 1_000_000 // 4096
    assert faults("kept") < pages_of_one_block
    assert faults("given back") > 20 * pages_of_one_block
