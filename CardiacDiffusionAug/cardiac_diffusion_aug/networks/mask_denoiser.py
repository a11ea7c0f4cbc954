"""Stage 1: the velocity of noisy heart outlines."""

from __future__ import annotations

from collections.abc import Sequence

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from ..outlines import CHANNELS
from .blocks import UNet


class MaskDenoiser(ModelMixin, ConfigMixin):  # type: ignore[misc]  # The two state a name in other types.
    """U-Net over the signed distances of `outlines`.

    Args:
        channels: width of each level, finest first.
        blocks: residual blocks of each level on each way.
        width: size of the condition vector.
    """

    @register_to_config
    def __init__(
        self, channels: Sequence[int] = (32, 64, 128), blocks: Sequence[int] = (1, 2, 2), width: int = 128
    ) -> None:
        super().__init__()
        self.unet = UNet(CHANNELS, CHANNELS, channels, blocks, width, spatial=False)

    def forward(self, sample: Tensor, sigma: Tensor, attributes: Tensor) -> Tensor:
        """Velocity (noise minus outlines), (N, 3, 64, 64) to the same; arguments as for `UNet`."""
        return self.unet(sample, sigma, attributes)
