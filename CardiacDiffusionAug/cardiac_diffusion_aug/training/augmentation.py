"""Random deformations that keep images and masks in step, reproducible from a generator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..datasets.pack import GREY_LEVELS, PACK_SIZE, SlicePack
from ..diffusion.sampling import noise_like
from ..labels import NUM_CLASSES
from ..networks.image_denoiser import likeliest, one_hot
from ..slices import GRID_SIZE

ELASTIC_NODES = 6
BIAS_NODES = 4
CPU = torch.device("cpu")
BLUR_REACH = 3
"""Pixels to either side that a blur looks at."""


@dataclass(frozen=True)
class Deformation:
    """How far slices are moved at most, or by how much on average.

    Attributes:
        degrees: rotation to either side.
        scale: relative change of size to either side.
        shift: pixels of the model's grid along each axis, to either side.
        elastic: standard deviation in pixels of a smooth random displacement.
        gamma: of the grey levels; its logarithm's change to either side.
    """

    degrees: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    gamma: float = 0.0


@dataclass(frozen=True)
class Appearance:
    """How far a slice's grey levels are changed at most, and how often.

    Attributes:
        chance: of each change, for each slice by itself.
        gamma: logarithm's change to either side; half of the time of the mirrored grey levels, which moves the bright
            tones instead of the dark ones.
        contrast: relative change to either side.
        brightness: change to either side, in grey levels from 0 to 1.
        bias: logarithm of a smooth field that the slice is multiplied with, as coils far from the heart leave it.
        noise: standard deviation, in grey levels from 0 to 1.
        blur: standard deviation in pixels.
    """

    chance: float = 0.0
    gamma: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    bias: float = 0.0
    noise: float = 0.0
    blur: float = 0.0


NONE = Deformation()
AS_IT_IS = Appearance()


def sampling_points(
    count: int,
    amount: Deformation,
    generator: torch.Generator,
    size: int = PACK_SIZE,
    device: torch.device = CPU,
) -> tuple[Tensor, Tensor]:
    """Where each pixel of the model's grid is read from in a packed slice of `size` pixels along each side.

    What is drawn is drawn on the CPU, and so the same on every device.

    Returns:
        Points (count, 128, 128, 2) as `grid_sample` takes them, and each sample's magnification (count,).
    """

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    angle, zoom = uniform(math.radians(amount.degrees)), torch.exp(uniform(math.log1p(amount.scale)))
    shift = torch.stack([uniform(amount.shift), uniform(amount.shift)], dim=1)
    nodes = torch.randn(count, 2, ELASTIC_NODES, ELASTIC_NODES, generator=generator) * amount.elastic
    angle, zoom, shift, nodes = (t.to(device) for t in (angle, zoom, shift, nodes))
    axis = torch.arange(GRID_SIZE, device=device) - (GRID_SIZE - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack([x, y], dim=-1).expand(count, -1, -1, -1)
    if amount.elastic > 0:
        points = points + F.interpolate(nodes, GRID_SIZE, mode="bicubic", align_corners=True).movedim(1, -1)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    points = torch.einsum("nij,nhwj->nhwi", turn, points - shift[:, None, None])
    return points / (size / 2), zoom


def read_at(slices: Tensor, points: Tensor, mode: str, outside: float) -> Tensor:
    """Values (N, C, 128, 128) of packed slices (N, C, S, S) at points; `outside` beyond the slice."""
    if outside == 0:
        return F.grid_sample(slices, points, mode=mode, padding_mode="zeros", align_corners=False)
    return read_at(slices - outside, points, mode, 0.0) + outside


def pairs_at(pack: SlicePack, rows: Tensor, points: Tensor, mode: str) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 128, 128) in about [-1, 1] and one-hot masks (N, 4, 128, 128) of rows of a pack, read at points.

    Args:
        pack: of slices (S, S).
        rows: (N,) on the CPU.
        points: (N, 128, 128, 2) on the device where the result is wanted.
        mode: how images are interpolated.
    """
    images, masks = (torch.from_numpy(slices[rows.numpy()]).to(points.device) for slices in (pack.images, pack.masks))
    images = read_at(images[:, None].float() * (2 / GREY_LEVELS) - 1, points, mode, -1.0)
    # Whole packed slices are larger than what is read of them, so that their background is not spelled out.
    structures = masks[:, None] == torch.arange(1, NUM_CLASSES, device=masks.device).view(1, -1, 1, 1)
    weights = read_at(structures.float(), points, "bilinear", 0.0)
    weights = torch.cat([1 - weights.sum(1, keepdim=True), weights], dim=1)
    return images, one_hot(likeliest(weights))


def change_gamma(images: Tensor, amount: Deformation, generator: torch.Generator) -> Tensor:
    """Images in [-1, 1] with their mid-tones made lighter or darker."""
    change = ((torch.rand(len(images), generator=generator) * 2 - 1) * amount.gamma).to(images.device)
    return ((images.clamp(-1, 1) + 1) / 2) ** torch.exp(change).view(-1, 1, 1, 1) * 2 - 1


def change_appearance(images: Tensor, amount: Appearance, generator: torch.Generator) -> Tensor:
    """Images (N, 1, H, W) in [-1, 1] as another scanner, coil or contrast might have shown them."""
    count = len(images)

    def chosen() -> Tensor:
        return (torch.rand(count, 1, 1, 1, generator=generator) < amount.chance).float()

    def uniform(limit: float) -> Tensor:
        return ((torch.rand(count, 1, 1, 1, generator=generator) * 2 - 1) * limit * chosen()).to(images.device)

    grey = (images.clamp(-1, 1) + 1) / 2
    grey = _blurred(grey, uniform(amount.blur).abs())
    field = torch.randn(count, 1, BIAS_NODES, BIAS_NODES, generator=generator) * amount.bias * chosen()
    grey = grey * F.interpolate(field.to(images.device), grey.shape[2:], mode="bicubic", align_corners=True).exp()
    mean = grey.mean((2, 3), keepdim=True)
    grey = (grey - mean) * torch.exp(uniform(math.log1p(amount.contrast))) + mean + uniform(amount.brightness)
    mirrored = (torch.rand(count, 1, 1, 1, generator=generator) < 0.5).to(images.device)
    exponent = torch.exp(uniform(amount.gamma))
    grey = grey.clamp(0, 1)
    grey = torch.where(mirrored, 1 - (1 - grey) ** exponent, grey**exponent)
    strength = uniform(amount.noise).abs()
    grey = grey + noise_like(grey, generator) * strength
    return grey.clamp(0, 1) * 2 - 1


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Images (N, 1, H, W), each after a Gaussian of its own width (N, 1, 1, 1) in pixels."""
    place = torch.arange(-BLUR_REACH, BLUR_REACH + 1, device=images.device).float()
    weights = torch.exp(-place.square() / (2 * sigma.view(-1, 1).square().clamp(min=1e-4)))
    weights = weights / weights.sum(1, keepdim=True)
    count, width = weights.shape
    row = F.pad(images.transpose(0, 1), [BLUR_REACH] * 4, mode="replicate")
    row = F.conv2d(row, weights.view(count, 1, 1, width), groups=count)
    return F.conv2d(row, weights.view(count, 1, width, 1), groups=count).transpose(0, 1)
