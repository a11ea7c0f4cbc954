"""Sampling with the schedulers of diffusers, and the noise of each case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from numpy.random import SeedSequence
from torch import Tensor

from .objective import Denoiser


def case_noise(seed: int, case: int, stream: int, shape: Sequence[int]) -> Tensor:
    """Standard normal noise that depends on (seed, case, stream) alone, made on the CPU.

    Args:
        seed: of the run, 0 or more.
        case: number of the case.
        stream: tells apart the draws of one case, such as mask and image.
        shape: of the result.
    """
    # SeedSequence mixes the three numbers, so that neighbouring cases share nothing.
    state = int(SeedSequence([seed, case, stream]).generate_state(1, "uint64")[0])
    generator = torch.Generator("cpu").manual_seed(state & (2**63 - 1))
    return torch.randn(tuple(shape), generator=generator)


def noise_like(samples: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of the shape, device and memory format of samples, from a generator of the CPU."""
    if samples.is_cuda:
        # A step waits longer for as many numbers of the processor than for its network.
        own = torch.Generator(samples.device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return torch.empty_like(samples).normal_(generator=own)
    return torch.empty_like(samples).copy_(torch.randn(samples.shape, generator=generator))


def sample(
    denoiser: Denoiser,
    noise: Tensor,
    scheduler: Any,
    steps: int,
    check: Callable[[], None] = lambda: None,
) -> Tensor:
    """Follow the flow from noise to data.

    Args:
        denoiser: velocity of a sample at noise levels (N,).
        noise: (N, C, H, W), standard normal, on the device to be used.
        scheduler: of diffusers, configured for flow prediction.
        steps: steps of the scheduler.
        check: called before each step; may raise to cancel.

    Returns:
        The sample, shape of `noise`, float32.
    """
    # On the CPU, where all that the scheduler reckons are single numbers: the device is never waited for.
    scheduler.set_timesteps(steps)
    # Else it looks the first time step up, and of two that are rounded alike it takes the second.
    scheduler.set_begin_index(0)
    x = noise
    sigmas = scheduler.sigmas.tolist()
    for index, timestep in enumerate(scheduler.timesteps):
        check()
        # The scheduler's own sigma, since its time steps are rounded to whole numbers.
        level = torch.full((len(x),), sigmas[index], device=x.device)
        velocity = denoiser(x, level).float()
        x = scheduler.step(velocity, timestep, x, return_dict=False)[0]
    return x


def follow(denoiser: Denoiser, x: Tensor, start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Follow the flow from one noise level to a lower one, by the midpoint rule: two calls a step.

    Args:
        denoiser: velocity of a sample at noise levels (N,).
        x: samples (N, C, H, W).
        start, end: noise levels (N,) of each sample.
        steps: of one length each.
    """
    length = (end - start) / steps
    for index in range(steps):
        level = start + index * length
        halfway = x + denoiser(x, level).float() * (length / 2).view(-1, 1, 1, 1)
        x = x + denoiser(halfway, level + length / 2).float() * length.view(-1, 1, 1, 1)
    return x


def guided(conditional: Denoiser, unconditional: Denoiser, scale: float) -> Denoiser:
    """Classifier-free guidance (Ho and Salimans 2022): away from what comes when nothing is asked.

    Args:
        conditional, unconditional: velocities with and without the attributes.
        scale: 1 is no guidance; more makes the attributes stronger.
    """
    if scale == 1:
        return conditional

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        plain = unconditional(x, sigma)
        return plain + scale * (conditional(x, sigma) - plain)

    return denoiser
