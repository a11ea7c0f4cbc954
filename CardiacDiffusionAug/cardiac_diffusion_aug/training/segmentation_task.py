"""What the segmentation training teaches: the labels of a slice, wherever in it the heart lies."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.losses.dice import DiceCELoss
from torch import Tensor, nn

from ..datasets.pack import GREY_LEVELS, SlicePack, centered
from ..labels import STRUCTURES, dice_of_structures
from ..networks.image_denoiser import likeliest
from ..networks.segmentation_unet import SegmentationUNet
from ..preview import contact_sheet
from ..slices import LabelArray
from .augmentation import AS_IT_IS, CPU, NONE, Appearance, Deformation, change_appearance, pairs_at, sampling_points

SHEET_CASES = 16
VALIDATION_BATCH = 32


@dataclass(frozen=True)
class Traditional:
    """Traditional augmentation: every slice is seen otherwise each time.

    Attributes:
        deform, appearance: of every slice.
        wide: share of windows that show the whole field of view, for the network that finds the heart.
        wide_zoom: size of their pixels relative to those of the model's grid.
        astray: share of windows that lie anywhere in the field of view, perhaps beside the heart.
        astray_shift: how far, in pixels of the model's grid.
        turned: share of windows in another orientation, mirrored or by quarter turns.
    """

    deform: Deformation = Deformation(degrees=30, scale=0.25, shift=14, elastic=1.6)  # noqa: RUF009 - immutable
    appearance: Appearance = Appearance(  # noqa: RUF009 - immutable
        chance=0.4, gamma=0.5, contrast=0.4, brightness=0.12, bias=0.25, noise=0.08, blur=1.3
    )
    wide: float = 0.15
    wide_zoom: float = 2.0
    astray: float = 0.15
    astray_shift: float = 50.0
    turned: float = 0.15


STRONG = Traditional()
CENTERED = replace(STRONG, wide=0, astray=0, turned=0)
"""For slices whose heart is known to lie upright in the middle: the network need not learn to find it."""
PLAIN = Traditional(deform=NONE, appearance=AS_IT_IS, wide=0, astray=0, turned=0)


class SegmentationTask:
    """Labels from slices, real ones and made ones in one ratio.

    Args:
        network: what is trained.
        training, validation: real slices.
        synthetic: made slices, or None.
        synthetic_share: of each step's samples.
        augmentation: of all slices.
    """

    def __init__(
        self,
        network: SegmentationUNet,
        training: SlicePack,
        validation: SlicePack,
        synthetic: SlicePack | None = None,
        synthetic_share: float = 0.0,
        augmentation: Traditional = STRONG,
    ) -> None:
        self.network = network
        self.training, self.validation, self.synthetic = training, validation, synthetic
        self.synthetic_share = synthetic_share if synthetic is not None else 0.0
        self.augmentation = augmentation
        self.size = len(training)
        self._loss = DiceCELoss(include_background=False, to_onehot_y=False, softmax=True, batch=True)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def loss(self, network: nn.Module, rows: Tensor, generator: torch.Generator, half: bool) -> Tensor:
        """Dice loss over the step's samples together, and cross-entropy."""
        images, classes = self._samples(rows, generator)
        logits = network(images.contiguous(memory_format=torch.channels_last))
        found: Tensor = self._loss(logits.float(), classes)
        return found

    def _samples(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        replaced = torch.rand(len(rows), generator=generator) < self.synthetic_share
        parts = [(self.training, rows[~replaced])]
        if self.synthetic is not None and bool(replaced.any()):
            others = torch.randint(len(self.synthetic), (int(replaced.sum()),), generator=generator)
            parts.append((self.synthetic, others))
        made = [windows(pack, own, self.augmentation, generator, self.device) for pack, own in parts if len(own)]
        images, classes = (torch.cat([part[index] for part in made]) for index in (0, 1))
        return images, classes

    @torch.inference_mode()
    def validation_loss(self, network: nn.Module) -> float:
        """1 - Dice, over each volume of the validation patients, averaged over volumes and structures."""
        return float(self.validation_facts(network)["validation_loss"])

    def validation_facts(self, network: nn.Module) -> dict[str, Any]:
        """The validation loss, and where there are validation patients the `validation_dice`."""
        dice = self.validation_dice(network)
        if dice is None:
            return {"validation_loss": float("nan")}
        mean = dice["mean"]
        return {"validation_loss": float("nan") if mean is None else 1 - mean, "validation_dice": dice}

    @torch.inference_mode()
    def validation_dice(self, network: nn.Module) -> dict[str, float | None] | None:
        """Dice of LV, MYO and RV over each volume of the validation patients, averaged over volumes, and their `mean`.

        None where nobody validates, or for a structure that neither a volume nor what is found in it has.
        """
        if len(self.validation) == 0:
            return None
        predicted = predict(network, centered(self.validation.images), self.device)
        rows = volume_dice(predicted, centered(self.validation.masks), self.validation.cases)
        columns = {**{s.key: rows[:, i] for i, s in enumerate(STRUCTURES)}, "mean": rows}
        return {key: None if np.isnan(c).all() else float(np.nanmean(c)) for key, c in columns.items()}

    @torch.inference_mode()
    def contact_sheet(self, network: nn.Module, path: Path) -> None:
        """Slices of validation patients, or of training patients where there are none, with what is found in them."""
        pack = self.validation if len(self.validation) else self.training
        chosen = np.linspace(0, len(pack) - 1, SHEET_CASES + 2).astype(int)[1:-1]
        images = centered(pack.images[chosen])
        predicted = predict(network, images, self.device)
        greys = images.astype(np.float32) * (2 / GREY_LEVELS) - 1
        contact_sheet(list(zip(greys, predicted, strict=True)), path)


def windows(
    pack: SlicePack, rows: Tensor, amount: Traditional, generator: torch.Generator, device: torch.device = CPU
) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 128, 128) in [-1, 1] and one-hot masks (N, 4, 128, 128), seen as `amount` says, on the device."""
    size, count = pack.images.shape[-1], len(rows)
    points, _ = sampling_points(count, amount.deform, generator, size, device)
    points = _turned(points, amount.turned, generator)
    wide = torch.rand(count, generator=generator) < amount.wide
    astray = wide | (torch.rand(count, generator=generator) < amount.astray)
    points = points * torch.where(wide, amount.wide_zoom, 1.0).view(-1, 1, 1, 1).to(device)
    shift = (torch.rand(count, 1, 1, 2, generator=generator) * 2 - 1) * amount.astray_shift / (size / 2)
    points = points + (shift * astray.view(-1, 1, 1, 1)).to(device)
    images, classes = pairs_at(pack, rows, points, "bilinear")
    return change_appearance(images, amount.appearance, generator), classes


def _turned(points: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Points of some windows mirrored and turned by quarters."""
    result = points.clone()
    for index in torch.nonzero(torch.rand(len(points), generator=generator) < share)[:, 0].tolist():
        turns, mirrored = torch.randint(4, (2,), generator=generator).tolist()
        angle = turns * math.pi / 2
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        turn[:, 0] *= 1 - 2 * (mirrored % 2)
        result[index] = points[index] @ turn.T.to(points.device)
    return result


@torch.inference_mode()
def predict(network: nn.Module, images: npt.NDArray[np.uint8], device: torch.device) -> LabelArray:
    """Labels (N, H, W) of grey levels (N, H, W)."""
    result = []
    for part in torch.from_numpy(images).split(VALIDATION_BATCH):
        grey = part[:, None].to(device, memory_format=torch.channels_last).float() * (2 / GREY_LEVELS) - 1
        result.append(likeliest(network(grey)).cpu().numpy())
    return np.concatenate(result)


def volume_dice(predicted: LabelArray, masks: LabelArray, cases: npt.NDArray[np.str_]) -> npt.NDArray[np.float64]:
    """Dice (cases, 3) of LV, MYO and RV over the slices of each case; NaN where neither has the structure."""
    return np.array([dice_of_structures(predicted[cases == case], masks[cases == case]) for case in np.unique(cases)])
