"""The networks that `speed.py` compares: those of MONAI and diffusers, and ours, behind one pair of functions.

Peers are built from their libraries' public classes with random weights, on which speed does not depend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cardiac_diffusion_aug.bundle import Bundle
from cardiac_diffusion_aug.labels import NUM_CLASSES
from cardiac_diffusion_aug.networks.blocks import UNKNOWN

UNET2D_CHANNELS = (128, 128, 256, 256, 512, 512)


@dataclass(frozen=True)
class Contender:
    """A mask-conditioned network. Both functions take the network, so that a copy of it can be counted.

    Attributes:
        name: as in the tables.
        network: on the CPU, float32, until it is placed.
        prepare: what is computed from a one-hot mask (N, 4, H, W) once per image.
        predict: the network's answer to a noisy image (N, 1, H, W) at times (N,), given what was prepared.
        layout: memory format that it is placed in; None where the faster one is to be found.
    """

    name: str
    network: nn.Module
    prepare: Callable[[Any, Tensor], Any]
    predict: Callable[[Any, Tensor, Tensor, Any], Tensor]
    layout: torch.memory_format | None = None


def monai_spade(channels: Sequence[int]) -> Contender:
    """MONAI's SPADE U-Net: two residual blocks a level, attention at the coarsest, SPADE on the way up.

    All else is MONAI's default but for the heads of attention: 64 channels each, since the default of 8 makes 32 heads.

    Raises:
        SystemExit: einops, which its attention needs, is not installed.
    """
    from monai.networks.nets import SPADEDiffusionModelUNet
    from monai.utils import OptionalImportError

    try:
        network = SPADEDiffusionModelUNet(
            spatial_dims=2,
            in_channels=1,
            out_channels=1,
            label_nc=NUM_CLASSES,
            num_res_blocks=2,
            channels=tuple(channels),
            attention_levels=(False,) * (len(channels) - 1) + (True,),
            norm_num_groups=32,
            num_head_channels=64,
        )
    except OptionalImportError as error:
        raise SystemExit("The attention of MONAI's network needs einops; run: pip install einops") from error
    return Contender(
        f"MONAI SPADE {'-'.join(map(str, channels))}",
        network,
        prepare=lambda network, mask: mask,
        predict=lambda network, x, time, mask: network(x, time, mask),
    )


def unet2d() -> Contender:
    """The U-Net of mazurowski-lab/segmentation-guided-diffusion: the mask is one more channel of the image.

    Its default, `segmentation_channel_mode="single"`, holds the label's number / 255 in that channel.
    """
    from diffusers import UNet2DModel

    plain = len(UNET2D_CHANNELS)
    network = UNet2DModel(
        sample_size=128,
        in_channels=2,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=UNET2D_CHANNELS,
        down_block_types=("DownBlock2D",) * (plain - 2) + ("AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * (plain - 2),
    )
    return Contender(
        "diffusers UNet2D, mask concatenated",
        network,
        prepare=lambda network, mask: mask.argmax(1, keepdim=True).float() / 255,
        predict=lambda network, x, time, labels: network(torch.cat([x, labels], 1), time, return_dict=False)[0],
    )


def peers() -> list[Contender]:
    """All peers; the first is what the others are compared with."""
    return [monai_spade((64, 128, 256, 256)), monai_spade((32, 64, 128, 256)), unet2d()]


def ours(bundle: Bundle) -> tuple[Contender, Contender]:
    """The shipped image network, with the mask's modulation computed once per image and at each call.

    Nothing is asked of the attributes, as by default, so that there is one call a step and no guidance.
    """
    network = bundle.network("image_denoiser")

    def predict(network: Any, x: Tensor, time: Tensor, condition: Any) -> Tensor:
        answer: Tensor = network(x, time, torch.full((len(x), 3), UNKNOWN, device=x.device), condition)
        return answer

    def contender(name: str, prepare: Callable[[Any, Tensor], Any]) -> Contender:
        return Contender(name, network, prepare, predict, torch.channels_last)

    return (
        contender("ours", lambda network, mask: network.modulation(mask)),
        contender("ours, modulation at each call", lambda network, mask: mask),
    )
