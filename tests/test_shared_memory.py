"""The slots that processes share: whole or told to be damaged, and an error where there is no
memory.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnest.shared_memory import HEADER, MAX_CONTENT_BYTES, MAX_SLOTS, SLOT_BYTES, SharedMemory

WRITER = """
import sys
from devnest.shared_memory import SharedMemory
SharedMemory(int(sys.argv[1])).write(3, b"from another process")
"""


@given(st.lists(st.tuples(st.integers(0, MAX_SLOTS - 1), st.binary(max_size=300)), max_size=20))
def test_a_slot_holds_what_was_written_last(writes: list[tuple[int, bytes]]) -> None:
    """Whatever was written to the others, and however long what was there before was."""
    memory = SharedMemory.create()
    expected = dict.fromkeys(range(MAX_SLOTS), b"")
    for slot, content in writes:
        memory.write(slot, content)
        expected[slot] = content
    assert {slot: memory.read(slot) for slot in range(MAX_SLOTS)} == expected


def test_a_process_that_inherits_it_shares_it() -> None:
    """By its descriptor alone; it has no name."""
    memory = SharedMemory.create()
    subprocess.run([sys.executable, "-c", WRITER, str(memory.fd)], pass_fds=[memory.fd], check=True)
    assert memory.read(3) == b"from another process"


def test_a_reader_never_sees_half_of_a_content() -> None:
    """While it is written over and over, in either of its places."""
    memory = SharedMemory.create()
    contents = [bytes([number]) * 20_000 for number in range(10)]
    memory.write(1, contents[0])
    ended = threading.Event()

    def write() -> None:
        for _ in range(200):
            for content in contents:
                memory.write(1, content)
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not ended.is_set():
        try:
            assert memory.read(1) in contents
        except ValueError:  # the writer was quicker than five reads: told, not taken for a content
            continue
    writer.join()


@given(at=st.integers(0, HEADER.size - 1), garbage=st.binary(min_size=1, max_size=16))
def test_damage_is_told_and_the_next_write_mends_it(at: int, garbage: bytes) -> None:
    """Of the head or the content: the old content, or ValueError, and nothing else."""
    memory = SharedMemory.create()
    memory.write(5, b"content")
    os.pwrite(memory.fd, garbage, 5 * SLOT_BYTES + at)
    try:
        assert memory.read(5) in (b"content", b"")
    except ValueError as error:
        assert "checksum" in str(error)  # noqa: PT017 (no error is right too)
    memory.write(5, b"next")
    assert memory.read(5) == b"next"


def test_a_file_that_was_cut_short_is_an_error_of_the_reader() -> None:
    """Not a signal: nothing is mapped."""
    memory = SharedMemory.create()
    memory.write(0, b"content")
    os.ftruncate(memory.fd, HEADER.size)
    with pytest.raises(ValueError, match="checksum"):
        memory.read(0)


def test_where_nothing_can_be_kept_nothing_is_read() -> None:
    """Its user goes on with what it has itself."""
    memory = SharedMemory.discarding()
    memory.write(0, b"content")
    assert memory.read(0) == b""


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="only Linux has a file that is always full"
)
def test_no_memory_is_an_error_of_the_writer() -> None:
    """And so is a content that is too large."""
    with pytest.raises(OSError, match="No space left"):
        SharedMemory(os.open("/dev/full", os.O_RDWR)).write(0, b"content")
    with pytest.raises(OSError, match="more than a slot takes"):
        SharedMemory.create().write(0, bytes(MAX_CONTENT_BYTES + 1))
