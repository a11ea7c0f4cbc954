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
from ..diffusion.replay import Replayed
from ..diffusion.sampling import follow, noise_like

TEACHER_STEPS = 2
"""Of a teacher within each window, two calls each."""

Examples = tuple[Tensor, tuple[Tensor, ...]]
"""Clean samples (N, C, H, W), and the tensors that they are conditioned on."""
Conditioned = Callable[..., Denoiser]
"""Puts a network together with those tensors."""


class Objective(Protocol):
    """What a network learns from samples."""

    @property
    def calls(self) -> int | None:
        """How often the network is called for a sample; None where that is free."""

    @property
    def scheduler(self) -> DPMSolverMultistepScheduler:
        """What samples with it."""

    def loss(self, conditioned: Conditioned, network: nn.Module, given: Examples, generator: torch.Generator) -> Tensor:
        """Loss of a network on examples, which lie on its device."""


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

    def loss(self, conditioned: Conditioned, network: nn.Module, given: Examples, generator: torch.Generator) -> Tensor:
        """Mean squared error of the velocity."""
        clean, condition = given
        sigma = logit_normal_sigmas(len(clean), generator, self.sigma_mean)
        noise = noise_like(clean, generator)
        return flow_matching_loss(conditioned(network, *condition), clean, noise, sigma.to(clean.device))


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
        self._replayed: Replayed | None = None

    @property
    def scheduler(self) -> DPMSolverMultistepScheduler:
        """Straight steps from window to window."""
        return flow_scheduler(self.step_mean, straight=True)

    def loss(self, conditioned: Conditioned, network: nn.Module, given: Examples, generator: torch.Generator) -> Tensor:
        """Mean squared error of the velocity at the start of windows drawn at random."""
        clean, condition = given
        windows = torch.randint(self.calls, (len(clean),), generator=generator)
        start, end = (self._levels[windows + place].to(clean.device) for place in (0, 1))
        x = noisy(clean, noise_like(clean, generator), start)
        target = (x - self._led_to(conditioned, x, start, end, condition)) / (start - end).view(-1, 1, 1, 1)
        return F.mse_loss(conditioned(network, *condition)(x, start).float(), target)

    @torch.no_grad()
    def _led_to(
        self, conditioned: Conditioned, x: Tensor, start: Tensor, end: Tensor, condition: tuple[Tensor, ...]
    ) -> Tensor:
        """Where the teacher's flow leads from one noise level of each sample to another."""
        # `Module.to` costs nothing where it is already.
        teacher = self.teacher.to(x.device)

        def lead(x: Tensor, start: Tensor, end: Tensor, *condition: Tensor) -> Tensor:
            return follow(conditioned(teacher, *condition), x, start, end, TEACHER_STEPS)

        if not x.is_cuda:
            return lead(x, start, end, *condition)
        self._replayed = self._replayed or Replayed(lead)
        return self._replayed(x, start, end, *condition)


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
