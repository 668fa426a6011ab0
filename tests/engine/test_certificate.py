"""The verdict on a text from its margins."""

import math

import pytest
import torch

from engine.certificate import certify

NAN = float("nan")


@pytest.mark.parametrize(
    ("margins", "min_margin", "first_mismatch"),
    [
        ([0.5], 0.5, 1),
        ([3.0, 0.25, 2.0], 0.25, 3),
        ([3.0, -0.25, -2.0], -2.0, 1),
        ([-1.0, 2.0, 2.0], -1.0, 0),
        ([2.0, 2.0, -1.0], -1.0, 2),
        ([2.0, 0.0, 1.0], 0.0, 1),
        ([2.0, float("-inf"), 1.0], float("-inf"), 1),
    ],
)
def test_the_certificate_holds_the_worst_margin_and_the_first_mismatch(margins, min_margin, first_mismatch):
    certificate = certify(torch.tensor(margins))
    assert certificate == (min_margin, first_mismatch, len(margins))
    assert certificate.is_greedy == (min_margin > 0)


@pytest.mark.parametrize("margins", [[NAN, 1.0, 1.0], [1.0, NAN, 1.0], [1.0, 1.0, NAN], [-1.0, NAN, 1.0]])
def test_nan_certifies_nothing(margins):
    certificate = certify(torch.tensor(margins))
    assert math.isnan(certificate.min_margin)
    assert not certificate.is_greedy
    assert certificate.first_mismatch == next(t for t, margin in enumerate(margins) if not margin > 0)


def test_the_larger_smallest_margin_is_better():
    worse, better = certify(torch.tensor([9.0, -0.5])), certify(torch.tensor([0.1, 0.1]))
    assert better.is_better_than(worse) and better.is_better_than(None)
    assert not worse.is_better_than(better) and not better.is_better_than(better)
