"""Cases from noise: masks first, then the image of each, one case at a time to the caller."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch
from torch import Tensor

from .attributes import GROUPS, PHASES, Attributes, balanced, drawn
from .bundle import DEFAULT_MODEL, GENERATOR, Bundle, load_bundle
from .devices import (
    choose_device,
    is_out_of_memory,
    on_device,
    samples_together,
    suggested_batch_size,
    use_bfloat16,
)
from .diffusion.replay import Replayed
from .diffusion.sampling import case_noise, guided, sample
from .errors import CardiacError
from .networks.blocks import UNKNOWN
from .networks.image_denoiser import one_hot
from .outlines import CHANNELS, REACH_MM, masks_of
from .slices import GRID_SIZE, GRID_SPACING, LabelArray

MASK_STREAM, FIRST_IMAGE_STREAM, ATTRIBUTE_STREAM, SHAPE_STREAM = 0, 1, 2**31, 2**31 + 1
KINDS = MASK, IMAGE = "mask", "image"
GPU_MASK_CHUNK = 32
GREY_LEVELS = 255

GreyArray = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class GeneratedCase:
    """A slice and its mask.

    Attributes:
        case: number of the mask within its seed.
        variation: number of the image among those of the same mask.
        seed: of the run.
        attributes: of the case: what was asked for, and what was drawn beside it.
        image: (128, 128) uint8; 0 and 255 stand for the 1st and 99th percentile of a scan around the heart.
        mask: (128, 128) uint8 labels: 0 background, 1 LV cavity, 2 myocardium, 3 RV cavity.
        spacing: pixel size along columns and rows, and slice thickness, in mm.
        draws: 1, and one more for each mask and each image of the case that failed a check.
        rejected: why the others failed.
        dice: agreement of what a segmenter finds in the image with the mask, by structure; empty where not checked.
    """

    case: int
    variation: int
    seed: int
    attributes: Attributes
    image: GreyArray
    mask: LabelArray
    spacing: tuple[float, float, float]
    draws: int = 1
    rejected: tuple[str, ...] = ()
    dice: Mapping[str, float] = field(default_factory=dict)

    def stacks(self) -> tuple[sitk.Image, sitk.Image]:
        """Image and mask as `SimpleITK` stacks of one slice, with spacing."""
        return tuple(self._stack(array) for array in (self.image, self.mask))  # type: ignore[return-value]

    def _stack(self, array: npt.NDArray[np.uint8]) -> sitk.Image:
        stack = sitk.GetImageFromArray(array[None])
        stack.SetSpacing(self.spacing)
        return stack


class Generator:
    """The two networks of a model on a device, ready to make cases.

    Args:
        model: name or folder of a model.
        device: `auto`, `cuda`, `mps`, `cpu`.
        precision: `bf16`, `fp32`, or `auto` for bfloat16 where it is fast.
        steps: network calls for an image; by default what the model was published with. Masks keep their own default.
        guidance_scale: strength of the attributes that are asked for; 1 is none.
        batch_size: images at a time, by default what fits into the memory of a GPU, or two for each thread of a CPU
            in bfloat16; in float32, where a batch gains nothing, a CPU makes one at a time. Cases do not depend on it.
        notify: told, in a sentence, of what changes on the way, such as a smaller batch.
        draw_attributes: whether attributes that are not asked for are drawn; see `attributes_of`.
        balance_groups: whether these are drawn with each diagnostic group as often as the others.
        vary_shape_mm: by how much at most endocardium, epicardium and RV are each moved out or in, at random, so that
            walls and cavities come in proportions that the training patients lack.

    Raises:
        CardiacError: the model or the device cannot be used.
    """

    def __init__(
        self,
        model: str | Path | Bundle = DEFAULT_MODEL,
        device: str = "auto",
        precision: str = "auto",
        steps: int | None = None,
        guidance_scale: float | None = None,
        batch_size: int | None = None,
        notify: Callable[[str], None] = lambda message: None,
        draw_attributes: bool = True,
        balance_groups: bool = False,
        vary_shape_mm: float = 0.0,
    ) -> None:
        self.bundle = model if isinstance(model, Bundle) else load_bundle(model, GENERATOR)
        self.device = choose_device(device)
        self.bfloat16 = use_bfloat16(precision, self.device)
        self.notify = notify
        self.configure(steps, guidance_scale, batch_size, draw_attributes, balance_groups, vary_shape_mm)
        networks = {kind: self.bundle.network(f"{kind}_denoiser") for kind in KINDS}
        self._networks: dict[str, Any] = {
            kind: on_device(network, self.device, self.bfloat16) for kind, network in networks.items()
        }
        self._schedulers = {kind: self.bundle.scheduler(f"{kind}_scheduler") for kind in KINDS}
        self._recordings: dict[str, tuple[object, Replayed]] = {}

    def configure(
        self,
        steps: int | None = None,
        guidance_scale: float | None = None,
        batch_size: int | None = None,
        draw_attributes: bool = True,
        balance_groups: bool = False,
        vary_shape_mm: float = 0.0,
    ) -> None:
        """Set all that needs no new networks; None is the model's or device's default.

        Raises:
            CardiacError: the model can make images in its own number of steps only.
        """
        self.draw_attributes, self.vary_shape_mm = draw_attributes, vary_shape_mm
        table = self.bundle.info["attributes"].get("table", [])
        self._table = balanced(table) if balance_groups else table
        self.mask_steps = int(self.bundle.default("mask_steps"))
        usual = int(self.bundle.default("image_steps"))
        if steps not in (None, usual) and "image_steps" in self.bundle.fixed_calls:
            raise CardiacError(
                f"The model {self.bundle.name} was taught to make an image in {usual} network calls, and {steps} would "
                "spoil it; leave --steps out, or use another model."
            )
        self.steps = int(steps or usual)
        self.guidance_scale = float(self.bundle.default("guidance_scale") if guidance_scale is None else guidance_scale)
        self._together = samples_together(self.device, self.bfloat16)
        self.largest_batch = int(batch_size or suggested_batch_size(self.device, self._together))
        self.batch_size = self.largest_batch
        if self.device.type == "cpu":
            # Kernels of a CPU round otherwise for other batch sizes, and a case must not depend on its neighbours.
            self.largest_batch = 1 if self._together == 1 else self._padded(self.largest_batch)
            # The first case is there sooner so, and whoever waits for it sits before a CPU.
            self.batch_size = self._together

    def generate(
        self,
        count: int,
        seed: int = 0,
        attributes: Attributes = Attributes(),  # noqa: B008 - immutable
        variations: int = 1,
        skip: Callable[[int, int], bool] = lambda case, variation: False,
        check: Callable[[], None] = lambda: None,
    ) -> Iterator[GeneratedCase]:
        """Masks from noise, and images for them.

        Args:
            count: number of masks.
            seed: 0 or more; case k of a seed is the same whatever the count and the batch size.
            attributes: asked of every case; the others are as `attributes_of` says.
            variations: images for each mask.
            skip: whether (case, variation) is not needed, as after a resume.
            check: called between steps; may raise to cancel.

        Yields:
            Cases in order of case and variation.
        """
        wanted = (pair for case in range(count) for pair in ((case, v) for v in range(variations)) if not skip(*pair))
        masks: dict[int, LabelArray] = {}
        for batch in _batches(wanted, lambda: self.batch_size):
            cases = dict.fromkeys(case for case, _ in batch)
            drawn_for = {case: self.attributes_of(seed, case, attributes) for case in cases}
            missing = [case for case in drawn_for if case not in masks]
            made = self.masks(seed, missing, attributes, check, own=[drawn_for[case] for case in missing])
            masks = {**masks, **dict(zip(missing, made, strict=True))}
            masks = {case: masks[case] for case in drawn_for}
            noise = [image_noise(seed, case, FIRST_IMAGE_STREAM + variation) for case, variation in batch]
            own = [drawn_for[case] for case, _ in batch]
            images = self.images([masks[case] for case, _ in batch], noise, own, check, attributes)
            for (case, variation), image, its in zip(batch, images, own, strict=True):
                yield GeneratedCase(case, variation, seed, its, image, masks[case], self.spacing)

    def attributes_of(self, seed: int, case: int, asked: Attributes, again: int = 0) -> Attributes:
        """Attributes of a case: those asked for, and the others drawn as they occur in the training data.

        So a set shows the patients of the training data in their shares, or each group as often as the others. With
        `draw_attributes` off, what is not asked for stays open, which is the unconditional model of Li et al. 2025.
        `again` counts how often they are drawn anew, where no sound case came of those drawn before.
        """
        if not self.draw_attributes:
            return asked
        stream = [seed, case, ATTRIBUTE_STREAM] + ([again] if again else [])
        return drawn(self._table, asked, float(np.random.default_rng(stream).random()))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Pixel size along columns and rows, and slice thickness, in mm."""
        return GRID_SPACING, GRID_SPACING, float(self.bundle.info["slice_thickness_mm"])

    @torch.inference_mode()
    def masks(
        self,
        seed: int,
        cases: Sequence[int],
        attributes: Attributes,
        check: Callable[[], None] = lambda: None,
        streams: Sequence[int] | None = None,
        own: Sequence[Attributes] | None = None,
    ) -> list[LabelArray]:
        """Masks (128, 128) of cases, each from the first stream of its noise, or from those given.

        `attributes` are asked for; each case has its `own`, or others as `attributes_of` says.

        They are made in chunks of one fixed size on a GPU, and on a CPU as `samples_together` says, so that a mask is
        the same to the bit whatever else is made beside it.
        """
        on_cpu = self.device.type == "cpu"
        chunk = self.largest_batch if on_cpu else GPU_MASK_CHUNK
        result: list[LabelArray] = []
        shape = (CHANNELS, GRID_SIZE // 2, GRID_SIZE // 2)
        own = own or [self.attributes_of(seed, case, attributes) for case in cases]
        draws = list(zip(cases, streams or [MASK_STREAM] * len(cases), own, strict=True))
        for first in range(0, len(cases), chunk):
            part = draws[first : first + chunk]
            padded = part + part[-1:] * ((self._padded(len(part)) if on_cpu else chunk) - len(part))
            noise = torch.stack([case_noise(seed, case, stream, shape) for case, stream, _ in padded])
            rows = self._rows([its for _, _, its in padded], attributes)
            outlines = self._made(MASK, check, self._to_device(noise), *rows)[: len(part)]
            if self.vary_shape_mm:
                shifts = torch.stack([self._shift(seed, case, stream) for case, stream, _ in part])
                outlines = outlines + shifts.to(self.device)
            result += list(masks_of(outlines))
        return result

    def _shift(self, seed: int, case: int, stream: int) -> Tensor:
        """What is added to the distances (3, 64, 64) of a mask, as (3, 1, 1)."""
        random = np.random.default_rng([seed, case, stream, SHAPE_STREAM])
        shift = random.uniform(-1, 1, CHANNELS) * self.vary_shape_mm / REACH_MM
        return torch.from_numpy(shift).float().view(CHANNELS, 1, 1)

    def images(
        self,
        masks: Sequence[LabelArray],
        noise: Sequence[Tensor],
        attributes: Sequence[Attributes],
        check: Callable[[], None] = lambda: None,
        asked: Attributes | None = None,
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[GreyArray]:
        """Images (128, 128) for masks, each from its own noise (1, 128, 128) and with its own attributes.

        Guidance makes those stronger that were asked for: `asked`, or all of them where it is None. `progress` is told
        how many are made.

        When memory runs out the batch is halved and tried again.

        Raises:
            CardiacError: not even one image fits into memory.
        """
        result: list[GreyArray] = []
        while len(result) < len(masks):
            part = slice(len(result), len(result) + self.batch_size)
            try:
                result += self._images_of(masks[part], noise[part], attributes[part], check, asked)
                self.batch_size = max(self.batch_size, min(2 * self.batch_size, self.largest_batch))
                progress(len(result))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve_batch(error)
        return result

    @torch.inference_mode()
    def _images_of(
        self,
        masks: Sequence[LabelArray],
        noise: Sequence[Tensor],
        attributes: Sequence[Attributes],
        check: Callable[[], None],
        asked: Attributes | None,
    ) -> list[GreyArray]:
        count, more = len(masks), self._padded(len(masks)) - len(masks)
        masks, noise = [*masks, *[masks[-1]] * more], [*noise, *[noise[-1]] * more]
        attributes = [*attributes, *[attributes[-1]] * more]
        classes = self._to_device(one_hot(torch.from_numpy(np.stack(masks)).to(self.device)))
        noises = self._to_device(torch.stack(list(noise)))
        made = self._made(IMAGE, check, noises, *self._rows(attributes, asked), classes)
        return list(to_grey(made[:count, 0]))

    def _made(self, kind: str, check: Callable[[], None], *tensors: Tensor | None) -> Tensor:
        """Samples of a kind: on a GPU of CUDA in one go, elsewhere step by step, with a look at `check` before each."""
        if self.device.type != "cuda":
            return self._sampled(kind, check, *tensors)  # type: ignore[arg-type]
        check()
        # What a recording is bound to. Jobs mostly ask for the same; where they do not, the last recording is kept.
        settings = (self.mask_steps, self.steps, self.guidance_scale, self.largest_batch)
        if kind not in self._recordings or self._recordings[kind][0] != settings:
            self._recordings[kind] = settings, Replayed(partial(self._sampled, kind, lambda: None))
        return self._recordings[kind][1](*tensors)

    def _sampled(
        self,
        kind: str,
        check: Callable[[], None],
        noise: Tensor,
        rows: Tensor,
        without: Tensor | None,
        classes: Tensor | None = None,
    ) -> Tensor:
        """Samples (N, C, H, W) from noise.

        Args:
            kind: mask or image.
            check: called between steps.
            noise: (N, C, H, W).
            rows: attributes (N, 3) of each.
            without: those away from which they are guided; None for no guidance.
            classes: one-hot masks (N, 4, 128, 128) of images.
        """
        network = self._networks[kind]
        steps = self.mask_steps if kind == MASK else self.steps
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            given = [] if classes is None else [network.modulation(classes)]
            denoiser = lambda x, sigma: network(x, sigma, rows, *given)  # noqa: E731
            if without is not None:
                denoiser = guided(denoiser, lambda x, sigma: network(x, sigma, without, *given), self.guidance_scale)
            return sample(denoiser, noise, self._schedulers[kind], steps, check).float()

    def _padded(self, count: int) -> int:
        """The least batch for so many samples; on a CPU see `samples_together`."""
        # On a GPU of CUDA one size alone is recorded, and a case does not depend on how many there are.
        unit = self.batch_size if self.device.type == "cuda" else self._together
        return math.ceil(count / unit) * unit

    def _rows(self, attributes: Sequence[Attributes], asked: Attributes | None) -> tuple[Tensor, Tensor | None]:
        """Attributes as rows, and those without what was asked for, where there is something to guide away from."""
        rows = attribute_rows(attributes)
        guided_ones = torch.ones(3) if asked is None else (attribute_rows([asked])[0] != UNKNOWN).float()
        without = torch.where(guided_ones > 0, torch.full_like(rows, UNKNOWN), rows)
        plain = self.guidance_scale == 1 or bool((without == rows).all())
        return rows.to(self.device), None if plain else without.to(self.device)

    def _to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, memory_format=torch.channels_last)

    def _halve_batch(self, error: BaseException) -> None:
        # Fewer than `_together` are padded, and need no less.
        if self.batch_size <= self._together:
            raise CardiacError(
                f"Not even one image fits into the memory of {self.device}; close other programs or use --device cpu.",
                "out_of_memory",
            ) from error
        self.batch_size //= 2
        self.largest_batch = self.batch_size
        if self.device.type == "cuda":
            self._recordings.clear()
            torch.cuda.empty_cache()
        self.notify(f"Memory of {self.device} ran out; going on with {self.batch_size} images at a time.")


def image_noise(seed: int, case: int, stream: int) -> Tensor:
    """The noise (1, 128, 128) that an image is made from."""
    return case_noise(seed, case, stream, (1, GRID_SIZE, GRID_SIZE))


def attribute_rows(attributes: Sequence[Attributes]) -> Tensor:
    """Attributes as the rows (N, 3) that the networks take."""
    rows = [
        (
            UNKNOWN if a.phase is None else PHASES.index(a.phase),
            UNKNOWN if a.group is None else GROUPS.index(a.group),
            UNKNOWN if a.level is None else a.level,
        )
        for a in attributes
    ]
    return torch.tensor(rows, dtype=torch.float32)


def to_grey(images: Tensor) -> GreyArray:
    """Images in [-1, 1] as grey levels 0..255."""
    return ((images.clamp(-1, 1) + 1) / 2 * GREY_LEVELS).round().to(torch.uint8).cpu().numpy()


def _batches(items: Iterator[tuple[int, int]], size: Callable[[], int]) -> Iterator[list[tuple[int, int]]]:
    batch: list[tuple[int, int]] = []
    for item in items:
        batch.append(item)
        if len(batch) >= size():
            yield batch
            batch = []
    if batch:
        yield batch
