"""Gaussian noise: its size, and that it follows its seed alone."""

import pytest
import torch

from engine.noise import gaussian_noise
from tests.engine.slow import seeded

R, D = 13, 101
SIGMA = 0.3
KINDS = pytest.mark.parametrize("is_sampled", [False, True], ids=["fixed", "sampled"])


def noise(seed, *, is_sampled, rows=R, sigma=SIGMA):
    return gaussian_noise(rows, D, sigma=sigma, is_sampled=is_sampled, generator=seeded(seed))


def test_fixed_noise_has_its_standard_deviation_and_no_mean():
    noise_RD = noise(1, is_sampled=False, rows=1009)
    n = noise_RD.numel()
    assert noise_RD.shape == (1009, D) and noise_RD.dtype == torch.float32
    assert noise_RD.std().item() == pytest.approx(SIGMA, abs=4 * SIGMA / (2 * n) ** 0.5)
    assert noise_RD.mean().item() == pytest.approx(0, abs=4 * SIGMA / n**0.5)


def test_a_sampled_scale_is_one_gaussian_number_for_all_rows():
    n = 2003
    scale_nR = torch.stack([noise(seed, is_sampled=True).square().mean(1).sqrt() for seed in range(n)]) / SIGMA
    scale_n = scale_nR.square().mean(1).sqrt()
    # All rows of a draw have its scale but for their own sampling error, 1 / sqrt(2 D).
    assert (scale_nR / scale_n[:, None]).std().item() == pytest.approx((2 * D) ** -0.5, rel=0.1)
    assert scale_n.square().mean().item() == pytest.approx(1, abs=4 * (2 / n) ** 0.5)
    within = 0.6827  # of N(0, 1), between -1 and 1
    assert (scale_n < 1).float().mean().item() == pytest.approx(within, abs=4 * (within * (1 - within) / n) ** 0.5)


@KINDS
def test_noise_grows_with_sigma_and_is_none_at_zero(is_sampled):
    torch.testing.assert_close(
        noise(1, is_sampled=is_sampled, sigma=2 * SIGMA), 2 * noise(1, is_sampled=is_sampled), rtol=1e-6, atol=0
    )
    assert (noise(1, is_sampled=is_sampled, sigma=0.0) == 0).all()


@KINDS
def test_noise_follows_its_random_stream_alone(is_sampled):
    before = torch.random.get_rng_state()
    first, again, other = (noise(seed, is_sampled=is_sampled) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)
