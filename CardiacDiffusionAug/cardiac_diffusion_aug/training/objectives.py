"""What a network learns from noisy samples: the flow itself, or to follow a teacher's flow in a few calls."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from ..diffusion.objective import Denoiser, flow_matching_loss, logit_normal_sigmas, noisy
from ..diffusion.sampling import follow

TEACHER_STEPS = 2
"""Of a teacher within each window, two calls each."""

Conditioned = Callable[[nn.Module], Denoiser]
"""Puts a network together with what the samples are conditioned on."""


class Objective(Protocol):
    """What a network learns from samples."""

    @property
    def calls(self) -> int | None:
        """How often the network is called for a sample; None where that is free."""

    @property
    def scheduler(self) -> DPMSolverMultistepScheduler:
        """What samples with it."""

    def loss(self, conditioned: Conditioned, network: nn.Module, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of a network on clean samples (N, C, H, W), which lie on its device."""


class Flow:
    """Flow matching with logit-normal noise levels.

    Args:
        sigma_mean: where training dwells: half of it above the noise level sigmoid(sigma_mean).
        step_mean: the same of the steps of sampling.
    """

    calls = None

    def __init__(self, sigma_mean: float, step_mean: float) -> None:
        self.sigma_mean, self.step_mean = sigma_mean, step_mean

    @property
    def scheduler(self) -> DPMSolverMultistepScheduler:
        """DPM-Solver++ (2M)."""
        return flow_scheduler(self.step_mean)

    def loss(self, conditioned: Conditioned, network: nn.Module, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the velocity."""
        sigma = logit_normal_sigmas(len(clean), generator, self.sigma_mean)
        noise = torch.randn(clean.shape, generator=generator)
        return flow_matching_loss(conditioned(network), clean, _like(clean, noise), sigma.to(clean.device))


class FewCalls:
    """Progressive distillation (Salimans and Ho, ICLR 2022) in one go.

    The noise levels are cut into as many windows as there are calls. At the start of each the student learns the
    velocity whose straight line ends where the teacher's flow leads by the end of the window, so that it passes
    through the teacher's samples and keeps their variety.

    Args:
        teacher: whose flow is followed; its weights stay.
        calls: of the student for a sample.
        step_mean: where the windows gather: half of them above the noise level sigmoid(step_mean).
    """

    def __init__(self, teacher: nn.Module, calls: int, step_mean: float) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.calls = calls
        self.step_mean = step_mean
        scheduler = self.scheduler
        scheduler.set_timesteps(calls)
        self._levels = scheduler.sigmas.float()

    @property
    def scheduler(self) -> DPMSolverMultistepScheduler:
        """Straight steps from window to window."""
        return flow_scheduler(self.step_mean, straight=True)

    def loss(self, conditioned: Conditioned, network: nn.Module, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the velocity at the start of windows drawn at random."""
        windows = torch.randint(self.calls, (len(clean),), generator=generator)
        start, end = (self._levels[windows + place].to(clean.device) for place in (0, 1))
        noise = torch.randn(clean.shape, generator=generator)
        x = noisy(clean, _like(clean, noise), start)
        with torch.no_grad():
            # `Module.to` costs nothing where it is already.
            led_to = follow(conditioned(self.teacher.to(clean.device)), x, start, end, TEACHER_STEPS)
            target = (x - led_to) / (start - end).view(-1, 1, 1, 1)
        return F.mse_loss(conditioned(network)(x, start).float(), target)


def flow_scheduler(step_mean: float, straight: bool = False) -> DPMSolverMultistepScheduler:
    """DPM-Solver++ for flow matching, half of its steps above the noise level sigmoid(step_mean).

    Args:
        step_mean: 0 for even steps.
        straight: first order, which goes straight along each velocity; else second order (2M).
    """
    return DPMSolverMultistepScheduler(
        use_flow_sigmas=True,
        prediction_type="flow_prediction",
        flow_shift=round(math.exp(step_mean), 3),
        solver_order=1 if straight else 2,
    )


def _like(clean: Tensor, noise: Tensor) -> Tensor:
    """Noise on the device and in the memory format of the samples."""
    return torch.empty_like(clean).copy_(noise)
