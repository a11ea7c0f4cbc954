"""The segmentation network: MONAI's DynUNet, the U-Net of nnU-Net, kept as the denoisers are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from monai.networks.nets.dynunet import DynUNet
from torch import Tensor, nn
from torch.nn import functional as F

from ..labels import NUM_CLASSES

LIGHT = {"channels": (32, 64, 128, 192), "patch": 2}
"""Arguments of a network that costs a third of the standard one to train."""

FEW_PIXELS = 1024
"""Of a channel, below which PyTorch normalizes groups of one channel on a processor more slowly than instances."""


class InstanceNorm(nn.InstanceNorm2d):
    """Instance normalization by whichever of PyTorch's kernels is fastest on a processor.

    Its own turns a tensor whose channels lie last around and leaves it so, for every later layer to turn back, which
    takes a third of the network's time. That of groups of one channel each turns nothing, but is slow for few pixels,
    and backwards in bfloat16.
    """

    def forward(self, x: Tensor) -> Tensor:
        """A tensor (N, C, H, W), each channel of each sample with mean 0 and variance 1, then scaled and shifted."""
        if x.device.type != "cpu":
            return super().forward(x)
        learns_in_bfloat16 = x.dtype == torch.bfloat16 and torch.is_grad_enabled()
        if x.shape[2] * x.shape[3] >= FEW_PIXELS and not learns_in_bfloat16:
            return F.group_norm(x, self.num_features, self.weight, self.bias, self.eps)
        return super().forward(x).contiguous(memory_format=torch.channels_last)


class SegmentationUNet(ModelMixin, ConfigMixin):  # type: ignore[misc]  # The two state a name in other types.
    """U-Net (Ronneberger et al. 2015) in the shape of nnU-Net (Isensee et al. 2021), on single slices.

    Args:
        channels: width of each level, finest first; every further level has half the size.
        patch: side of the squares of pixels that the finest level sees as one place with that many more channels;
            nothing of the slice is lost, and with 2 a step costs a third.
    """

    @register_to_config
    def __init__(self, channels: Sequence[int] = (24, 48, 96, 192, 256), patch: int = 1) -> None:
        super().__init__()
        further = len(channels) - 1
        self.patch = patch
        self.unet = DynUNet(
            spatial_dims=2,
            in_channels=patch**2,
            out_channels=NUM_CLASSES * patch**2,
            kernel_size=[3] * len(channels),
            strides=[1] + [2] * further,
            upsample_kernel_size=[2] * further,
            filters=list(channels),
            norm_name=("INSTANCE", {"affine": True}),
        )

        # It holds every layer a second time, for a recursion that `forward` does without.
        del self.unet.skip_layers
        for block in list(self.unet.modules()):
            for name, layer in list(block.named_children()):
                if isinstance(layer, nn.InstanceNorm2d):
                    setattr(block, name, InstanceNorm(layer.num_features, affine=True))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W) in [-1, 1] to logits (N, 4, H, W) of background, LV, MYO, RV.

        H and W are multiples of patch * 2^(levels - 1).
        """
        return self._decode(self._encode(images))

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits as `forward` gives them, and what the network sees in the images, (N, D): each channel's mean.

        Coarse levels have seen the heart and its surroundings, fine ones tell sharp from blurred.
        """
        levels = self._encode(images)
        return self._decode(levels), torch.cat([level.float().mean((2, 3)) for level in levels], dim=1)

    def _encode(self, images: Tensor) -> list[Tensor]:
        levels = [self.unet.input_block(F.pixel_unshuffle(images, self.patch))]
        for block in (*self.unet.downsamples, self.unet.bottleneck):
            levels.append(block(levels[-1]))
        return levels

    def _decode(self, levels: list[Tensor]) -> Tensor:
        *skips, x = levels
        for block, skip in zip(self.unet.upsamples, reversed(skips), strict=True):
            x = block(x, skip)
        return F.pixel_shuffle(self.unet.output_block(x), self.patch)
