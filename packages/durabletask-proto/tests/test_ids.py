"""Random ids: in the form that the protocol wants, and never the same one twice."""

import os
import threading
import uuid

import pytest
from durabletask_proto.ids import random_id, random_uuid


def test_an_id_has_32_hexadecimal_digits() -> None:
    one = random_id()
    assert len(one) == 32
    assert uuid.UUID(hex=one).hex == one


def test_a_uuid_is_a_random_one_in_its_usual_form() -> None:
    for text in [random_uuid() for _ in range(200)]:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)


def test_no_two_threads_get_the_same_id() -> None:
    found: list[str] = []

    def fetch() -> None:
        found.extend([random_id() for _ in range(1_000)])

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 4_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_does_not_give_out_the_ids_of_its_parent() -> None:
    random_id()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, "".join(random_id() for _ in range(100)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        digits = pipe.read()
    os.waitpid(child, 0)
    theirs = {digits[at : at + 32] for at in range(0, len(digits), 32)}
    assert len(theirs) == 100
    assert theirs.isdisjoint(random_id() for _ in range(100))
