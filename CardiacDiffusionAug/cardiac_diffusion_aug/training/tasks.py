"""What the two trainings teach: outlines from noise, and slices from masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..datasets.pack import SlicePack, centered
from ..diffusion.objective import Denoiser
from ..diffusion.sampling import case_noise, sample
from ..networks.blocks import UNKNOWN
from ..networks.image_denoiser import ImageDenoiser, one_hot
from ..networks.mask_denoiser import MaskDenoiser
from ..outlines import CHANNELS, masks_of, signed_distances
from ..preview import contact_sheet
from ..slices import GRID_SIZE
from .augmentation import CPU, NONE, Deformation, change_gamma, pairs_at, read_at, sampling_points
from .objectives import Examples, Flow, Objective

SHEET_CASES = 16
SHEET_STEPS = 20
VALIDATION_BATCH = 32
FAR_TOLERANCE = 1e-4

MASK_DEFORMATION = Deformation(degrees=8, scale=0.05, shift=3, elastic=0.7)
IMAGE_DEFORMATION = Deformation(degrees=25, scale=0.15, shift=12, elastic=1.2, gamma=0.12)


# Smooth outlines and large organs are still seen through strong noise, so that is where their shape is decided
# and where most of the training must go.
MASK_SIGMA_MEAN, IMAGE_SIGMA_MEAN = 1.0, 0.5
# The steps of sampling gather where training did for masks. Images need them spread more evenly: the last step takes
# away all texture fainter than the noise before it, so that noise must be low.
MASK_STEP_MEAN, IMAGE_STEP_MEAN = 1.0, 0.4

MASK_FLOW = Flow(MASK_SIGMA_MEAN, MASK_STEP_MEAN)
IMAGE_FLOW = Flow(IMAGE_SIGMA_MEAN, IMAGE_STEP_MEAN)


class _Task(ABC):
    """What both tasks share: packs, devices, hidden attributes and the validation loss."""

    network: nn.Module

    def __init__(
        self,
        training: SlicePack,
        validation: SlicePack,
        drop_attributes: float,
        deform: Deformation,
        objective: Objective,
    ) -> None:
        self.training, self.validation = training, validation
        self.drop_attributes, self.deform = drop_attributes, deform
        self.objective = objective
        self.size = len(training)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def loss(self, network: nn.Module, rows: Tensor, generator: torch.Generator, half: bool) -> Tensor:
        examples = self._examples(self.training, rows, self.deform, generator, half, self.drop_attributes)
        return self.objective.loss(self._conditioned, network, examples, generator)

    @torch.inference_mode()
    def validation_loss(self, network: nn.Module) -> float:
        if len(self.validation) == 0:
            return float("nan")
        generator = torch.Generator().manual_seed(0)
        total, count = 0.0, min(len(self.validation), 4 * VALIDATION_BATCH)
        chosen = torch.linspace(0, len(self.validation) - 1, count).long()
        for rows in chosen.split(VALIDATION_BATCH):
            examples = self._examples(self.validation, rows, NONE, generator, False, 0.0)
            total += float(self.objective.loss(self._conditioned, network, examples, generator)) * len(rows)
        return total / count

    @abstractmethod
    def _examples(
        self,
        pack: SlicePack,
        rows: Tensor,
        deform: Deformation,
        generator: torch.Generator,
        half: bool,
        drop: float,
    ) -> Examples:
        """Samples with what they are conditioned on, on the device."""

    @abstractmethod
    def _conditioned(self, network: nn.Module, *condition: Tensor) -> Denoiser:
        """A network, given what the samples are conditioned on."""

    def _sampled(self, denoiser: Denoiser, noise: Tensor) -> Tensor:
        calls = self.objective.calls or SHEET_STEPS
        return sample(denoiser, noise.to(self.device), self.objective.scheduler, calls).cpu()

    def _attributes(self, pack: SlicePack, rows: Tensor, drop: float, generator: torch.Generator) -> Tensor:
        attributes = torch.from_numpy(pack.attributes)[rows]
        # Half of the hidden ones are hidden all together, which is the unconditional model; others one by one.
        every = torch.rand(len(rows), 1, generator=generator) < drop / 2
        single = torch.rand(attributes.shape, generator=generator) < drop / 2
        return attributes.masked_fill(every | single, UNKNOWN).to(self.device)


class MaskTask(_Task):
    """Outlines from noise. Slices without a heart are left out."""

    network: MaskDenoiser

    def __init__(
        self,
        network: MaskDenoiser,
        training: SlicePack,
        validation: SlicePack,
        drop_attributes: float,
        deform: Deformation = MASK_DEFORMATION,
        objective: Objective = MASK_FLOW,
    ) -> None:
        training, validation = (pack.where(np.any(pack.masks, axis=(1, 2))) for pack in (training, validation))
        super().__init__(training, validation, drop_attributes, deform, objective)
        self.network = network
        self._distances = {id(pack): signed_distances(pack.masks) for pack in (self.training, self.validation)}

    def _examples(
        self,
        pack: SlicePack,
        rows: Tensor,
        deform: Deformation,
        generator: torch.Generator,
        half: bool,
        drop: float,
    ) -> Examples:
        points, zoom = sampling_points(len(rows), deform, generator, device=self.device)
        points = (points[:, ::2, ::2] + points[:, 1::2, ::2] + points[:, ::2, 1::2] + points[:, 1::2, 1::2]) / 4
        clean = read_at(self._distances[id(pack)][rows].to(self.device), points, "bilinear", -1.0)
        # Distances grow with the heart, but what was cut off at the reach stays there.
        far = clean.abs() >= 1 - FAR_TOLERANCE
        clean = torch.where(far, clean, (clean * zoom.view(-1, 1, 1, 1)).clamp(-1, 1))
        return clean, (self._attributes(pack, rows, drop, generator),)

    def _conditioned(self, network: nn.Module, *condition: Tensor) -> Denoiser:
        (attributes,) = condition
        return lambda x, sigma: network(x, sigma, attributes)

    @torch.inference_mode()
    def contact_sheet(self, network: nn.Module, path: Path) -> None:
        """Masks made from noise, unconditionally."""
        noise = torch.stack(
            [case_noise(0, k, 0, (CHANNELS, GRID_SIZE // 2, GRID_SIZE // 2)) for k in range(SHEET_CASES)]
        )
        nothing = torch.full((SHEET_CASES, 3), UNKNOWN, device=self.device)
        made = self._sampled(self._conditioned(network, nothing), noise)
        contact_sheet([(None, mask) for mask in masks_of(made)], path)


class ImageTask(_Task):
    """Slices from masks."""

    network: ImageDenoiser

    def __init__(
        self,
        network: ImageDenoiser,
        training: SlicePack,
        validation: SlicePack,
        drop_attributes: float,
        deform: Deformation = IMAGE_DEFORMATION,
        objective: Objective = IMAGE_FLOW,
    ) -> None:
        super().__init__(training, validation, drop_attributes, deform, objective)
        self.network = network

    def _examples(
        self,
        pack: SlicePack,
        rows: Tensor,
        deform: Deformation,
        generator: torch.Generator,
        half: bool,
        drop: float,
    ) -> Examples:
        clean, mask = deformed_pairs(pack, rows, deform, generator, self.device)
        if half:
            clean, mask = (nn.functional.avg_pool2d(t, 2) for t in (clean, mask))
        attributes = self._attributes(pack, rows, drop, generator)
        clean, mask = (t.contiguous(memory_format=torch.channels_last) for t in (clean, mask))
        return clean, (attributes, mask)

    def _conditioned(self, network: nn.Module, *condition: Tensor) -> Denoiser:
        attributes, mask = condition
        # What learns is called once, and as a whole, so that accelerate sees it all.
        known = network.modulation(mask) if isinstance(network, ImageDenoiser) and not network.training else mask
        return lambda x, sigma: network(x, sigma, attributes, known)

    @torch.inference_mode()
    def contact_sheet(self, network: nn.Module, path: Path) -> None:
        """Images for masks of validation patients, or of training patients where there are none."""
        pack = self.validation if len(self.validation) else self.training
        chosen = torch.linspace(0, len(pack) - 1, SHEET_CASES + 2).long()[1:-1]
        masks = centered(pack.masks[chosen.numpy()])
        classes = one_hot(torch.from_numpy(masks)).to(self.device)
        noise = torch.stack([case_noise(0, k, 1, (1, GRID_SIZE, GRID_SIZE)) for k in range(SHEET_CASES)])
        nothing = torch.full((SHEET_CASES, 3), UNKNOWN, device=self.device)
        made = self._sampled(self._conditioned(network, nothing, classes), noise)
        contact_sheet(list(zip(made[:, 0].numpy(), masks, strict=True)), path)


def deformed_pairs(
    pack: SlicePack,
    rows: Tensor,
    deform: Deformation,
    generator: torch.Generator,
    device: torch.device = CPU,
) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 128, 128) in [-1, 1] and one-hot masks (N, 4, 128, 128), deformed alike, on the device."""
    points, _ = sampling_points(len(rows), deform, generator, device=device)
    images, classes = pairs_at(pack, rows, points, "bicubic")
    images = images.clamp(-1, 1)
    if deform.gamma:
        images = change_gamma(images, deform, generator)
    return images, classes
