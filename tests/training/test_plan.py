"""Schedules, and the chunks they are cut into."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlab.config import ConfigError
from attnlab.training.plan import EVENTS, default_chunk_steps, make_plan
from attnlab.training.record import at, every, log_spaced

TOTALS = st.integers(1, 3000)


@st.composite
def problems(draw):
    """A run's length, its schedules, and how it is cut."""
    total = draw(TOTALS)
    one = st.one_of(
        st.integers(1, 2 * total).map(every),
        st.integers(2, 300).map(log_spaced),
        st.lists(st.integers(0, total), min_size=1, max_size=40).map(at),
    )
    schedules = draw(st.dictionaries(st.sampled_from("abcd"), one, min_size=1))
    return schedules, total, draw(st.integers(1, 1500)), draw(st.sampled_from([1, 2, 7, EVENTS]))


@given(problems())
def test_every_due_step_is_recorded_once_and_every_step_is_done_once(problem):
    schedules, total, chunk_steps, max_events = problem
    plan = make_plan(schedules, total, chunk_steps, max_events)
    done, seen = 0, {name: [] for name in schedules}
    for gaps, flags, end in zip(plan.gaps, plan.flags, plan.ends, strict=True):
        begun = done
        for gap, due in zip(gaps, flags, strict=True):
            assert gap >= 0
            done += int(gap)
            for name, flag in zip(plan.names, due, strict=True):
                seen[name] += [done] if flag else []
        assert done == end and done - begun <= chunk_steps
    assert done == total
    for name, schedule in schedules.items():
        assert seen[name] == schedule.at(total).tolist()
        assert np.concatenate(plan.steps[name]).tolist() == seen[name]
        assert 1 <= plan.slots(name) <= max_events
        # The rows of a chunk are those that its flags announce, so that slot k of the buffer is row k.
        assert [len(rows) for rows in plan.steps[name]] == plan.flags[:, :, plan.names.index(name)].sum(1).tolist()
    assert all(a < b for a, b in pairwise(plan.ends)) and plan.gaps.shape[1] <= max_events


@given(problems())
def test_the_same_arguments_give_the_same_plan(problem):
    one, two = make_plan(*problem), make_plan(*problem)
    for name in ("gaps", "flags", "ends"):
        assert np.array_equal(getattr(one, name), getattr(two, name))


@given(st.integers(1, 5000), TOTALS)
def test_every(interval, total):
    steps = every(interval).at(total)
    assert steps[0] == 0 and steps[-1] == total
    assert set(np.diff(steps)[:-1]) <= {interval} and np.diff(steps)[-1] <= interval


@given(st.integers(2, 400), TOTALS)
def test_log_spaced(count, total):
    steps = log_spaced(count).at(total)
    assert steps[0] == 0 and steps[-1] == total and 2 <= len(steps) <= count
    assert np.all(np.diff(steps) > 0)
    # Even in log: neighbours differ by one factor, up to the rounding of both to whole steps (half a step each).
    if len(spaced := steps[1:]) == count - 1 > 2:
        factor = total ** (1 / (count - 2))
        assert np.all(np.abs(spaced[1:] - factor * spaced[:-1]) <= 0.5 + 0.5 * factor + 1e-9 * spaced[1:])


def test_at_sorts_and_merges():
    assert at([5, 1, 5]).at(9).tolist() == [1, 5] and at(3).at(3).tolist() == [3]


@dataclass(frozen=True)
class Odd:
    """A user's schedule that is wrong."""

    steps: object

    def of(self, model, params):
        return params

    def at(self, total):
        return self.steps


@pytest.mark.parametrize("steps", [[], [-1, 3], [3, 11], [1.5], [[1, 2]]])
def test_a_schedule_outside_the_run_is_an_error(steps):
    with pytest.raises(ConfigError, match=r"record\['odd'\].*0\.\.10"):
        make_plan({"odd": Odd(steps)}, 10, 5)


@pytest.mark.parametrize("make", [lambda: every(0), lambda: every(2.5), lambda: log_spaced(1), lambda: at([]).at(3)])
def test_a_schedule_of_nothing_is_an_error(make):
    with pytest.raises(ConfigError, match="allowed is"):
        make()


@given(st.integers(1, 10**6))
def test_chunks_are_neither_tiny_nor_endless(total):
    assert 100 <= default_chunk_steps(total) <= 1000
