"""Random deformations that keep images and masks in step, reproducible from a generator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..datasets.pack import PACK_SIZE
from ..slices import GRID_SIZE

ELASTIC_NODES = 6


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


NONE = Deformation()


def sampling_points(count: int, amount: Deformation, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Where each pixel of the model's grid is read from in a packed slice.

    Returns:
        Points (count, 128, 128, 2) as `grid_sample` takes them, and each sample's magnification (count,).
    """

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    angle, zoom = uniform(math.radians(amount.degrees)), torch.exp(uniform(math.log1p(amount.scale)))
    shift = torch.stack([uniform(amount.shift), uniform(amount.shift)], dim=1)
    axis = torch.arange(GRID_SIZE) - (GRID_SIZE - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack([x, y], dim=-1).expand(count, -1, -1, -1)
    nodes = torch.randn(count, 2, ELASTIC_NODES, ELASTIC_NODES, generator=generator) * amount.elastic
    if amount.elastic > 0:
        points = points + F.interpolate(nodes, GRID_SIZE, mode="bicubic", align_corners=True).movedim(1, -1)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    points = torch.einsum("nij,nhwj->nhwi", turn, points - shift[:, None, None])
    return points / (PACK_SIZE / 2), zoom


def read_at(slices: Tensor, points: Tensor, mode: str, outside: float) -> Tensor:
    """Values (N, C, 128, 128) of packed slices (N, C, S, S) at points; `outside` beyond the slice."""
    return F.grid_sample(slices - outside, points, mode=mode, padding_mode="zeros", align_corners=False) + outside


def change_gamma(images: Tensor, amount: Deformation, generator: torch.Generator) -> Tensor:
    """Images in [-1, 1] with their mid-tones made lighter or darker."""
    change = (torch.rand(len(images), generator=generator) * 2 - 1) * amount.gamma
    return ((images.clamp(-1, 1) + 1) / 2) ** torch.exp(change).view(-1, 1, 1, 1) * 2 - 1
