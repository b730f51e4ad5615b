"""A process that ends at every start is replaced less and less often; others at once."""

from __future__ import annotations

from bandstand_bentos.respawn import LONGEST_PAUSE_SECONDS, SETTLED_SECONDS, RespawnPauses


def test_pauses_double_up_to_the_longest() -> None:
    pauses = RespawnPauses()
    seen = [pauses.ended(0.0, now=float(n)) for n in range(9)]
    assert seen == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert not pauses.may_start(8.0 + LONGEST_PAUSE_SECONDS - 0.01)
    assert pauses.may_start(8.0 + LONGEST_PAUSE_SECONDS)


def test_a_process_that_was_ready_for_long_is_replaced_at_once() -> None:
    pauses = RespawnPauses()
    for now in range(0, 100, 10):  # killed again and again, as soon as it has settled
        assert pauses.ended(SETTLED_SECONDS, now=float(now)) == 0
        assert pauses.may_start(float(now))


def test_a_long_life_ends_the_series() -> None:
    pauses = RespawnPauses()
    for _ in range(4):
        pauses.ended(1.0, now=0.0)
    assert pauses.ended(60.0, now=0.0) == 0
    assert pauses.ended(0.0, now=0.0) == 0.5
