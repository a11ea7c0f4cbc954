"""The U-Net that both denoisers share, with either plain or spatially-adaptive normalization."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attributes import GROUPS, PHASES
from .fused import can_fuse, fused_activation

Modulation = tuple[Tensor, Tensor]
"""Scale and shift (N, C, H, W) of a spatially-adaptive normalization, for each pixel."""

GROUP_NORM_GROUPS = 8
SIGMA_SCALE = 1000.0
UNKNOWN = -1.0
"""Value of an attribute that is not asked for, in the rows that `AttributeEmbedding` takes."""


def sinusoids(values: Tensor, width: int) -> Tensor:
    """Sine and cosine features (N, width) of values (N,), as in Vaswani et al. 2017."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, device=values.device) / half)
    angles = values.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _zero(layer: nn.Conv2d) -> None:
    """Let a layer start without any effect."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class AttributeEmbedding(nn.Module):
    """Phase, group and level of each sample as one vector.

    Takes rows (N, 3) of phase index, group index and level in 0..1; `UNKNOWN` where nothing is asked.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.phase = nn.Embedding(len(PHASES) + 1, width)
        self.group = nn.Embedding(len(GROUPS) + 1, width)
        self.level = nn.Linear(width, width)
        self.no_level = nn.Parameter(torch.zeros(width))

    def forward(self, attributes: Tensor) -> Tensor:
        """(N, 3) to (N, width)."""
        phase, group, level = attributes.unbind(1)
        known = (level >= 0)[:, None]
        levels = self.level(sinusoids(level.clamp(min=0) * SIGMA_SCALE, self.width))
        levels = torch.where(known, levels, self.no_level)
        # Row 0 of each table means "not asked".
        return self.phase(phase.long() + 1) + self.group(group.long() + 1) + levels


class ConditionEmbedding(nn.Module):
    """Noise level and attributes as the vector that every block receives."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.attributes = AttributeEmbedding(width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, sigma: Tensor, attributes: Tensor) -> Tensor:
        """Noise levels (N,) in 0..1 and attributes (N, 3) to (N, width)."""
        return self.mlp(sinusoids(sigma * SIGMA_SCALE, self.width) + self.attributes(attributes))


class ResidualBlock(nn.Module):
    """Two convolutions, each after a normalization; the condition scales and shifts channels before the second.

    With `spatial`, both normalizations have no learned scale of their own and take scale and shift for each pixel
    from outside: SPADE (Park et al. 2019).
    """

    def __init__(self, inputs: int, outputs: int, width: int, spatial: bool) -> None:
        super().__init__()
        self.spatial = spatial
        self.norm1 = nn.GroupNorm(GROUP_NORM_GROUPS, inputs, affine=not spatial)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.condition = nn.Linear(width, 2 * outputs)
        self.norm2 = nn.GroupNorm(GROUP_NORM_GROUPS, outputs, affine=not spatial)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        _zero(self.conv2)

    def forward(self, x: Tensor, condition: Tensor, modulation: Iterator[Modulation] | None) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W); takes two items of `modulation` where spatial."""
        h = self.conv1(activation(x, self.norm1, self._next(modulation)))
        h = self.conv2(activation(h, self.norm2, self._next(modulation), self.condition(condition)))
        return self.skip(x) + h

    def _next(self, modulation: Iterator[Modulation] | None) -> Modulation | None:
        if not self.spatial:
            return None
        assert modulation is not None, "a spatial block needs its modulation"
        return next(modulation)


def activation(
    x: Tensor, norm: nn.GroupNorm, modulation: Modulation | None = None, condition: Tensor | None = None
) -> Tensor:
    """SiLU of a normalized tensor (N, C, H, W), modulated by pixel and by channel.

    Args:
        x: what is normalized.
        norm: how.
        modulation: of each pixel.
        condition: (N, 2 C): of each channel, what is added to a scale of 1, and the shift.
    """
    if can_fuse(x):
        return fused_activation(x, norm, modulation, condition)
    h = norm(x)
    if modulation is not None:
        scale, shift = modulation
        h = torch.addcmul(shift, h, scale)
    if condition is not None:
        scale, shift = condition[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, h, 1 + scale)
    return F.silu(h)


class SelfAttention(nn.Module):
    """Attention among all pixels of a coarse level."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(GROUP_NORM_GROUPS, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        _zero(self.out)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        n, c, height, width = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, 3, self.heads, c // self.heads, height * width).unbind(1)
        mixed = F.scaled_dot_product_attention(q.mT, k.mT, v.mT).mT
        return x + self.out(mixed.reshape(n, c, height, width))


class UNet(nn.Module):
    """U-Net with self-attention at its coarsest level.

    Args:
        inputs, outputs: channels at the door and at the exit.
        channels: width of each level, finest first; every further level has half the size.
        blocks: residual blocks of each level on the way down; as many on the way up.
        width: size of the condition vector.
        spatial: whether normalization is spatially adaptive.
    """

    def __init__(
        self, inputs: int, outputs: int, channels: Sequence[int], blocks: Sequence[int], width: int, spatial: bool
    ) -> None:
        super().__init__()
        self.condition = ConditionEmbedding(width)
        self.entry = nn.Conv2d(inputs + 2, channels[0], 3, padding=1)
        self.modulated: list[tuple[int, int]] = []
        """Level and channels of each spatially-adaptive normalization, in the order of their use."""

        def block(level: int, entering: int, leaving: int) -> ResidualBlock:
            self.modulated += [(level, entering), (level, leaving)]
            return ResidualBlock(entering, leaving, width, spatial)

        last = len(channels) - 1
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        current, skips = channels[0], []
        for level, size in enumerate(channels):
            stage = nn.ModuleList()
            for _ in range(blocks[level]):
                stage.append(block(level, current, size))
                current = size
                skips.append(current)
            self.down.append(stage)
            if level < last:
                self.shrink.append(nn.Conv2d(current, current, 3, stride=2, padding=1))
        self.middle = block(last, current, current)
        self.attention = SelfAttention(current)
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(channels))):
            stage = nn.ModuleList()
            for _ in range(blocks[level]):
                stage.append(block(level, current + skips.pop(), channels[level]))
                current = channels[level]
            self.up.append(stage)
            if level > 0:
                self.grow.append(nn.Conv2d(current, channels[level - 1], 3, padding=1))
                current = channels[level - 1]
        self.exit_norm = nn.GroupNorm(GROUP_NORM_GROUPS, current)
        self.exit = nn.Conv2d(current, outputs, 3, padding=1)
        _zero(self.exit)

    def forward(
        self, x: Tensor, sigma: Tensor, attributes: Tensor, modulation: Sequence[Modulation] | None = None
    ) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W); H and W are multiples of 2^(levels - 1).

        Args:
            x: the sample.
            sigma: noise levels (N,) in 0..1.
            attributes: rows (N, 3) as `AttributeEmbedding` takes them.
            modulation: for a spatial U-Net, one for each of `modulated`.
        """
        condition = self.condition(sigma, attributes)
        items = None if modulation is None else iter(modulation)
        h = self.entry(with_coordinates(x))
        skips: list[Tensor] = []
        for level, stage in enumerate(self.down):
            for item in cast(nn.ModuleList, stage):
                h = item(h, condition, items)
                skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
        h = self.attention(self.middle(h, condition, items))
        for level, stage in enumerate(self.up):
            for item in cast(nn.ModuleList, stage):
                h = item(torch.cat([h, skips.pop()], dim=1), condition, items)
            if level < len(self.grow):
                h = self.grow[level](F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.exit(activation(h, self.exit_norm))


def with_coordinates(x: Tensor) -> Tensor:
    """A sample (N, C, H, W) with two more channels, the row and column of each pixel from -1 to 1.

    Convolutions do not know where they are, but hearts lie in the middle and chest walls at the border.
    """
    n, _, height, width = x.shape
    rows = torch.linspace(-1, 1, height, device=x.device, dtype=x.dtype).view(1, 1, height, 1)
    columns = torch.linspace(-1, 1, width, device=x.device, dtype=x.dtype).view(1, 1, 1, width)
    return torch.cat([x, rows.expand(n, 1, height, width), columns.expand(n, 1, height, width)], dim=1)


class MaskModulation(nn.Module):
    """Scale and shift for every spatially-adaptive normalization of a U-Net, from the mask alone.

    Coarser levels see the mask shrunk by area averaging, so that thin myocardium never vanishes.
    """

    def __init__(self, inputs: int, modulated: Sequence[tuple[int, int]], hidden: int) -> None:
        super().__init__()
        self.levels = [level for level, _ in modulated]
        self.encoders = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, hidden, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(hidden, hidden, 3, padding=1),
                nn.SiLU(),
            )
            for _ in range(max(self.levels) + 1)
        )
        # The heads look at one pixel only: the encoders have seen its surroundings, and a 3x3 head for each
        # normalization would cost more than the U-Net itself.
        self.heads = nn.ModuleList(nn.Conv2d(hidden, 2 * channels, 1) for _, channels in modulated)
        for head, (_, channels) in zip(self.heads, modulated, strict=True):
            # A scale starts around one, as in plain normalization.
            nn.init.ones_(head.bias[:channels])  # type: ignore[index]
            nn.init.zeros_(head.bias[channels:])  # type: ignore[index]

    def forward(self, mask: Tensor) -> list[Modulation]:
        """Mask features (N, inputs, H, W) to scale and shift (N, C, H / 2^level, W / 2^level) per normalization."""
        features = []
        for encoder in self.encoders:
            features.append(encoder(mask))
            mask = F.avg_pool2d(mask, 2)
        items = (head(features[level]) for head, level in zip(self.heads, self.levels, strict=True))
        return [item.chunk(2, dim=1) for item in items]
