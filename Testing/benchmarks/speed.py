"""Sampling and training, ours beside peers: one run on one machine, same size, batch, threads and precision.

.venv/bin/python Testing/benchmarks/speed.py [--output FOLDER] [--device auto] [--precision auto] [--whole]

Each round measures every contender once, and the machine's matrix products and memory; what is told are medians.
A peer's 50 steps are `--calls` timed network calls with the scheduler's step, times 50 / calls, unless `--whole`; our
images are made whole always. Peers have random weights, on which speed does not depend, and the faster of two memory
layouts. Five rounds take some eight minutes and 6 GB on two cores. Close other programs. MONAI needs einops.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peers import Contender, ours, peers
from speed_bench import Bench, count_flops
from speed_report import Row, chart, interleaved, machine, summary, tables, with_ratios

from cardiac_diffusion_aug.bundle import DEFAULT_MODEL, GENERATOR, Bundle, load_bundle
from cardiac_diffusion_aug.devices import choose_device, use_bfloat16, with_cast_weights
from cardiac_diffusion_aug.generation import Generator
from cardiac_diffusion_aug.outlines import CHANNELS
from cardiac_diffusion_aug.slices import GRID_SIZE

OUR_STEPS = (1, 2, 4, 8, 12, 16, 50)
PRODUCTS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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


def peer_entries(bench: Bench, contenders: Sequence[Contender], steps: int, calls: int) -> list[Entry]:
    """Peers with DDIM, so many of its steps really run."""
    entries = []
    for peer in contenders:
        layout, flops = bench.place(peer), bench.flops(peer)
        total = flops["once"] + steps * flops["call"]
        run = partial(bench.calls, peer, steps, calls)
        entries.append(Entry(peer.name, str(steps), layout, flops["call"], total, run))
    return entries


def our_entries(bench: Bench, bundle: Bundle, steps: Sequence[int]) -> list[Entry]:
    """Ours with the modulation recomputed, then cached at each number of steps."""
    shipped, scheduler = int(bundle.default("image_steps")), bundle.scheduler("image_scheduler")
    cached, uncached = ours(bundle)
    placed = [(contender, bench.place(contender), bench.flops(contender)) for contender in (uncached, cached)]
    if bench.bfloat16:
        # As `Generator` does; both are one network.
        with_cast_weights(cached.network)
    entries = []
    for contender, layout, flops in placed:
        for count in [shipped] if contender is uncached else sorted({*steps, shipped}):
            name = contender.name + (", as shipped" if contender is cached and count == shipped else "")
            total = flops["once"] + count * flops["call"]
            run = bench.sampler(contender, scheduler, count)
            entries.append(Entry(name, str(count), layout, flops["call"], total, run))
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

    # Batches of a CPU grow from a small first one.
    count = 3 * generator.largest_batch

    def run() -> float:
        begun = bench.now()
        list(generator.generate(count))
        return (bench.now() - begun) * bench.batch / count

    run()
    calls = f"{generator.mask_steps} + {generator.steps}"
    flops = generator.mask_steps * mask_flops + image.flops
    return Entry("ours, mask and image, as shipped", calls, image.layout, None, flops, run)


def compare_sampling(
    bench: Bench, entries: Sequence[Entry], repeats: int, product: str
) -> tuple[dict[str, float], list[Row]]:
    """What the machine can do, and seconds for an image by every entry.

    Returns:
        Medians: FLOP/s of matrix products by type, and bytes/s of memory as `bandwidth`; the rows, with shares of the
        rate of the type `product`.
    """
    tasks: dict[str, Callable[[], float]] = {name: partial(bench.product, dtype) for name, dtype in PRODUCTS.items()}
    tasks["bandwidth"] = bench.bandwidth
    limits = list(tasks)
    tasks.update({f"{each.name}, {each.calls}": each.run for each in entries})
    measured = interleaved(tasks, repeats)
    rates = {name: statistics.median(measured.pop(name)) for name in limits}
    rows = [
        summary(
            each.name,
            [batch / bench.batch for batch in seconds],
            each.flops,
            rates[product],
            calls=each.calls,
            layout=each.layout,
            gflop_per_call=None if each.flops_per_call is None else each.flops_per_call / 1e9,
        )
        for each, seconds in zip(entries, measured.values(), strict=True)
    ]
    return rates, with_ratios(rows)


def compare_training(bench: Bench, contenders: Sequence[Contender], repeats: int, product: str) -> list[Row]:
    """Seconds for a training sample by every contender, placed before."""
    # Again, since a machine may grow warm or busy between the two comparisons.
    tasks: dict[str, Callable[[], float]] = {product: partial(bench.product, PRODUCTS[product])}
    for contender in contenders:
        contender.network.train()
        optimizer = torch.optim.AdamW(contender.network.parameters(), 1e-4)
        tasks[contender.name] = partial(bench.training_step, contender, optimizer)
        tasks[contender.name]()
    measured = interleaved(tasks, repeats)
    limit = statistics.median(measured[product])
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


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All that is told, for JSON."""
    device = choose_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    if device.type == "cuda":
        # As convolutions are by default, so that the rate of products in float32 is of the same units.
        torch.set_float32_matmul_precision("high")
    bfloat16 = use_bfloat16(options.precision, device)
    images, samples = (1, 4) if device.type == "cpu" else (16, 16)
    facts = machine(device, GRID_SIZE)
    bench = Bench(device, bfloat16, options.batch or images)
    training = Bench(device, bfloat16, options.training_batch or samples)
    bundle = load_bundle(options.model, GENERATOR)
    product = "bfloat16" if bfloat16 else "float32"
    contenders = peers()
    entries = peer_entries(
        bench, contenders, options.peer_steps, options.peer_steps if options.whole else options.calls
    )
    entries += our_entries(bench, bundle, options.steps)
    shipped = next(each for each in entries if each.name == "ours, as shipped")
    entries.append(pair_entry(bench, bundle, shipped))
    rates, sampling = compare_sampling(bench, entries, options.repeats, product)
    contenders.append(ours(bundle)[0])
    training.place(contenders[-1])
    return {
        "machine": facts,
        "options": {
            "precision": product,
            "batch": bench.batch,
            "training_batch": training.batch,
            **{name: getattr(options, name) for name in ("repeats", "calls", "whole", "peer_steps")},
        },
        "limits": rates,
        "sampling": sampling,
        "training": compare_training(training, contenders, options.repeats, product),
    }


def main() -> None:
    """Print tables, and write all with a chart."""
    options = parsed()
    result = measure(options)
    print(tables(result))
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "speed.json").write_text(json.dumps(result, indent=2) + "\n")
        chart(result, options.output / "speed.png")


if __name__ == "__main__":
    main()
