"""Memory shared with Triton is allocated without overlaps, and all of it is freed."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from bandstand.runners.triton_memory import Arena, may_share

SIZE = 64 * 1024


def test_places_never_overlap_and_all_come_back() -> None:
    memory = mmap.mmap(-1, SIZE)
    arena = Arena("region", memory)
    rng = np.random.default_rng(0)
    placed = []
    for step in range(500):
        if placed and rng.random() < 0.5:
            place, array = placed.pop(int(rng.integers(len(placed))))
            there = np.frombuffer(memory, np.float32, array.size, place.offset)
            np.testing.assert_array_equal(there, array)
            arena.give_back(place)
        array = np.full(int(rng.integers(1, 3000)), step, np.float32)
        place = arena.place(array)
        if place is not None:
            assert place.offset % 64 == 0
            assert place.offset + place.size <= SIZE
            placed.append((place, array))
    for place, array in placed:
        there = np.frombuffer(memory, np.float32, array.size, place.offset)
        np.testing.assert_array_equal(there, array)
        arena.give_back(place)
    whole = np.zeros(SIZE, np.uint8)
    assert arena.place(whole) is not None, "the gaps have become one again"


def test_what_finds_no_room_is_not_placed() -> None:
    arena = Arena("region", mmap.mmap(-1, SIZE))
    half = np.zeros(SIZE // 2, np.uint8)
    first = arena.place(half)
    assert first is not None
    assert arena.place(half) is not None
    assert arena.place(half[:1]) is None
    arena.give_back(first)
    assert arena.place(half[:1]) is not None


@pytest.mark.parametrize(
    ("mode", "url", "shares"),
    [
        ("auto", "127.0.0.1:8001", True),
        ("auto", "localhost:8001", True),
        ("auto", "[::1]:8001", True),
        ("auto", "unix:/run/triton", True),
        ("auto", "10.0.0.7:8001", False),
        ("auto", "triton:8001", False),
        ("on", "triton:8001", True),
        ("off", "127.0.0.1:8001", False),
    ],
)
def test_memory_is_shared_only_with_this_host(mode: str, url: str, shares: bool) -> None:
    assert may_share(mode, url) == shares
