"""Reading bodies: one limit for every way to send them, and room for every caller."""

from __future__ import annotations

import gzip
import io
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import RequestEntityTooLarge

from custsvc.http.asked import Admitted
from custsvc.http.intake import IN_MEMORY, encoding_of, take
from custsvc.http.problems import Problem
from custsvc.serve.bodies import SPOOL_MAX, Overloaded, Room, asking_most
from tests.waiting import until

LIMIT = 1024 * 1024


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def taken(data: bytes, limit: int = LIMIT, encoding: str = "gzip", size: int = 65536) -> bytes:
    file, length = take(cut(data, size), limit, encoding)
    with file:
        content = file.read()
    assert len(content) == length
    return content


@given(
    st.lists(st.binary(max_size=3000) | st.integers(0, 200_000).map(bytes), max_size=5),
    st.integers(1, 70_000),
)
def test_compressed_data_decode_to_the_original_in_any_pieces_and_members(
    members: list[bytes], size: int
) -> None:
    sent = b"".join(gzip.compress(each) for each in members) or gzip.compress(b"")

    assert taken(sent, size=size) == b"".join(members)


@pytest.mark.parametrize("limit", [0, 1, 65535, 65536, 65537, 200_000])
@pytest.mark.parametrize("size", [1000, 65536])
def test_the_limit_is_the_same_for_what_comes_and_for_what_it_decodes_to(limit: int, size: int) -> None:
    for encoding, made in (("", bytes), ("gzip", lambda n: gzip.compress(bytes(n)))):
        if encoding and len(made(limit)) > limit:
            continue  # what is sent would be too long by itself
        assert len(taken(made(limit), limit, encoding, size)) == limit
        with pytest.raises(RequestEntityTooLarge):
            taken(made(limit + 1), limit, encoding, size)


def bombs() -> dict[str, bytes]:
    flat = gzip.compress(bytes(50 * LIMIT))
    return {
        "a thousand times as long": flat,
        "a bomb in a second member": gzip.compress(b"x") + flat,
        "many members": gzip.compress(bytes(40_000)) * 2000,
        "members of nothing": gzip.compress(b"") * 50_000,
        "a long header": b"\x1f\x8b\x08\x10\0\0\0\0\0\x03" + b"n" * 2 * LIMIT,
    }


@pytest.mark.parametrize("name", list(bombs()))
def test_a_bomb_is_refused_before_it_takes_memory(name: str) -> None:
    bomb = bombs()[name]
    tracemalloc.start()

    with pytest.raises((RequestEntityTooLarge, Problem)):
        taken(bomb)

    assert tracemalloc.get_traced_memory()[1] < 2 * LIMIT
    tracemalloc.stop()


whole = gzip.compress(b'{"name": "Ada"}')
NO_GZIP = {
    "plain": b'{"name": "Ada"}',
    "nothing": b"",
    "cut off": whole[:-1],
    "cut off in its data": whole[:14],
    "only a magic number": whole[:2],
    "a wrong checksum": whole[:-8] + bytes(4) + whole[-4:],
    "a wrong length": whole[:-4] + bytes(4),
    "deflate": zlib.compress(b'{"name": "Ada"}'),
    "something after it": whole + b"x",
    "zeros after it": whole + bytes(20),
}


@pytest.mark.parametrize("name", list(NO_GZIP))
def test_a_body_that_is_not_gzip_is_refused(name: str) -> None:
    with pytest.raises(Problem) as refused:
        taken(NO_GZIP[name])

    assert refused.value.status == 400


@pytest.mark.parametrize("said", ["", " ", "identity", "Identity", "gzip", "GZIP", " gzip ", "x-gzip"])
def test_gzip_and_no_encoding_are_taken(said: str) -> None:
    assert encoding_of({"HTTP_CONTENT_ENCODING": said}) == ("gzip" if "zip" in said.lower() else "")


@pytest.mark.parametrize(
    "said",
    ["br", "zstd", "deflate", "compress", "gzip, gzip", "gzip,br", "identity, gzip", "*", "gzip;q=1", "é"],
)
def test_any_other_encoding_is_415_with_the_encodings_there_are(said: str) -> None:
    with pytest.raises(Problem) as refused:
        encoding_of({"HTTP_CONTENT_ENCODING": said})

    assert refused.value.status == 415
    assert ("Accept-Encoding", "gzip") in refused.value.headers


def test_a_long_body_is_kept_in_a_file_and_a_short_one_in_memory() -> None:
    short, _ = take(iter([bytes(IN_MEMORY)]), LIMIT, "")
    long, _ = take(iter([bytes(IN_MEMORY), b"x"]), LIMIT, "")

    with short, long:
        assert isinstance(short._file, io.BytesIO)  # type: ignore[attr-defined]
        assert not isinstance(long._file, io.BytesIO)  # type: ignore[attr-defined]


# -- room


def fill(room: Room, who: Admitted) -> int:
    """How many bodies of this caller are waited for until there is no room for more."""
    count = 0
    while True:
        try:
            room.claim(who)
        except Overloaded:
            return count
        count += 1


@given(st.lists(st.sampled_from("abc") | st.sampled_from("xyz"), min_size=1, max_size=4, unique=True))
def test_whoever_takes_all_they_can_leaves_room_for_another(callers: list[str]) -> None:
    room = Room(256)

    for caller in callers:
        # Strangers share theirs, so a second one may find none of it left.
        assert fill(room, Admitted(caller, 1, stranger=caller in "xyz")) > 0 or caller in "xyz"
    assert fill(room, Admitted("another", 1)) > 0


def test_strangers_together_take_a_part_of_the_room_and_each_a_small_one() -> None:
    room = Room(256)

    counts = [fill(room, Admitted(f"address {number}", 1, stranger=True)) for number in range(100)]

    assert max(counts) == 16
    assert sum(counts) == 64
    assert fill(room, Admitted("key 1", 1)) == 144


def test_a_check_of_a_sender_waits_for_its_turn_while_checks_end_and_is_refused_when_they_do_not() -> None:
    room, ended = Room(8), threading.Event()

    def check(worth_waiting: Callable[[float], bool]) -> bool:
        try:
            with room.asking(worth_waiting):
                return ended.wait(120)
        except Overloaded:
            return False

    with ThreadPoolExecutor(12) as threads:
        checks = [threads.submit(check, lambda _: True) for _ in range(10)]
        until("all places are taken", lambda: room._asking == asking_most(8))
        assert not threads.submit(check, lambda _: False).result(120)
        ended.set()
        assert all(each.result(120) for each in checks)
    assert room._asking == 0


def test_room_is_given_back_and_nothing_is_kept_of_callers_that_left() -> None:
    room = Room(8)
    for number in range(100):
        who = Admitted(f"address {number}", 1, stranger=True)
        room.claim(who)
        room.spool(who.caller, 1000)
        room.unspool(who.caller, 1000)
        room.unclaim(who)

    assert fill(room, Admitted("key 1", 1)) == 6
    assert list(room._by) == ["key 1"]
    assert not room._spooled


def test_files_of_waiting_bodies_are_bounded_for_all_and_for_each() -> None:
    room, taken = Room(8), {"a": 0, "b": 0}
    for caller in taken:
        with pytest.raises(Overloaded):
            while True:
                room.spool(caller, 1024 * 1024)
                taken[caller] += 1024 * 1024

    assert taken["a"] == SPOOL_MAX * 3 // 4
    assert 0 < taken["b"] < SPOOL_MAX // 4
