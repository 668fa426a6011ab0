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
    assert certificate[:3] == (min_margin, first_mismatch, len(margins))
    assert certificate.is_greedy == (min_margin > 0)
    assert certificate.accuracy == sum(margin > 0 for margin in margins) / len(margins)


def test_the_certificate_holds_the_mean_cross_entropy():
    margin_T, nll_T = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.25, 0.5, 3.0])
    assert certify(margin_T, nll_T).mean_nats == 1.25
    assert math.isnan(certify(margin_T).mean_nats)


@pytest.mark.parametrize(("num_measured", "first_mismatch"), [(1, 1), (3, 3), (5, 5)])
def test_a_prefix_certifies_nothing_until_it_is_the_whole_text(num_measured, first_mismatch):
    certificate = certify(torch.ones(num_measured), num_tokens=5)
    assert (certificate.first_mismatch, certificate.num_tokens) == (first_mismatch, 5)
    assert certificate.is_greedy == (num_measured == 5)
    assert certificate.accuracy == 1


@pytest.mark.parametrize("margins", [[NAN, 1.0, 1.0], [1.0, NAN, 1.0], [1.0, 1.0, NAN], [-1.0, NAN, 1.0]])
def test_nan_certifies_nothing(margins):
    certificate = certify(torch.tensor(margins))
    assert math.isnan(certificate.min_margin)
    assert not certificate.is_greedy
    assert certificate.first_mismatch == next(t for t, margin in enumerate(margins) if not margin > 0)
    assert certificate.accuracy == sum(margin > 0 for margin in margins) / len(margins)
