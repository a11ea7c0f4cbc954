"""Stage 2: the velocity of a noisy MR slice, given its mask through SPADE."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

from ..labels import NUM_CLASSES
from .blocks import MaskModulation, Modulation, UNet

PATCH = 2


class ImageDenoiser(ModelMixin, ConfigMixin):  # type: ignore[misc]  # The two state a name in other types.
    """SPADE U-Net on 2x2 patches: the mask enters through spatially-adaptive normalization only.

    Args:
        channels: width of each level, finest (half the image size) first.
        blocks: residual blocks of each level on each way.
        width: size of the condition vector.
        hidden: channels between the mask and its scales and shifts.
    """

    @register_to_config
    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 192),
        blocks: Sequence[int] = (1, 2, 2),
        width: int = 192,
        hidden: int = 64,
    ) -> None:
        super().__init__()
        self.unet = UNet(PATCH**2, PATCH**2, channels, blocks, width, spatial=True)
        self.mask_modulation = MaskModulation(NUM_CLASSES * PATCH**2, self.unet.modulated, hidden)
        self.to_patches = nn.PixelUnshuffle(PATCH)
        self.to_pixels = nn.PixelShuffle(PATCH)

    def modulation(self, mask: Tensor) -> list[Modulation]:
        """What the mask contributes to every step: computed once, used at each.

        Args:
            mask: (N, 4, H, W), one-hot over background, LV, MYO, RV, or fractions where shrunk.
        """
        # Each by itself in memory, where every step reads it faster than as half of a tensor.
        return [
            (scale.contiguous(memory_format=torch.channels_last), shift.contiguous(memory_format=torch.channels_last))
            for scale, shift in self.mask_modulation(self.to_patches(mask))
        ]

    def forward(
        self, sample: Tensor, sigma: Tensor, attributes: Tensor, modulation: Sequence[Modulation] | Tensor
    ) -> Tensor:
        """Velocity (noise minus image) of a noisy slice.

        Args:
            sample: (N, 1, H, W), H and W multiples of 8.
            sigma: noise levels (N,) in 0..1.
            attributes: rows (N, 3) as `AttributeEmbedding` takes them.
            modulation: from `modulation`, or the one-hot mask itself, from which it is then computed.
        """
        if isinstance(modulation, Tensor):
            modulation = self.mask_modulation(self.to_patches(modulation))
        return self.to_pixels(self.unet(self.to_patches(sample), sigma, attributes, modulation))


def one_hot(mask: Tensor) -> Tensor:
    """Labels (N, H, W) as (N, 4, H, W) of zeros and ones."""
    return F.one_hot(mask.long(), NUM_CLASSES).movedim(-1, 1).float()


def likeliest(scores: Tensor) -> Tensor:
    """The class with the highest of scores (N, classes, H, W), the first of equal ones, as (N, H, W) uint8.

    What `argmax` finds, but that takes twenty times as long on a processor where classes are not the innermost axis.
    """
    best, labels = scores[:, 0].clone(), torch.zeros_like(scores[:, 0], dtype=torch.uint8)
    for value in range(1, scores.shape[1]):
        labels.masked_fill_(scores[:, value] > best, value)
        torch.maximum(best, scores[:, value], out=best)
    return labels
