"""Frames and payloads: what goes in comes out, and nothing else gets through."""

import asyncio
import contextlib
import fcntl
import itertools
import os
import pickle
import random
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnest.pool import (
    DeadlineExceeded,
    InvalidTask,
    PoolClosed,
    PoolFull,
    TaskTimeout,
    WorkerCrashed,
)
from devnest.pool.functions import Function
from devnest.pool.wire.channel import MAX_JOINED_BYTES, Channel
from devnest.pool.wire.payload import MIN_SEGMENT_BYTES, Packed, Segment, pack, pack_call, unpack
from devnest.pool.wire.protocol import (
    Frame,
    FrameReader,
    Kind,
    Submission,
    WireError,
    frame,
    read_batch,
    read_items,
    read_submission,
    receive,
    write_batch,
    write_submission,
)
from devnest.pool.wire.replies import read_reply, read_times, write_reply

FRAMES = st.lists(
    st.tuples(st.sampled_from(list(Kind)), st.integers(0, 2**64 - 1), st.binary(max_size=300)),
    max_size=8,
)


def only(data: bytes, segments: list[Segment] | None = None) -> Frame:
    """Return the one frame these bytes are."""
    (received,) = FrameReader().feed(data, segments or [])
    return received


@given(frames=FRAMES, cuts=st.lists(st.integers(0, 2000)))
def test_frames_survive_any_cutting(frames: list[tuple[Kind, int, bytes]], cuts: list[int]) -> None:
    """However the stream arrives in pieces, the same frames come out."""
    stream = b"".join(frame(kind, number, body) for kind, number, body in frames)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    reader = FrameReader()
    received = [
        found
        for start, end in itertools.pairwise(edges)
        for found in reader.feed(stream[start:end])
    ]
    assert [(found.kind, found.id, found.body) for found in received] == frames


@given(garbage=st.binary(min_size=16))
def test_garbage_is_refused_or_waits_for_more(garbage: bytes) -> None:
    """It is never an exception of another kind, and never a frame larger than allowed."""
    try:
        for received in FrameReader(max_bytes=1000).feed(garbage):
            assert len(received.body) <= 1000
    except WireError:
        pass


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<IBBQ", 0, 0, 0, 1),  # no such kind
        struct.pack("<IBBQ", 0, 99, 0, 1),
        struct.pack("<IBBQ", 1001, Kind.SUBMIT, 0, 1),  # too large
        struct.pack("<IBBQ", 0, Kind.SUBMIT, 1, 1),  # a descriptor that did not come
        struct.pack("<IBBQ", 0, Kind.SUBMIT, 255, 1),  # too many of them
    ],
)
def test_bad_headers_are_refused(data: bytes) -> None:
    """Before anything is read into memory."""
    with pytest.raises(WireError):
        FrameReader(max_bytes=1000).feed(data)


def test_descriptor_without_a_frame_is_refused() -> None:
    """Nobody can fill the other side's table of descriptors."""
    with pytest.raises(WireError):
        FrameReader().feed(frame(Kind.READY, 1), [Segment(os.dup(0))])
    with pytest.raises(WireError):
        FrameReader().feed(b"x", [Segment(os.dup(0)) for _ in range(254)])


def test_batch_round_trip() -> None:
    """The function, its marks and each call's payload, with and without a descriptor."""
    payloads = [Packed(b"one"), Packed(b"two", Segment(os.dup(0))), Packed(b"")]
    data, segments = write_batch(7, Function("m:f", 3, True), payloads, max_rss=True)
    received = only(data, [Segment(os.dup(segment.fd)) for segment in segments])
    assert received.id == 7
    batch = read_batch(received)
    assert batch[:4] == ("m:f", True, True, True)
    assert [payload.data for payload in batch.payloads] == [b"one", b"two", b""]
    assert [payload.segment is not None for payload in batch.payloads] == [False, True, False]


@given(
    name=st.text(max_size=200),
    key=st.text(max_size=255),
    priority=st.integers(-100, 100),
    times=st.tuples(st.floats(min_value=0), st.floats(min_value=0)),
    max_size=st.integers(0, 128),
    payload=st.binary(max_size=100),
)
def test_submission_round_trip(
    name: str, key: str, priority: int, times: tuple[float, float], max_size: int, payload: bytes
) -> None:
    """Whatever a client asks for arrives as it was asked."""
    call = Submission(Function(name, max_size, True), Packed(payload), priority, key, *times)
    data, _ = write_submission(3, call)
    assert read_submission(only(data)) == call


@given(cut=st.integers(0, 60), noise=st.randoms(use_true_random=False))
def test_damaged_submission_is_refused(cut: int, noise: random.Random) -> None:
    """Cut short or scrambled: a submission that means something, or a WireError."""
    data, _ = write_submission(
        3, Submission(Function("module:name"), Packed(b"payload"), 0, "key", 1.0, 2.0)
    )
    body = bytearray(data[14:][:cut])
    for _ in range(noise.randint(0, 3)):
        if body:
            body[noise.randrange(len(body))] = noise.randrange(256)
    with contextlib.suppress(WireError):
        read_submission(Frame(Kind.SUBMIT, 1, bytes(body), []))


@pytest.mark.parametrize(
    "body", [b"\0", struct.pack("<BIB", 0, 100, 0), struct.pack("<BIB", 0, 0, 1)]
)
def test_damaged_items_are_refused(body: bytes) -> None:
    """A cut head, a cut payload, a descriptor that is not there."""
    with pytest.raises(WireError):
        read_items(body, 0, [])


@pytest.mark.parametrize(
    "answer",
    [
        PoolFull(2.5, "busy"),
        TaskTimeout("slow"),
        DeadlineExceeded("late"),
        WorkerCrashed("killed"),
        PoolClosed("closed"),
        InvalidTask("wrong"),
        None,
        (0, Packed(b"result")),
        (1, Packed(b"exception")),
    ],
    ids=repr,
)
def test_reply_round_trip(answer: object) -> None:
    """Each error of the pool arrives as itself, with what it carries."""
    data, _ = write_reply(9, answer)
    received = only(data)
    assert received.id == 9
    again = read_reply(received)
    assert (again == answer) or (type(again) is type(answer) and str(again) == str(answer))
    if isinstance(answer, PoolFull):
        assert isinstance(again, PoolFull)
        assert again.retry_after == 2.5
        assert pickle.loads(pickle.dumps(answer)).retry_after == 2.5  # noqa: S301


def test_an_answer_has_its_times() -> None:
    """Seconds in the queue and in the worker, beside the answer itself."""
    data, _ = write_reply(9, (0, Packed(b"result")), 0.25, 1.5)
    assert read_reply(only(data)) == (0, Packed(b"result"))
    assert read_times(only(data)) == (0.25, 1.5)


@pytest.mark.parametrize("body", [b"", b"\0", b"\0cut", b"\x63", b"\x03\0", b"\x06\xff\xff"])
def test_damaged_reply_is_refused(body: bytes) -> None:
    """Empty, of no known kind, cut, not text."""
    with pytest.raises(WireError):
        read_reply(Frame(Kind.REPLY, 1, body, []))


LARGE = b"0123456789abcdef" * (MIN_SEGMENT_BYTES // 8)


@pytest.mark.parametrize(
    ("value", "is_large"),
    [
        (b"small", False),
        (LARGE, True),
        (bytearray(LARGE), True),
        ([LARGE, "beside"], True),
        ("x" * MIN_SEGMENT_BYTES, True),
        (list(range(200_000)), True),
        ({"a": (1, None)}, False),
    ],
    ids=["small", "bytes", "bytearray", "inside a list", "text", "numbers", "dict"],
)
def test_payload_round_trip(value: Any, is_large: bool) -> None:
    """Small in the frame, large beside it; the same object either way."""
    packed = pack(value)
    assert (packed.segment is not None) == is_large
    assert len(packed.data) < MIN_SEGMENT_BYTES
    again = unpack(packed)
    assert again == value
    assert type(again) is type(value)


def test_buffers_are_views_that_belong_to_the_receiver() -> None:
    """A PickleBuffer arrives without a copy, and what the receiver writes is its own."""
    packed = pack_call((pickle.PickleBuffer(bytearray(LARGE)), 1), {})
    ((view, one),) = unpack(packed)
    assert one == 1
    assert isinstance(view, memoryview)
    assert view == LARGE
    view[0] = 0
    ((second, _),) = unpack(packed)
    assert second[0] == LARGE[0]


def test_buffers_that_are_not_contiguous_travel_inside() -> None:
    """Rare, and not worth a special way."""
    view = memoryview(bytearray(LARGE))[::2]
    with pytest.raises(pickle.PicklingError):
        pack(pickle.PickleBuffer(view))


def test_file_that_is_not_sealed_is_refused() -> None:
    """Its sender could cut it while it is mapped, which would kill this process."""
    fd = os.memfd_create("loose")
    os.ftruncate(fd, 64)
    with pytest.raises(ValueError, match="not sealed"):
        unpack(Packed(struct.pack("<Q", 10), Segment(fd)))


def test_file_of_another_size_is_refused() -> None:
    """The lengths in the frame are checked against the file."""
    packed = pack(LARGE)
    for data in (struct.pack("<Q", 1 << 40), b""):
        with pytest.raises(ValueError, match="not of the announced size"):
            unpack(Packed(data, packed.segment))


def test_sealed_file_cannot_be_changed() -> None:
    """By neither side, as long as it exists."""
    packed = pack(LARGE)
    assert packed.segment is not None
    with pytest.raises(OSError, match="permitted"):
        os.pwrite(packed.segment.fd, b"x", 0)
    with pytest.raises(OSError, match="permitted"):
        os.ftruncate(packed.segment.fd, 0)
    assert fcntl.fcntl(packed.segment.fd, 1034) & 0x0F == 0x0F


def test_without_descriptors_large_payloads_travel_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no file can be made the frame carries everything, as on systems that have no such
    files.
    """

    def refuse(*_: object) -> int:
        raise OSError("no descriptors")

    monkeypatch.setattr(os, "memfd_create", refuse)
    packed = pack(LARGE)
    assert packed.segment is None
    assert unpack(packed) == LARGE
    reader = FrameReader()
    left, right = socket.socketpair()
    with left, right:
        data = frame(Kind.DONE, 1, packed.data)
        left.setblocking(False)
        received: list[Frame] = []
        while not received:
            data = data[left.send(data) :] if data else data
            received = reader.feed(right.recv(65536))
    assert received[0].body == packed.data


async def test_descriptors_come_with_their_own_frame() -> None:
    """Also where the kernel cuts what it delivers exactly between the frames before them and
    theirs.
    """
    loop = asyncio.get_running_loop()
    segment = Segment(os.memfd_create("test"))
    left, right = socket.socketpair()
    with left, right:
        socket.send_fds(left, [bytes(MAX_JOINED_BYTES)], [segment.fd])
        first_cut = len(receive(right)[0])
    left, right = socket.socketpair()
    received: list[Frame] = []
    lost: asyncio.Queue[str] = asyncio.Queue()
    sender = Channel(loop, left, received.append, lambda *_: None)
    receiver = Channel(loop, right, received.append, lambda reason, _: lost.put_nowait(reason))
    header = len(frame(Kind.REPLY, 1))
    sender.send(frame(Kind.REPLY, 1, bytes(first_cut - header)))
    sender.send(frame(Kind.REPLY, 2, descriptors=1), [segment])
    sender.send(frame(Kind.REPLY, 3))
    sender.flush()
    sender.shut_down_sending()
    assert await lost.get() == "closed by the other side"
    sender.close()
    receiver.close()
    assert [(found.id, len(found.segments)) for found in received] == [(1, 0), (2, 1), (3, 0)]
