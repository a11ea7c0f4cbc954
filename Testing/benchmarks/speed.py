"""Sampling and training, ours beside peers: one run on one machine, same size, batch, threads and precision.

.venv/bin/python Testing/benchmarks/speed.py [--output FOLDER] [--device auto] [--precision auto] [--repeats 5] [--whole]

Each round measures every contender once, and the machine's matrix products and memory; medians over rounds are told.
A peer's 50 steps are `--calls` timed network calls with the scheduler's step, times 50 / calls, unless `--whole`; our
images are made whole always. It takes some minutes and 6 GB on a CPU. Close other programs. Needs einops, for MONAI.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peers import Contender, ours, peers
from speed_report import Row, chart, interleaved, machine, summary, tables, with_ratios
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cardiac_diffusion_aug.bundle import DEFAULT_MODEL, GENERATOR, Bundle, load_bundle
from cardiac_diffusion_aug.devices import choose_device, use_bfloat16
from cardiac_diffusion_aug.diffusion.objective import flow_matching_loss
from cardiac_diffusion_aug.diffusion.sampling import sample
from cardiac_diffusion_aug.generation import Generator
from cardiac_diffusion_aug.networks.blocks import UNKNOWN
from cardiac_diffusion_aug.networks.image_denoiser import one_hot
from cardiac_diffusion_aug.outlines import CHANNELS
from cardiac_diffusion_aug.slices import GRID_SIZE

OUR_STEPS = (1, 2, 4, 8, 12, 16, 50)
PRODUCTS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
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
        labels = torch.randint(0, 4, (batch, GRID_SIZE, GRID_SIZE), generator=torch.Generator().manual_seed(0))
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

    @torch.inference_mode()
    def images(self, contender: Contender, scheduler: Any, steps: int) -> float:
        """Seconds in which our sampler makes a batch."""
        begun = self.now()
        with self.autocast():
            prepared = contender.prepare(contender.network, self.mask)
            sample(
                lambda x, s: contender.predict(contender.network, x, s, prepared), self.noise, scheduler, steps
            )
        return self.now() - begun

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
        return flow_matching_loss(
            lambda x, s: contender.predict(network, x, s, prepared), mask[:, :1], noise, times
        )

    def _placed(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, memory_format=torch.channels_last)


def limits(bench: Bench, repeats: int) -> dict[str, float]:
    """What the machine can do: FLOP/s of matrix products by type, and bytes/s of memory as `bandwidth`."""
    tasks = {name: partial(bench.product, dtype) for name, dtype in PRODUCTS.items()}
    measured = interleaved({**tasks, "bandwidth": bench.bandwidth}, repeats)
    return {name: statistics.median(rates) for name, rates in measured.items()}


@dataclass(frozen=True)
class Entry:
    """A line of the table of sampling: what is run, and what it costs.

    Attributes:
        name: as in the table.
        calls: of networks for one image.
        layout: memory format.
        flops_per_call: of the network; None where there are several.
        flops: for one image.
        run: makes a batch and returns the seconds.
    """

    name: str
    calls: str
    layout: str
    flops_per_call: float | None
    flops: float
    run: Callable[[], float]


def entry(bench: Bench, contender: Contender, name: str, steps: int, run: Callable[[], float]) -> Entry:
    """The entry of a contender that makes images of given masks."""
    layout, flops = bench.place(contender), bench.flops(contender)
    return Entry(name, str(steps), layout, flops["call"], flops["once"] + steps * flops["call"], run)


def our_entries(bench: Bench, bundle: Bundle, steps: Sequence[int]) -> list[Entry]:
    """Ours with the modulation recomputed, then cached at each number of steps."""
    shipped, scheduler = int(bundle.default("image_steps")), bundle.scheduler("image_scheduler")
    cached, uncached = ours(bundle)
    entries = []
    for contender, counts in ((uncached, [shipped]), (cached, sorted({*steps, shipped}))):
        for count in counts:
            name = contender.name + (", as shipped" if contender is cached and count == shipped else "")
            run = partial(bench.images, contender, scheduler, count)
            entries.append(entry(bench, contender, name, count, run))
        # The shapes of a first call are prepared for, which no other waits for.
        bench.images(contender, scheduler, 2)
    return entries


def pair_entry(bench: Bench, bundle: Bundle, image: Entry) -> Entry:
    """A mask and its image, as `Generator` makes them for users; `image` is the entry of the image alone."""
    precision = "bf16" if bench.bfloat16 else "fp32"
    generator = Generator(bundle, str(bench.device), precision, batch_size=bench.batch)
    size = GRID_SIZE // 2
    sample_, sigma, attributes = (
        torch.zeros(shape, device="meta") for shape in ((1, CHANNELS, size, size), (1,), (1, 3))
    )
    mask_flops = count_flops(bundle.network("mask_denoiser"), lambda network: network(sample_, sigma, attributes))

    def run() -> float:
        begun = bench.now()
        list(generator.generate(bench.batch))
        return bench.now() - begun

    run()
    calls = f"{generator.mask_steps} + {generator.steps}"
    flops = generator.mask_steps * mask_flops + image.flops
    return Entry("ours, mask and image, as shipped", calls, image.layout, None, flops, run)


def compare_sampling(bench: Bench, bundle: Bundle, options: argparse.Namespace, limit: float) -> list[Row]:
    """Seconds for an image by every contender, and for a pair by ours: no peer makes masks."""
    steps = options.peer_steps
    calls = steps if options.whole else options.calls
    entries = [
        entry(bench, peer, peer.name, steps, partial(bench.calls, peer, steps, calls)) for peer in options.peers
    ]
    entries += our_entries(bench, bundle, options.steps)
    shipped = next(each for each in entries if each.name == "ours, as shipped")
    entries.append(pair_entry(bench, bundle, shipped))
    measured = interleaved({f"{each.name}, {each.calls}": each.run for each in entries}, options.repeats)
    return with_ratios(
        [
            summary(
                each.name,
                [batch / bench.batch for batch in seconds],
                each.flops,
                limit,
                calls=each.calls,
                layout=each.layout,
                gflop_per_call=None if each.flops_per_call is None else each.flops_per_call / 1e9,
            )
            for each, seconds in zip(entries, measured.values(), strict=True)
        ]
    )


def compare_training(bench: Bench, contenders: Sequence[Contender], repeats: int, limit: float) -> list[Row]:
    """Seconds for a training sample by every contender."""
    tasks = {}
    for contender in contenders:
        contender.network.train()
        optimizer = torch.optim.AdamW(contender.network.parameters(), 1e-4)
        tasks[contender.name] = partial(bench.training_step, contender, optimizer)
        tasks[contender.name]()
    measured = interleaved(tasks, repeats)
    rows = []
    for contender in contenders:
        seconds = [step / bench.batch for step in measured[contender.name]]
        rows.append(summary(contender.name, seconds, bench.flops(contender)["training"], limit))
    return with_ratios(rows)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder of ours")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of all contenders")
    parser.add_argument("--threads", type=int, help="of the CPU; by default as torch has it")
    parser.add_argument("--batch", type=int, help="images at a time; by default 1 on a CPU, 16 on a GPU")
    parser.add_argument("--training-batch", type=int, help="by default 4 on a CPU, 16 on a GPU")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--calls", type=int, default=5, help="timed network calls of a peer")
    parser.add_argument("--whole", action="store_true", help="run all steps of the peers")
    parser.add_argument("--peer-steps", type=int, default=50, help="DDIM steps of the peers")
    parser.add_argument("--steps", type=int, nargs="+", default=OUR_STEPS, help="ours, beside the shipped number")
    parser.add_argument("--output", type=Path, help="folder for speed.json and speed.png")
    options = parser.parse_args()
    numbers = [options.repeats, options.calls, options.peer_steps, *options.steps]
    numbers += [n for n in (options.threads, options.batch, options.training_batch) if n is not None]
    if min(numbers) < 1:
        parser.error("numbers of rounds, calls, steps, threads and images are 1 or more")
    return options


def main() -> None:
    """Measure, print tables, and write them with a chart."""
    options = parsed()
    device = choose_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    if device.type == "cuda":
        # As convolutions are by default, so that matrix products in float32 measure the same units.
        torch.set_float32_matmul_precision("high")
    bfloat16 = use_bfloat16(options.precision, device)
    small, large = (1, 4) if device.type == "cpu" else (16, 16)
    facts = machine(device, GRID_SIZE)
    bench = Bench(device, bfloat16, options.batch or small)
    training = Bench(device, bfloat16, options.training_batch or large)
    bundle = load_bundle(options.model, GENERATOR)
    options.peers = peers()
    rates = limits(bench, options.repeats)
    limit = rates["bfloat16" if bfloat16 else "float32"]
    result = {
        "machine": facts,
        "options": {
            "precision": "bfloat16" if bfloat16 else "float32",
            "batch": bench.batch,
            "training_batch": training.batch,
            **{name: getattr(options, name) for name in ("repeats", "calls", "whole", "peer_steps")},
        },
        "limits": rates,
        "sampling": compare_sampling(bench, bundle, options, limit),
        "training": compare_training(training, [*options.peers, ours(bundle)[0]], options.repeats, limit),
    }
    print(tables(result))
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "speed.json").write_text(json.dumps(result, indent=2) + "\n")
        chart(result, options.output / "speed.png")


if __name__ == "__main__":
    main()
