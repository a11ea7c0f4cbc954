"""Quality against the number of network calls, for images and for masks, by every scheduler of diffusers that fits.

.venv/bin/python Testing/benchmarks/calls.py --data ACDC --output FOLDER --models TEACHER,acdc-128,... [--count 256]

The first model's masks, made in its own number of calls, get images from the same noise each time, so that points of a
curve differ by nothing but the calls. Images: Frechet and kernel distance, recall and coverage as `evaluate` reckons
them, adherence, and the mean difference of grey levels from the first model's images of most calls. Masks: share that
passes the anatomical criteria, Wasserstein-1 ratios of the shape quantities, and Dice with the masks of most calls.
Each finished point stays in FOLDER/points; start it again to go on. A model that fixes its number of calls is measured
at that one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from speed_report import figure, machine, markdown

from cardiac_diffusion_aug.attributes import Attributes
from cardiac_diffusion_aug.bundle import GENERATOR, load_bundle
from cardiac_diffusion_aug.datasets import read_cases
from cardiac_diffusion_aug.datasets.pack import pack_cases
from cardiac_diffusion_aug.datasets.splits import Split
from cardiac_diffusion_aug.devices import on_device
from cardiac_diffusion_aug.diffusion.sampling import case_noise, sample
from cardiac_diffusion_aug.evaluation.evaluate import projected, slice_dices
from cardiac_diffusion_aug.evaluation.fidelity import compare
from cardiac_diffusion_aug.evaluation.plots import draw_curves
from cardiac_diffusion_aug.evaluation.report import Curves
from cardiac_diffusion_aug.evaluation.sections import failed_criteria, shape_section
from cardiac_diffusion_aug.evaluation.sets import SliceSet, real_set
from cardiac_diffusion_aug.generation import FIRST_IMAGE_STREAM, MASK_STREAM, Generator, attribute_rows, image_noise
from cardiac_diffusion_aug.labels import dice_of_structures
from cardiac_diffusion_aug.networks.image_denoiser import one_hot
from cardiac_diffusion_aug.outlines import CHANNELS, masks_of
from cardiac_diffusion_aug.preview import contact_sheet
from cardiac_diffusion_aug.segmentation import Segmenter
from cardiac_diffusion_aug.slices import GRID_SIZE, LabelArray

SEED = 7
SHEET = 12
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
SCHEDULERS: dict[str, Callable[[float], Any]] = {
    "DPM-Solver++ (2M)": lambda shift: diffusers.DPMSolverMultistepScheduler(**FLOW, flow_shift=shift),
    "Euler": lambda shift: diffusers.DPMSolverMultistepScheduler(**FLOW, flow_shift=shift, solver_order=1),
    "UniPC": lambda shift: diffusers.UniPCMultistepScheduler(**FLOW, flow_shift=shift),
}
TAUGHT = "as taught"
IMAGES, MASKS = "images", "masks"
PARTS = {IMAGES: "image", MASKS: "mask"}
"""Names of a bundle's networks and schedulers."""
COLUMNS = {
    IMAGES: ("frechet", "kernel", "recall", "coverage", "dice", "difference"),
    MASKS: ("passes", "w1_largest", "w1_median", "dice"),
}


@dataclass(frozen=True)
class Point:
    """One number of calls of one model by one scheduler."""

    kind: str
    model: str
    scheduler: str
    calls: int

    @property
    def file(self) -> str:
        words = (self.kind, Path(self.model).name, self.scheduler, str(self.calls))
        return "-".join("".join(c for c in word if c.isalnum()) for word in words)


class Bench:
    """The models, the real slices and what is common to all points.

    Args:
        data: real patients.
        models: names or folders; the first makes the masks.
        count: of cases.
        most: calls whose results the others are compared with.
        folder: of the results.
    """

    def __init__(self, data: Path, models: Sequence[str], count: int, most: int, folder: Path) -> None:
        self.generators = {name: Generator(load_bundle(name, GENERATOR)) for name in models}
        self.count, self.most, self.folder = count, most, folder
        self._networks: dict[tuple[str, str], Any] = {}
        self.first = models[0]
        first = self.generators[self.first]
        split = Split.from_dict(first.bundle.info["training"]["image_denoiser"]["facts"]["split"])
        pack = pack_cases(read_cases(data)[1])
        self.training, self.unseen = (real_set(pack.of_patients(part)) for part in (split.train, split.validation))
        self.attributes = [first.attributes_of(SEED, case, Attributes()) for case in range(count)]
        self.masks = self._kept("masks", lambda: np.stack(first.masks(SEED, range(count), Attributes())))
        self.segmenter = Segmenter()
        self.real = self._kept("real", lambda: self.segmenter.look(self.unseen.images)[1])

    def points(self, calls: Sequence[int], schedulers: Sequence[str]) -> list[Point]:
        """All that are to be measured, those of most calls of the first model first."""
        found = []
        for kind, part in PARTS.items():
            option = f"{part}_steps"
            for name, generator in self.generators.items():
                if option in generator.bundle.fixed_calls:
                    found.append(Point(kind, name, TAUGHT, int(generator.bundle.default(option))))
                else:
                    found += [Point(kind, name, scheduler, n) for scheduler in schedulers for n in calls]
        return sorted(
            found, key=lambda p: (p.kind, p.model != self.first, p.scheduler != next(iter(SCHEDULERS)), -p.calls)
        )

    def measured(self, point: Point) -> dict[str, Any]:
        """The figures of a point."""
        path = self.folder / "points" / f"{point.file}.json"
        if path.is_file():
            found: dict[str, Any] = json.loads(path.read_bytes())
            return found
        self._network(point)
        begun = time.perf_counter()
        made = self._images(point) if point.kind == IMAGES else self._masks(point)
        seconds = (time.perf_counter() - begun) / self.count
        np.savez_compressed(path.with_suffix(".npz"), made=made)
        figures = self._of_images(made) if point.kind == IMAGES else self._of_masks(made)
        row = {**vars(point), "model": Path(point.model).name, **figures, "seconds": seconds}
        path.write_text(json.dumps(row) + "\n")
        return row

    def made(self, point: Point) -> Any:
        """What was made for a point."""
        return np.load(self.folder / "points" / f"{point.file}.npz")["made"]

    def _images(self, point: Point) -> Any:
        classes = one_hot(torch.from_numpy(self.masks))
        noise = (image_noise(SEED, case, FIRST_IMAGE_STREAM) for case in range(self.count))
        made = [self._sampled(point, case, x, classes[[case]])[0, 0].numpy() for case, x in enumerate(noise)]
        return np.clip(np.stack(made), -1, 1).astype(np.float16)

    def _masks(self, point: Point) -> LabelArray:
        shape = (CHANNELS, GRID_SIZE // 2, GRID_SIZE // 2)
        noise = (case_noise(SEED, case, MASK_STREAM, shape) for case in range(self.count))
        return np.stack([masks_of(self._sampled(point, case, x))[0] for case, x in enumerate(noise)])

    @torch.inference_mode()
    def _sampled(self, point: Point, case: int, noise: torch.Tensor, classes: torch.Tensor | None = None) -> Any:
        """A sample (1, C, H, W) from the noise of a case, for the one-hot mask (1, 4, 128, 128) of an image."""
        generator, network = self.generators[point.model], self._network(point)

        def placed(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(generator.device, memory_format=torch.channels_last)

        with torch.autocast(generator.device.type, torch.bfloat16, enabled=generator.bfloat16):
            rows = attribute_rows(self.attributes[case : case + 1]).to(generator.device)
            known = {} if classes is None else {"modulation": network.modulation(placed(classes))}
            denoiser = partial(network, attributes=rows, **known)
            return sample(denoiser, placed(noise[None]), self._scheduler(point), point.calls).float().cpu()

    def _network(self, point: Point) -> Any:
        """That of a point's model for images or masks, made once."""
        key = (point.model, PARTS[point.kind])
        if key not in self._networks:
            generator = self.generators[point.model]
            network = generator.bundle.network(f"{PARTS[point.kind]}_denoiser")
            self._networks[key] = on_device(network, generator.device, generator.bfloat16)
        return self._networks[key]

    def _of_images(self, made: Any) -> dict[str, float]:
        images = made.astype(np.float32)
        labels, features = self.segmenter.look(images)
        a, b = projected(np.asarray(self.real, float), np.asarray(features, float))
        found = compare(a, self.unseen.patients, b, SEED)
        dice = slice_dices({"labels": labels, "features": features}, self.masks)
        shares = {name: found[name].ratio for name in ("frechet", "kernel", "recall", "coverage")}
        difference = np.abs(images - self._of_most(IMAGES).astype(np.float32)).mean() * 127.5
        return {**shares, "dice": float(np.nanmean(np.nanmean(dice, axis=0))), "difference": float(difference)}

    def _of_masks(self, made: LabelArray) -> dict[str, float]:
        shown = made[made.any(axis=(1, 2))]
        names = np.array([str(index) for index in range(len(shown))])
        rows = attribute_rows(self.attributes[: len(shown)]).numpy()
        one = SliceSet(shown.astype(np.float32), shown, names, names, rows, np.zeros(len(shown), np.intp))
        section = shape_section(one, self.training, self.unseen, SEED)
        ratios = [f.value for f in section.figures if f.key.startswith("w1_") and f.value is not None]
        most = self._of_most(MASKS)
        dice = [dice_of_structures(a, b) for a, b in zip(made, most, strict=True)]
        return {
            "passes": float(np.mean([not failed for failed in failed_criteria(shown)])) * len(shown) / len(made),
            "w1_largest": float(np.nanmax(ratios)),
            "w1_median": float(np.nanmedian(ratios)),
            "dice": float(np.nanmean(np.nanmean(np.array(dice, float), axis=0))),
        }

    def _of_most(self, kind: str) -> Any:
        return self.made(Point(kind, self.first, next(iter(SCHEDULERS)), self.most))

    def _scheduler(self, point: Point) -> Any:
        own = self.generators[point.model].bundle.scheduler(f"{PARTS[point.kind]}_scheduler")
        return own if point.scheduler == TAUGHT else SCHEDULERS[point.scheduler](own.config.flow_shift)

    def _kept(self, name: str, make: Callable[[], Any]) -> Any:
        path = self.folder / "points" / f"{name}.npy"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, make())
        return np.load(path)


def table(rows: Sequence[dict[str, Any]], kind: str) -> str:
    """Rows of one kind in Markdown."""
    cells: dict[str, Callable[[dict[str, Any]], str]] = {
        "model": lambda row: row["model"],
        "scheduler": lambda row: row["scheduler"],
        "calls": lambda row: str(row["calls"]),
    }
    for name in (*COLUMNS[kind], "seconds"):
        cells[name.replace("_", " ")] = lambda row, name=name: figure(row[name])  # type: ignore[misc]
    return markdown(cells, [row for row in rows if row["kind"] == kind])


def curves(rows: Sequence[dict[str, Any]], kind: str, name: str) -> Curves:
    """A figure against the calls, a line for each model and scheduler."""
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for row in sorted(rows, key=lambda row: row["calls"]):
        if row["kind"] == kind:
            x, y = lines.setdefault(f"{row['model']}, {row['scheduler']}", ([], []))
            x.append(row["calls"])
            y.append(row[name])
    ticks = sorted({row["calls"] for row in rows})
    return Curves(name, "network calls", name.replace("_", " "), lines, ticks=ticks)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--models",
        required=True,
        help="the first, which may make any number of calls, is what others are compared with",
    )
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--calls", default="1,2,4,8,16,50")
    parser.add_argument("--schedulers", type=int, default=len(SCHEDULERS), help="so many of them, the usual one first")
    options = parser.parse_args()
    calls = sorted(int(word) for word in options.calls.split(","))
    bench = Bench(options.data, options.models.split(","), options.count, calls[-1], options.output)
    rows = []
    for point in bench.points(calls, list(SCHEDULERS)[: max(1, options.schedulers)]):
        rows.append(bench.measured(point))
        print(json.dumps(rows[-1]), flush=True)
        if point.kind == IMAGES:
            tiles = zip(bench.made(point)[:SHEET].astype(np.float32), bench.masks[:SHEET], strict=True)
            contact_sheet(list(tiles), options.output / f"{point.file}.png")
        else:
            contact_sheet(
                [(None, mask) for mask in bench.made(point)[: 2 * SHEET]], options.output / f"{point.file}.png"
            )
    for kind, columns in COLUMNS.items():
        for name in columns:
            (options.output / f"{kind}-{name}.png").write_bytes(draw_curves(curves(rows, kind, name)))
    where = machine(next(iter(bench.generators.values())).device, GRID_SIZE)
    told = {"machine": where, "seed": SEED, "count": options.count, "points": rows}
    (options.output / "calls.json").write_text(json.dumps(told, indent=1) + "\n")
    text = "\n\n".join(f"{kind}, {options.count} cases, seed {SEED}:\n\n{table(rows, kind)}" for kind in COLUMNS)
    (options.output / "calls.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
