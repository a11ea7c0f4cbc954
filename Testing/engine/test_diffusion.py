"""The objective and the sampler, against flows whose solution is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cardiac_diffusion_aug.diffusion.objective import Denoiser, flow_matching_loss, logit_normal_sigmas, noisy
from cardiac_diffusion_aug.diffusion.sampling import case_noise, guided, sample
from cardiac_diffusion_aug.errors import Cancelled
from cardiac_diffusion_aug.training.objectives import flow_scheduler
from cardiac_diffusion_aug.training.tasks import IMAGE_STEP_MEAN, MASK_STEP_MEAN

SIGMA_MEANS = (MASK_STEP_MEAN, IMAGE_STEP_MEAN)
MEAN, STD = 0.4, 0.6
MODES, SPREAD = (-0.8, 0.8), 0.3
NOISE_3_7_1 = [-0.39034149, -0.47808233, 1.66793370]


def gaussian(x: Tensor, sigma: Tensor) -> Tensor:
    """Velocity for data that are N(MEAN, STD^2) in each pixel: the expected noise less the expected data."""
    s = sigma.view(-1, 1, 1, 1)
    surprise = (x - (1 - s) * MEAN) / ((1 - s) ** 2 * STD**2 + s**2)
    return s * surprise - (MEAN + (1 - s) * STD**2 * surprise)


def two_modes(x: Tensor, sigma: Tensor) -> Tensor:
    """Velocity for data that lie around either of two values in each pixel."""
    s = sigma.view(-1, 1, 1, 1)
    variance = (1 - s) ** 2 * SPREAD**2 + s**2
    surprises = [(x - (1 - s) * mode) / variance for mode in MODES]
    likely = torch.softmax(torch.stack([-(surprise**2) * variance / 2 for surprise in surprises]), 0)
    velocities = [s * r - (mode + (1 - s) * SPREAD**2 * r) for mode, r in zip(MODES, surprises, strict=True)]
    return likely[0] * velocities[0] + likely[1] * velocities[1]


NOISE = case_noise(0, 0, 0, (4, 1, 32, 32))


# Noise


def test_noise_depends_on_seed_case_and_stream_alone() -> None:
    torch.manual_seed(1)
    first = [case_noise(5, case, 1, (2, 8, 8)) for case in range(4)]
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = [case_noise(5, case, 1, [2, 8, 8]) for case in reversed(range(4))]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(again), strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_stays_the_same_from_version_to_version() -> None:
    # A case can be made again from its line in the manifest, so these values must never change.
    assert case_noise(3, 7, 1, (4, 4)).flatten()[:3].tolist() == pytest.approx(NOISE_3_7_1, abs=1e-5)


def test_neighbours_share_nothing() -> None:
    keys = [(s, c, t) for s in (0, 1, 2**32 - 1) for c in (0, 1, 2, 10**8) for t in (0, 1, 2)]
    draws = torch.stack([case_noise(*key, (4096,)) for key in keys])
    correlations = torch.corrcoef(draws) - torch.eye(len(keys))
    assert correlations.abs().max() < 6 / math.sqrt(4096)


def test_noise_is_standard_normal() -> None:
    draw = case_noise(0, 0, 0, (1000, 1000))
    assert draw.mean().abs() < 0.005
    assert draw.std() == pytest.approx(1, abs=0.005)
    assert (draw.abs() > 3).float().mean() == pytest.approx(0.0027, abs=3e-4)


# Objective


def test_noising_runs_straight_from_data_to_noise() -> None:
    clean, noise = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    result = noisy(clean, noise, torch.tensor([0.0, 1.0, 0.25]))
    assert torch.equal(result[0], clean[0])
    assert torch.equal(result[1], noise[1])
    torch.testing.assert_close(result[2], 0.75 * clean[2] + 0.25 * noise[2])


def test_the_true_velocity_has_no_loss() -> None:
    clean, noise, sigma = torch.randn(5, 1, 8, 8), torch.randn(5, 1, 8, 8), torch.rand(5)
    seen: list[tuple[Tensor, Tensor]] = []

    def denoiser(x: Tensor, s: Tensor) -> Tensor:
        seen.append((x, s))
        return noise - clean

    assert flow_matching_loss(denoiser, clean, noise, sigma) == 0
    ((x, s),) = seen
    assert torch.equal(x, noisy(clean, noise, sigma))
    assert torch.equal(s, sigma)


def test_another_velocity_has_its_squared_distance_as_loss() -> None:
    clean, noise, sigma = torch.randn(5, 1, 8, 8), torch.randn(5, 1, 8, 8), torch.rand(5)
    loss = flow_matching_loss(lambda x, s: (noise - clean + 0.5).bfloat16(), clean, noise, sigma)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(0.25, rel=0.02)


def test_the_best_guess_is_the_expected_velocity() -> None:
    # Over many draws no constant factor on the analytic velocity is better than one.
    generator = torch.Generator().manual_seed(0)
    clean = MEAN + STD * torch.randn(4096, 1, 4, 4, generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    sigma = logit_normal_sigmas(4096, generator)

    def loss(factor: float) -> float:
        return float(flow_matching_loss(lambda x, s: factor * gaussian(x, s), clean, noise, sigma))

    losses = [loss(factor) for factor in (0.95, 1, 1.05)]
    assert min(losses) == losses[1]


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.0, 1.0), (-0.5, 0.7)])
def test_noise_levels_are_logit_normal(mean: float, std: float) -> None:
    sigmas = logit_normal_sigmas(200_000, torch.Generator().manual_seed(0), mean, std)
    assert sigmas.min() > 0
    assert sigmas.max() < 1
    logits = torch.logit(sigmas.double())
    assert logits.mean() == pytest.approx(mean, abs=0.01)
    assert logits.std() == pytest.approx(std, abs=0.01)


def test_noise_levels_come_from_the_generator_alone() -> None:
    torch.manual_seed(0)
    first = logit_normal_sigmas(5, torch.Generator().manual_seed(4))
    torch.manual_seed(1)
    assert torch.equal(logit_normal_sigmas(5, torch.Generator().manual_seed(4)), first)


# Sampler


@pytest.mark.parametrize("sigma_mean", SIGMA_MEANS)
@pytest.mark.parametrize(("steps", "tolerance"), [(20, 0.05), (200, 0.01)])
def test_the_flow_of_a_gaussian_is_found(sigma_mean: float, steps: int, tolerance: float) -> None:
    made = sample(gaussian, NOISE, flow_scheduler(sigma_mean), steps)
    assert made.dtype == torch.float32
    # The flow of a Gaussian keeps each draw's distance from the mean in standard deviations.
    torch.testing.assert_close(made, MEAN + STD * NOISE, atol=tolerance, rtol=0)


@pytest.mark.parametrize("sigma_mean", SIGMA_MEANS)
@pytest.mark.parametrize("denoiser", [gaussian, two_modes])
def test_few_steps_agree_with_many(sigma_mean: float, denoiser: Denoiser) -> None:
    few, many = (sample(denoiser, NOISE, flow_scheduler(sigma_mean), steps) for steps in (20, 200))
    assert (few - many).abs().mean() < 0.05
    assert few.std() == pytest.approx(many.std().item(), rel=0.02)


@pytest.mark.parametrize("sigma_mean", SIGMA_MEANS)
@pytest.mark.parametrize("steps", [1, 2, 3, 999, 1000])
def test_any_number_of_steps_ends_at_the_data(sigma_mean: float, steps: int) -> None:
    levels: list[float] = []

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        assert sigma.shape == (2,)
        levels.append(float(sigma[0]))
        return x - 0.25

    scheduler = flow_scheduler(sigma_mean)
    made = sample(denoiser, NOISE[:2, :, :4, :4], scheduler, steps)
    assert len(levels) == steps
    assert levels == scheduler.sigmas[:-1].tolist(), "not its time steps, which are rounded"
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == pytest.approx(1, abs=1e-3)
    assert levels[-1] > 0
    assert made.isfinite().all()


@pytest.mark.parametrize("sigma_mean", SIGMA_MEANS)
def test_steps_are_dense_where_training_is(sigma_mean: float) -> None:
    scheduler = flow_scheduler(sigma_mean)
    scheduler.set_timesteps(201)
    assert scheduler.sigmas[100] == pytest.approx(1 / (1 + math.exp(-sigma_mean)), abs=0.01)


def test_a_scheduler_may_be_used_again() -> None:
    scheduler = flow_scheduler(0.5)
    first = sample(gaussian, NOISE, scheduler, 7)
    sample(two_modes, NOISE, scheduler, 5)
    assert torch.equal(sample(gaussian, NOISE, scheduler, 7), first)


def test_the_noise_itself_is_never_changed() -> None:
    before = NOISE.clone()
    sample(gaussian, NOISE, flow_scheduler(0.5), 3)
    assert torch.equal(NOISE, before)


def test_a_network_in_bfloat16_leaves_the_sample_in_float32() -> None:
    made = sample(lambda x, s: gaussian(x, s).bfloat16(), NOISE, flow_scheduler(0.5), 20)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made, MEAN + STD * NOISE, atol=0.05, rtol=0)


def test_a_check_comes_before_each_step() -> None:
    events: list[str] = []

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        events.append("step")
        return x

    sample(denoiser, NOISE, flow_scheduler(0.5), 4, lambda: events.append("check"))
    assert events == ["check", "step"] * 4


def test_a_check_ends_the_sampling() -> None:
    calls: list[Tensor] = []

    def check() -> None:
        if len(calls) == 2:
            raise Cancelled

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append(x)
        return x

    with pytest.raises(Cancelled):
        sample(denoiser, NOISE, flow_scheduler(0.5), 10, check)
    assert len(calls) == 2


# Guidance


def never(x: Tensor, sigma: Tensor) -> Tensor:
    raise AssertionError("not to be called")


def test_a_scale_of_one_is_the_conditional_alone() -> None:
    denoiser = guided(gaussian, never, 1)
    assert torch.equal(denoiser(NOISE, torch.full((4,), 0.5)), gaussian(NOISE, torch.full((4,), 0.5)))


@pytest.mark.parametrize(("scale", "expected"), [(0, 2.0), (0.5, 3.5), (1.5, 6.5), (3, 11.0)])
def test_a_scale_extrapolates(scale: float, expected: float) -> None:
    denoiser = guided(lambda x, s: x + 5, lambda x, s: x + 2, scale)
    assert denoiser(torch.zeros(1), torch.zeros(1)).item() == pytest.approx(expected)
