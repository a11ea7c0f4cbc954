"""The training objective: flow matching (Lipman et al. 2023) along straight paths from data to noise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""Velocity (N, C, H, W) of a noisy sample (N, C, H, W) at noise levels (N,)."""


def logit_normal_sigmas(count: int, generator: torch.Generator, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Noise levels (count,) in 0..1 that dwell in the middle (Esser et al. 2024), on the CPU."""
    return torch.sigmoid(mean + std * torch.randn(count, generator=generator))


def noisy(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """(1 - sigma) clean + sigma noise."""
    level = sigma.view(-1, 1, 1, 1)
    return (1 - level) * clean + level * noise


def flow_matching_loss(denoiser: Denoiser, clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Mean squared error of the velocity, noise minus clean.

    Args:
        denoiser: the network, given sample and noise level.
        clean, noise: (N, C, H, W).
        sigma: (N,) in 0..1.
    """
    velocity = denoiser(noisy(clean, noise, sigma), sigma)
    return F.mse_loss(velocity.float(), noise - clean)
