"""One device, precision and batch for all networks that `speed.py` compares, and how each is timed and counted."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from peers import Contender
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cardiac_diffusion_aug.diffusion.objective import flow_matching_loss
from cardiac_diffusion_aug.diffusion.replay import Replayed
from cardiac_diffusion_aug.diffusion.sampling import sample
from cardiac_diffusion_aug.labels import NUM_CLASSES
from cardiac_diffusion_aug.networks.image_denoiser import one_hot
from cardiac_diffusion_aug.slices import GRID_SIZE

TRAIN_TIMESTEPS = 1000


def count_flops(network: nn.Module, call: Callable[[nn.Module], Any]) -> float:
    """Floating-point operations of a call, counted on a copy without memory; tensors in it must be of device `meta`."""
    ghost = copy.deepcopy(network).to("meta")
    with FlopCounterMode(display=False) as counter:
        call(ghost)
    return float(counter.get_total_flops())


class Bench:
    """Where and how all contenders run, and what they are given.

    Args:
        device: of all.
        bfloat16: whether under autocast to bfloat16.
        batch: images at a time.
    """

    def __init__(self, device: torch.device, bfloat16: bool, batch: int) -> None:
        self.device, self.bfloat16, self.batch = device, bfloat16, batch
        labels = torch.randint(
            0, NUM_CLASSES, (batch, GRID_SIZE, GRID_SIZE), generator=torch.Generator().manual_seed(0)
        )
        self.mask = self._placed(one_hot(labels))
        self.noise = self._placed(torch.randn(batch, 1, GRID_SIZE, GRID_SIZE))
        self.times = torch.rand(batch).to(device)

    def now(self) -> float:
        """The clock, once the device is done."""
        torch.get_device_module(self.device).synchronize()
        return time.perf_counter()

    def autocast(self) -> torch.autocast:
        """The precision of all contenders."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def place(self, contender: Contender) -> str:
        """Bring a network to the device, in its layout or the faster one, and say which."""
        layouts = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}
        if contender.layout is not None:
            layouts = {name: layout for name, layout in layouts.items() if layout == contender.layout}
        seconds = {}
        for name, layout in [*layouts.items()] if len(layouts) > 1 else []:
            contender.network.to(self.device, memory_format=layout)  # type: ignore[call-overload]
            seconds[name] = self.calls(contender, 50, 2)
        best = min(seconds, key=lambda name: seconds[name], default=next(iter(layouts)))
        contender.network.to(self.device, memory_format=layouts[best])  # type: ignore[call-overload]
        return best

    @torch.inference_mode()
    def calls(self, contender: Contender, steps: int, calls: int) -> float:
        """Seconds that DDIM takes for a batch in so many steps, from so many calls after one of warm-up."""
        from diffusers import DDIMScheduler

        scheduler = DDIMScheduler(TRAIN_TIMESTEPS)
        scheduler.set_timesteps(steps)
        timesteps = scheduler.timesteps.tolist()

        def advanced(x: Tensor, timestep: int) -> Tensor:
            times = torch.full((len(x),), timestep, device=x.device)
            noise = contender.predict(contender.network, x, times, prepared).float()
            x = scheduler.step(noise, timestep, x, return_dict=False)[0]
            return x

        # One context over all calls, since it keeps the weights that it cast at the first.
        with self.autocast():
            prepared = contender.prepare(contender.network, self.mask)
            advanced(self.noise, timesteps[0])
            x = self.noise
            begun = self.now()
            for timestep in timesteps[:calls]:
                x = advanced(x, timestep)
            return (self.now() - begun) * steps / min(calls, steps)

    def sampler(self, contender: Contender, scheduler: Any, steps: int) -> Callable[[], float]:
        """What makes a batch as our generator does, recorded and replayed on a GPU, and returns the seconds."""

        def made(mask: Tensor, noise: Tensor) -> Tensor:
            with self.autocast():
                prepared = contender.prepare(contender.network, mask)
                predict = lambda x, s: contender.predict(contender.network, x, s, prepared)  # noqa: E731
                return sample(predict, noise, scheduler, steps)

        make = Replayed(made) if self.device.type == "cuda" else made

        @torch.inference_mode()
        def run() -> float:
            begun = self.now()
            make(self.mask, self.noise)
            return self.now() - begun

        run()
        return run

    def training_step(self, contender: Contender, optimizer: torch.optim.Optimizer) -> float:
        """Seconds of forward, backward and the optimizer. One objective for all: its cost is nothing beside."""
        begun = self.now()
        with self.autocast():
            loss = self._loss(contender, contender.network, self.mask, self.noise, self.times)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return self.now() - begun

    def flops(self, contender: Contender) -> dict[str, float]:
        """Operations for one image: `once`, at each `call`, and in a `training` step."""
        mask, noise, times = (t[:1].to("meta") for t in (self.mask, self.noise, self.times))
        once = count_flops(contender.network, lambda network: contender.prepare(network, mask))
        both = count_flops(
            contender.network,
            lambda network: contender.predict(network, noise, times, contender.prepare(network, mask)),
        )
        training = count_flops(
            contender.network, lambda network: self._loss(contender, network, mask, noise, times).backward()
        )
        return {"once": once, "call": both - once, "training": training}

    def product(self, dtype: torch.dtype) -> float:
        """FLOP/s of a product of two square matrices."""
        size = 8192 if self.device.type == "cuda" else 2048
        a, b = (torch.randn(size, size, device=self.device).to(dtype) for _ in range(2))
        return 2 * size**3 / self._best(lambda: a @ b)

    def bandwidth(self) -> float:
        """Bytes read and written per second by a copy."""
        source = torch.zeros((1 << 30 if self.device.type == "cuda" else 1 << 28) // 4, device=self.device)
        target = torch.empty_like(source)
        return 2 * source.nbytes / self._best(lambda: target.copy_(source))

    def _best(self, run: Callable[[], Any], runs: int = 3) -> float:
        seconds = []
        run()
        for _ in range(runs):
            begun = self.now()
            run()
            seconds.append(self.now() - begun)
        return min(seconds)

    def _loss(self, contender: Contender, network: nn.Module, mask: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        prepared = contender.prepare(network, mask)
        return flow_matching_loss(lambda x, s: contender.predict(network, x, s, prepared), mask[:, :1], noise, times)

    def _placed(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, memory_format=torch.channels_last)
