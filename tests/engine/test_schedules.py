"""Schedules at their ends, in the middle and past the end."""

import pytest

from engine.schedules import DECAYS, cosine_schedule, decay_schedule, linear_schedule


@pytest.mark.parametrize("name", DECAYS)
def test_a_decay_starts_at_its_start_and_never_rises(name):
    values = [decay_schedule(name, 3.0, 0.5, 11)(step) for step in range(17)]
    assert values[0] == 3.0
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(("name", "end"), [("constant", 3.0), ("cosine", 0.5), ("linear", 0.5)])
def test_a_decay_stays_at_its_end(name, end):
    schedule = decay_schedule(name, 3.0, 0.5, 11)
    assert schedule(11) == schedule(1000) == pytest.approx(end)


@pytest.mark.parametrize(("schedule", "quarter"), [(linear_schedule, 6.0), (cosine_schedule, 4 + 4 * 0.5**0.5)])
def test_the_shape_between_the_ends_is_its_formula(schedule, quarter):
    assert schedule(8.0, 0.0, 12)(6) == pytest.approx(4.0)
    assert schedule(8.0, 0.0, 12)(3) == pytest.approx(quarter)


@pytest.mark.parametrize("schedule", [cosine_schedule, linear_schedule])
def test_a_schedule_over_no_steps_is_refused(schedule):
    with pytest.raises(ValueError, match="num_steps = 0"):
        schedule(1.0, 0.0, 0)


def test_an_unknown_decay_is_refused():
    with pytest.raises(KeyError, match="exponential"):
        decay_schedule("exponential", 1.0, 0.0, 10)
