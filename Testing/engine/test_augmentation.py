"""Deformations: image and mask in step, nothing but the generator at random, and anatomy up to the corners."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from cardiac_diffusion_aug.datasets import read_cases
from cardiac_diffusion_aug.datasets.pack import GREY_LEVELS, PACK_SIZE, SlicePack, pack_cases
from cardiac_diffusion_aug.labels import LV, MYO, RV
from cardiac_diffusion_aug.networks.mask_denoiser import MaskDenoiser
from cardiac_diffusion_aug.outlines import masks_of, signed_distances
from cardiac_diffusion_aug.slices import GRID_SIZE
from cardiac_diffusion_aug.training import objectives
from cardiac_diffusion_aug.training.augmentation import NONE, Deformation, change_gamma, read_at, sampling_points
from cardiac_diffusion_aug.training.tasks import IMAGE_DEFORMATION, MASK_DEFORMATION, MaskTask, deformed_pairs
from phantom import write_acdc

MARGIN = (PACK_SIZE - GRID_SIZE) // 2
STRONG = Deformation(degrees=40, scale=0.25, shift=20, elastic=2.0)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> SlicePack:
    folder = tmp_path_factory.mktemp("phantoms")
    return pack_cases(read_cases(write_acdc(folder / "data", 2, slices=4))[1], folder / "cache")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pairs(pack: SlicePack, deform: Deformation, seed: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Images and labels (N, 128, 128) of all slices."""
    images, classes = deformed_pairs(pack, torch.arange(len(pack)), deform, seeded(seed))
    assert images.shape == (len(pack), 1, GRID_SIZE, GRID_SIZE)
    assert classes.shape == (len(pack), 4, GRID_SIZE, GRID_SIZE)
    assert torch.equal(classes.sum(1), torch.ones(len(pack), GRID_SIZE, GRID_SIZE))
    assert images.abs().max() <= 1
    return images[:, 0].numpy(), classes.argmax(1).numpy()


def cavity_dice(image: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """How well what is bright within the left ventricle fits its labelled cavity."""
    middle = (np.median(image[labels == LV]) + np.median(image[labels == MYO])) / 2
    bright = (image > middle) & np.isin(labels, (LV, MYO))
    return float(2 * (bright & (labels == LV)).sum() / (bright.sum() + (labels == LV).sum()))


def test_no_deformation_is_the_middle_of_the_slice(pack: SlicePack) -> None:
    images, labels = pairs(pack, NONE)
    inner = slice(MARGIN, -MARGIN)
    np.testing.assert_array_equal(labels, pack.masks[:, inner, inner])
    np.testing.assert_allclose(images, pack.images[:, inner, inner] * (2 / GREY_LEVELS) - 1, atol=1e-3)


@pytest.mark.parametrize("deform", [IMAGE_DEFORMATION, MASK_DEFORMATION, STRONG])
def test_image_and_mask_stay_in_step(pack: SlicePack, deform: Deformation) -> None:
    still = pairs(pack, NONE)
    losses = []
    for seed in range(3):
        moved = pairs(pack, deform, seed)
        assert np.any(moved[1] != still[1], axis=(1, 2)).all()
        for image, labels, before, as_was in zip(*moved, *still, strict=True):
            assert image[labels == LV].mean() > image[labels == MYO].mean() + 0.3
            if (labels == RV).sum() > 30:
                assert image[labels == RV].mean() > image[labels == MYO].mean() + 0.3
            assert cavity_dice(image, labels) > 0.85
            losses.append(cavity_dice(before, as_was) - cavity_dice(image, labels))
    # Papillary muscles are dark and labelled as cavity, moved or not.
    assert np.mean(losses) < 0.03


def test_a_mask_out_of_step_would_be_noticed(pack: SlicePack) -> None:
    images, labels = pairs(pack, IMAGE_DEFORMATION)
    shifted = np.roll(labels, 3, axis=2)
    steps = [
        cavity_dice(i, right) - cavity_dice(i, wrong) for i, right, wrong in zip(images, labels, shifted, strict=True)
    ]
    assert np.mean(steps) > 0.05


@pytest.fixture
def outlines(pack: SlicePack, monkeypatch: pytest.MonkeyPatch) -> Callable[[Deformation, int], Tensor]:
    """Distances that the mask network is taught, all slices deformed from a seed."""
    seen: list[Tensor] = []
    monkeypatch.setattr(objectives, "flow_matching_loss", lambda denoiser, clean, noise, sigma: seen.append(clean))
    network = MaskDenoiser(channels=(8, 8), blocks=(1, 1), width=8)

    def make(deform: Deformation, seed: int) -> Tensor:
        task = MaskTask(network, pack, pack, 0.0, deform)
        task.loss(network, torch.arange(len(pack)), seeded(seed), half=False)
        return seen.pop()

    return make


def test_outlines_and_masks_are_deformed_alike(pack: SlicePack, outlines: Callable[[Deformation, int], Tensor]) -> None:
    made = masks_of(outlines(MASK_DEFORMATION, 3))
    _, labels = pairs(pack, MASK_DEFORMATION, 3)
    for value in (LV, MYO, RV):
        assert (
            2 * ((made == value) & (labels == value)).sum() / ((made == value).sum() + (labels == value).sum()) > 0.96
        )


def test_distances_stay_distances_when_hearts_are_enlarged(
    pack: SlicePack, outlines: Callable[[Deformation, int], Tensor]
) -> None:
    amount = Deformation(scale=0.3)
    made = outlines(amount, 2)
    expected = signed_distances(pairs(pack, amount, 2)[1].astype(np.uint8))
    near = expected.abs() < 0.6
    assert (made - expected)[near].abs().mean() < 0.02
    assert made.min() == -1


def test_deformations_come_from_the_generator_alone(pack: SlicePack) -> None:
    torch.manual_seed(0)
    first = pairs(pack, IMAGE_DEFORMATION, 7)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    again, other = pairs(pack, IMAGE_DEFORMATION, 7), pairs(pack, IMAGE_DEFORMATION, 8)
    assert torch.equal(torch.get_rng_state(), state)
    for index in range(2):
        np.testing.assert_array_equal(first[index], again[index])
        assert not np.array_equal(first[index], other[index])


def centroids(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.array([np.argwhere(mask > 0).mean(0) for mask in labels])


def test_a_shift_moves_by_up_to_its_limit(pack: SlicePack) -> None:
    moves = np.concatenate(
        [centroids(pairs(pack, Deformation(shift=10), s)[1]) - centroids(pairs(pack, NONE)[1]) for s in range(4)]
    )
    assert 8 < np.abs(moves).max() < 10.3
    assert np.abs(moves.mean(0)).max() < 4


def test_a_scale_is_the_magnification_that_is_told(pack: SlicePack) -> None:
    amount = Deformation(scale=0.3)
    _, zoom = sampling_points(len(pack), amount, seeded(2))
    assert 1 / 1.3 <= zoom.min() < 0.85 < 1.15 < zoom.max() <= 1.3
    ratio = (pairs(pack, amount, 2)[1] > 0).sum((1, 2)) / (pairs(pack, NONE)[1] > 0).sum((1, 2))
    np.testing.assert_allclose(np.sqrt(ratio), zoom.numpy(), rtol=0.03)


def test_a_rotation_turns_about_the_middle() -> None:
    points, zoom = sampling_points(200, Deformation(degrees=30), seeded())
    assert (zoom == 1).all()
    radius = points.norm(dim=-1)
    assert torch.allclose(radius, radius[:1], atol=1e-5)
    angles = torch.rad2deg(torch.atan2(points[:, 64, -1, 1], points[:, 64, -1, 0]))
    assert 27 < angles.max() < 31
    assert -31 < angles.min() < -27


def test_an_elastic_displacement_is_smooth_and_as_large_as_told() -> None:
    still, _ = sampling_points(50, NONE, seeded())
    points, _ = sampling_points(50, Deformation(elastic=1.5), seeded())
    displacement = (points - still) * PACK_SIZE / 2
    assert 0.8 < displacement.std() < 1.6
    # Neighbouring pixels move alike, so that nothing is torn or folded.
    assert (displacement[:, 1:] - displacement[:, :-1]).abs().max() < 0.6


def test_corners_show_anatomy_instead_of_padding() -> None:
    def padded(size: int) -> Tensor:
        points, _ = sampling_points(200, IMAGE_DEFORMATION, seeded())
        inside = torch.ones(1, 1, size, size).expand(200, 1, size, size)
        return (read_at(inside, points * PACK_SIZE / size, "bilinear", 0.0) < 0.5).float().mean((1, 2, 3))

    wide, narrow = padded(PACK_SIZE), padded(GRID_SIZE)
    assert wide.mean() < 0.005
    assert (wide == 0).float().mean() > 0.5
    assert narrow.mean() > 0.05
    points, _ = sampling_points(200, Deformation(degrees=25), seeded())
    assert points.abs().max() < 1, "a rotation alone needs no padding at all"


def test_beyond_the_slice_lies_what_is_told() -> None:
    points, _ = sampling_points(1, NONE, seeded())
    far = read_at(torch.zeros(1, 2, PACK_SIZE, PACK_SIZE), points + 3, "bicubic", -1.0)
    assert far.shape == (1, 2, GRID_SIZE, GRID_SIZE)
    assert (far == -1).all()


def test_gamma_moves_the_mid_tones_alone() -> None:
    ramp = torch.linspace(-1, 1, 101).expand(64, 1, 1, 101)
    changed = change_gamma(ramp, Deformation(gamma=0.3), seeded())
    assert torch.equal(changed[..., 0], ramp[..., 0])
    torch.testing.assert_close(changed[..., -1], ramp[..., -1])
    assert (changed.diff(dim=-1) > 0).all()
    middle = changed[:, 0, 0, 50]
    assert middle.unique().numel() == 64
    assert 2 * 0.5 ** np.exp(0.3) - 1 <= middle.min() < -0.1
    assert 0.1 < middle.max() <= 2 * 0.5 ** np.exp(-0.3) - 1
