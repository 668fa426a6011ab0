"""The steps of an attempt, kept within a bound."""

import numpy as np
import torch

from engine.trajectory import LARGEST, MOST_FRAMES, Trajectory


def of(num_steps: int, num_tokens: int = 3) -> Trajectory:
    trajectory = Trajectory()
    for step in range(num_steps):
        trajectory.add(step, torch.full((num_tokens,), step / 100))
    return trajectory.end()


def test_a_short_attempt_is_kept_whole():
    assert of(5).steps == [0, 1, 2, 3, 4] and len(of(5).frames) == 5


def test_a_long_one_keeps_its_first_and_last_step_and_even_steps_between():
    trajectory = of(10_000)
    assert MOST_FRAMES <= len(trajectory.steps) <= 2 * MOST_FRAMES + 1
    assert trajectory.steps[0] == 0 and trajectory.steps[-1] == 9_999
    assert len(set(np.diff(trajectory.steps[:-1]))) == 1


def test_margins_are_eighths_of_a_logit_and_no_number_is_the_lowest():
    trajectory = Trajectory()
    trajectory.add(0, torch.tensor([0.5, -0.125, 99.0, float("nan"), float("-inf")]))
    assert list(np.frombuffer(trajectory.frames[0], np.int8)) == [4, -1, LARGEST, -LARGEST, -LARGEST]
