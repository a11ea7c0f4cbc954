"""Makes the stack of the Sample Data module from the shipped weights: one heart from apex to base, and its image.

python Testing/make_sample.py [--seed N]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from cardiac_diffusion_aug import Attributes, Generator
from cardiac_diffusion_aug.synthesis import synthesize_stack

MODULE = Path(__file__).resolve().parents[1] / "CardiacDiffusionAug"
NAME = "MadeShortAxisStack"
LEVELS = np.linspace(0.12, 0.95, 9)
GAP_MM = 10.0


def main() -> None:
    """Write the stack, its mask and a thumbnail."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    generator = Generator(guidance_scale=2.0)
    wanted = [Attributes("ED", "NOR", float(level)) for level in LEVELS]
    # One noise for all levels: slices of one heart.
    labels = np.concatenate([np.stack(generator.masks(seed, [0], one)) for one in wanted])
    mask = sitk.GetImageFromArray(labels)
    mask.SetSpacing((generator.spacing[0], generator.spacing[1], GAP_MM))
    (image,) = synthesize_stack(generator, mask, seed, attributes=Attributes("ED", "NOR"))
    folder = MODULE / "Resources" / "SampleData"
    folder.mkdir(exist_ok=True)
    sitk.WriteImage(image, str(folder / f"{NAME}.nrrd"), useCompression=True)
    sitk.WriteImage(mask, str(folder / f"{NAME}-mask.nrrd"), useCompression=True)
    middle = sitk.GetArrayFromImage(image)[len(LEVELS) // 2]
    sitk.WriteImage(sitk.GetImageFromArray(middle), str(MODULE / "Resources" / "Icons" / f"{NAME}.png"))


if __name__ == "__main__":
    main()
