"""Arrivals are Poisson and seeded, the order of clips too, and a percentile is a measured value."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from bandstand_loadtest.clips import ClipStatistics, shuffled
from bandstand_loadtest.measure import percentile
from bandstand_loadtest.schedule import poisson_arrivals
from tests.load_tests import clips

RATE, SECONDS = 50.0, 400.0


def test_arrivals_have_the_statistics_of_a_poisson_process() -> None:
    times = poisson_arrivals(RATE, SECONDS, fewest=1, seed=3)
    expected = RATE * SECONDS
    assert abs(len(times) - expected) < 4 * np.sqrt(expected)
    gaps = np.diff(times)
    assert (gaps > 0).all()
    assert gaps.mean() == pytest.approx(1 / RATE, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.03)  # exponential
    assert np.mean(gaps > 2 / RATE) == pytest.approx(np.exp(-2), abs=0.01)
    per_second, _ = np.histogram(times, bins=int(SECONDS), range=(0, SECONDS))
    assert per_second.var() / per_second.mean() == pytest.approx(1.0, abs=0.25)
    # No memory: one gap says nothing about the next.
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.03


def test_arrivals_are_seeded_and_last_as_long_as_asked() -> None:
    times = poisson_arrivals(RATE, 10.0, fewest=1, seed=3)
    assert np.array_equal(times, poisson_arrivals(RATE, 10.0, fewest=1, seed=3))
    assert not np.array_equal(times[:100], poisson_arrivals(RATE, 10.0, fewest=1, seed=4)[:100])
    assert 9.0 < times[-1] < 10.0


def test_a_low_rate_gets_its_fewest_arrivals_by_taking_longer() -> None:
    times = poisson_arrivals(0.5, 2.0, fewest=100, seed=0)
    assert len(times) == 100
    assert times[-1] == pytest.approx(200.0, rel=0.4)


def test_every_pass_has_every_clip_in_another_seeded_order() -> None:
    recordings = clips(7)
    passes = [list(islice(shuffled(recordings, seed), 21)) for seed in (5, 5, 6)]
    assert passes[0] == passes[1] != passes[2]
    for start in (0, 7, 14):
        assert Counter(clip.name for clip in passes[0][start : start + 7]) == Counter(
            clip.name for clip in recordings
        )
    assert passes[0][:7] != passes[0][7:14]


def test_percentile_is_by_nearest_rank() -> None:
    values = np.arange(1.0, 201.0)
    assert [percentile(values, share) for share in (50, 90, 99, 99.9, 100)] == [
        *(100.0, 180.0, 198.0, 200.0, 200.0)
    ]
    assert percentile(np.array([7.0]), 99) == 7.0


def test_clips_are_counted_by_format_and_length() -> None:
    statistics = ClipStatistics.of(clips(3))
    assert statistics == ClipStatistics(3, 2.0, 2.0, 6.0, {"wav": 3})
