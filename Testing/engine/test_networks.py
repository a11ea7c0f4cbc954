"""The two denoisers: where the mask and the attributes enter, and that nothing of them is lost."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cardiac_diffusion_aug.attributes import GROUPS, PHASES
from cardiac_diffusion_aug.diffusion.sampling import case_noise, sample
from cardiac_diffusion_aug.labels import LV, MYO, NUM_CLASSES, RV
from cardiac_diffusion_aug.networks.blocks import (
    UNKNOWN,
    AttributeEmbedding,
    MaskModulation,
    Modulation,
    SelfAttention,
    sinusoids,
    with_coordinates,
)
from cardiac_diffusion_aug.networks.image_denoiser import PATCH, ImageDenoiser, likeliest, one_hot
from cardiac_diffusion_aug.networks.mask_denoiser import MaskDenoiser
from cardiac_diffusion_aug.outlines import CHANNELS
from cardiac_diffusion_aug.training.objectives import flow_scheduler

NOTHING = (UNKNOWN, UNKNOWN, UNKNOWN)
NetworkPair = tuple[ImageDenoiser, MaskDenoiser]


def randomized(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random values in place of the zeros that a network starts with, which would hide everything."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return network.eval()


@pytest.fixture
def images() -> ImageDenoiser:
    network = randomized(ImageDenoiser(channels=(16, 24), blocks=(1, 2), width=16, hidden=8))
    assert isinstance(network, ImageDenoiser)
    return network


@pytest.fixture
def outlines() -> MaskDenoiser:
    network = randomized(MaskDenoiser(channels=(16, 24), blocks=(1, 2), width=16))
    assert isinstance(network, MaskDenoiser)
    return network


def hearts(count: int = 2, size: int = 32) -> Tensor:
    """One-hot masks (N, 4, size, size) of hearts of growing size."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    distance = torch.hypot(y - size / 2.0, x - size / 2.0)
    masks = []
    for index in range(count):
        radius = size * (0.15 + 0.05 * index)
        mask = torch.where(distance < radius, LV, torch.where(distance < 1.5 * radius, MYO, 0))
        mask[(mask == 0) & (x < size / 3)] = RV
        masks.append(mask)
    return one_hot(torch.stack(masks))


def rows(*attributes: tuple[float, float, float]) -> Tensor:
    return torch.tensor(attributes)


def noise(count: int = 2, channels: int = 1, size: int = 32, seed: int = 0) -> Tensor:
    return torch.stack([case_noise(seed, case, 0, (channels, size, size)) for case in range(count)])


SIGMAS = torch.tensor([0.3, 0.8])
ASKED = rows((0, 2, 0.4), NOTHING)


def flow(network: ImageDenoiser, modulation: list[Modulation] | Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """Velocity with what the mask contributes, given or recomputed from the mask."""
    made: Tensor = network(x, sigma, ASKED, modulation)
    return made


# The mask


def test_modulation_computed_once_is_modulation_recomputed(images: ImageDenoiser) -> None:
    mask = hearts()
    once = images.modulation(mask)
    with torch.inference_mode():
        cached, again = (
            sample(partial(flow, images, modulation), noise(), flow_scheduler(0.5), 8) for modulation in (once, mask)
        )
    assert torch.equal(cached, again)
    assert cached.std() > 0


def test_the_mask_enters_through_modulation_alone(images: ImageDenoiser) -> None:
    first, second = hearts(), hearts().flip(0)
    with torch.inference_mode():
        assert not torch.allclose(images(noise(), SIGMAS, ASKED, first), images(noise(), SIGMAS, ASKED, second))
        for head, (_, channels) in zip(images.mask_modulation.heads, images.unet.modulated, strict=True):
            assert isinstance(head, nn.Conv2d)
            assert head.bias is not None
            nn.init.zeros_(head.weight)
            head.bias[:channels], head.bias[channels:] = 1, 0
        assert torch.equal(images(noise(), SIGMAS, ASKED, first), images(noise(), SIGMAS, ASKED, second))


def test_each_normalization_has_its_modulation(images: ImageDenoiser) -> None:
    mask = hearts()
    items = images.modulation(mask)
    assert len(items) == len(images.unet.modulated)
    for item, (level, channels) in zip(items, images.unet.modulated, strict=True):
        assert [half.shape for half in item] == [(2, channels, 16 >> level, 16 >> level)] * 2
    with torch.inference_mode():
        before = images(noise(), SIGMAS, ASKED, items)
        for index in range(len(items)):
            for more in ((0.3, 0.0), (0.0, 0.3)):
                halves = items[index][0] + more[0], items[index][1] + more[1]
                changed = [halves if i == index else item for i, item in enumerate(items)]
                assert not torch.equal(images(noise(), SIGMAS, ASKED, changed), before)


def test_a_pixel_of_the_mask_is_felt_where_it_is(images: ImageDenoiser) -> None:
    mask = hearts(1, 64)
    other = mask.clone()
    other[:, :, 40, 21] = mask[:, :, 40, 21].roll(1, dims=1)
    with torch.no_grad():
        one, two = (torch.cat(images.modulation(m)[0], dim=1) for m in (mask, other))
        change = (one - two).abs().sum(1)[0]
    # Two 3x3 convolutions see two patches to each side.
    assert change[20, 10] > 0
    change[18:23, 8:13] = 0
    assert not change.any()


def test_patches_lose_nothing(images: ImageDenoiser) -> None:
    x = noise()
    assert images.to_patches(x).shape == (2, PATCH**2, 16, 16)
    assert torch.equal(images.to_pixels(images.to_patches(x)), x)
    mask = hearts()
    assert torch.equal(images.to_pixels(images.to_patches(mask)), mask)


def test_a_thin_wall_is_seen_at_every_level() -> None:
    mask = torch.zeros(1, 64, 64, dtype=torch.long)
    mask[0, 20:45, 20:45] = MYO
    mask[0, 21:44, 21:44] = LV
    classes = one_hot(mask)
    seen: list[Tensor] = []
    modulation = MaskModulation(NUM_CLASSES, [(level, 8) for level in range(5)], 4)
    for encoder in modulation.encoders:
        encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    modulation(classes)
    assert [s.shape[-1] for s in seen] == [64, 32, 16, 8, 4]
    for level, features in enumerate(seen):
        torch.testing.assert_close(features.mean((2, 3)), classes.mean((2, 3)))
        crossed = nn.functional.max_pool2d(classes[:, MYO : MYO + 1], 2**level) > 0
        assert (features[:, MYO : MYO + 1][crossed] > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_likeliest_class_is_the_first_of_the_highest(dtype: torch.dtype, layout: torch.memory_format) -> None:
    # Few values, so that many are equal.
    scores = torch.randint(-2, 3, (3, NUM_CLASSES, 16, 16), generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = likeliest(scores.to(memory_format=layout))
    assert labels.dtype == torch.uint8
    values = scores.float().numpy()
    for value in range(NUM_CLASSES):
        highest = (values[:, value] == values.max(1)) & (values[:, :value] < values[:, value : value + 1]).all(1)
        assert np.array_equal(labels.numpy() == value, highest)


def test_the_likeliest_class_of_one_hot_is_the_label() -> None:
    labels = torch.randint(0, NUM_CLASSES, (2, 8, 8), generator=torch.Generator().manual_seed(1))
    assert torch.equal(likeliest(one_hot(labels)).long(), labels)


def test_one_hot_is_one_at_the_label() -> None:
    labels = torch.tensor([[[0, 1], [2, 3]]])
    classes = one_hot(labels)
    assert classes.shape == (1, NUM_CLASSES, 2, 2)
    assert torch.equal(classes.argmax(1), labels)
    assert torch.equal(classes.sum(1), torch.ones(1, 2, 2))


# Attributes and noise level


@pytest.mark.parametrize(
    "changed", [(1, 2, 0.4), (0, 3, 0.4), (0, 2, 0.5), (UNKNOWN, 2, 0.4), NOTHING, (0, 2, UNKNOWN)]
)
def test_each_attribute_changes_the_result(
    changed: tuple[float, float, float], images: ImageDenoiser, outlines: MaskDenoiser
) -> None:
    sigma = torch.tensor([0.5])
    with torch.inference_mode():
        pair = [
            (images(noise(1), sigma, rows(asked), hearts(1)), outlines(noise(1, CHANNELS), sigma, rows(asked)))
            for asked in ((0, 2, 0.4), changed)
        ]
    for before, after in zip(*pair, strict=True):
        assert (before - after).abs().max() > 1e-4


def test_every_phase_group_and_level_differs() -> None:
    embedding = AttributeEmbedding(16)
    asked: list[tuple[float, float, float]] = [(p, UNKNOWN, UNKNOWN) for p in range(-1, len(PHASES))]
    asked += [(UNKNOWN, g, UNKNOWN) for g in range(len(GROUPS))] + [(UNKNOWN, UNKNOWN, v) for v in (0, 0.01, 0.5, 1)]
    vectors = embedding(rows(*asked))
    distances = torch.cdist(vectors, vectors) + torch.eye(len(asked))
    assert distances.min() > 1e-3


def test_what_is_not_asked_depends_on_its_own_vectors_alone() -> None:
    embedding = AttributeEmbedding(16)
    before = embedding(rows(NOTHING))
    with torch.no_grad():
        embedding.phase.weight[1:] += 1
        embedding.group.weight[1:] += 1
        embedding.level.weight += 1
        embedding.no_level.add_(0.5)
    torch.testing.assert_close(embedding(rows(NOTHING)), before + 0.5)


def test_a_sample_does_not_depend_on_its_neighbours(images: ImageDenoiser, outlines: MaskDenoiser) -> None:
    sigma = torch.tensor([0.5, 0.5])
    with torch.inference_mode():
        for other in ((0, 0, 0.1), (1, 4, 0.9)):
            together = outlines(noise(2, CHANNELS), sigma, rows(NOTHING, other))[:1]
            alone = outlines(noise(1, CHANNELS), sigma[:1], rows(NOTHING))
            torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
            together = images(noise(), sigma, rows(NOTHING, other), hearts())[:1]
            alone = images(noise(1), sigma[:1], rows(NOTHING), hearts(1))
            torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_the_noise_level_changes_the_result(outlines: MaskDenoiser) -> None:
    with torch.inference_mode():
        low, high = (outlines(noise(1, CHANNELS), torch.tensor([s]), rows(NOTHING)) for s in (0.40, 0.41))
    assert (low - high).abs().max() > 1e-5


def test_sinusoids_tell_noise_levels_apart() -> None:
    features = sinusoids(torch.linspace(0, 1000, 101), 64)
    assert features.shape == (101, 64)
    assert features.abs().max() <= 1
    assert (torch.cdist(features, features) + 9 * torch.eye(101)).min() > 0.5


# The U-Net


@pytest.mark.parametrize("size", [(128, 128), (64, 64), (40, 72)])
def test_other_sizes_than_the_grid_work(size: tuple[int, int], images: ImageDenoiser, outlines: MaskDenoiser) -> None:
    mask = nn.functional.interpolate(hearts(), size)
    with torch.inference_mode():
        made = images(torch.randn(2, 1, *size), SIGMAS, ASKED, mask)
        assert made.shape == (2, 1, *size)
        assert made.isfinite().all()
        assert outlines(torch.randn(2, CHANNELS, *size), SIGMAS, ASKED).shape == (2, CHANNELS, *size)


def test_a_fractional_mask_is_taken(images: ImageDenoiser) -> None:
    shrunk = nn.functional.avg_pool2d(hearts(size=64), 2)
    with torch.inference_mode():
        assert images(noise(), SIGMAS, ASKED, shrunk).isfinite().all()


def test_a_new_network_says_nothing() -> None:
    network = ImageDenoiser(channels=(8, 16), blocks=(1, 1), width=8, hidden=8)
    with torch.inference_mode():
        assert not network(noise(), SIGMAS, ASKED, hearts()).any()


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    image = ImageDenoiser(channels=(8, 16), blocks=(1, 2), width=8, hidden=8)
    outline = MaskDenoiser(channels=(8, 16), blocks=(1, 2), width=8)
    for network, call in (
        (image, lambda: image(noise(), SIGMAS, ASKED, hearts())),
        (outline, lambda: outline(noise(2, CHANNELS), SIGMAS, ASKED)),
    ):
        optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
        reached: set[str] = set()
        # Layers that start at zero let no gradient through at first: the exit, then the ends of the blocks.
        for _ in range(3):
            optimizer.zero_grad()
            result = call()
            (result - torch.ones_like(result)).square().mean().backward()
            reached |= {n for n, p in network.named_parameters() if p.grad is not None and bool(p.grad.any())}
            optimizer.step()
        assert reached == {name for name, _ in network.named_parameters()}


def test_attention_mixes_all_pixels_alike() -> None:
    attention = SelfAttention(16)
    randomized(attention)
    x = torch.randn(1, 16, 4, 6)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))

    def shuffled(t: Tensor) -> Tensor:
        return t.flatten(2)[..., order].view(1, 16, 4, 6)

    with torch.inference_mode():
        torch.testing.assert_close(attention(shuffled(x)), shuffled(attention(x)), atol=1e-5, rtol=1e-4)
        q, k, v = attention.qkv(attention.norm(x)).reshape(3, 4, 4, 24)
        weights = torch.softmax(torch.einsum("hcq,hck->hqk", q, k) / math.sqrt(4), -1)
        mixed = torch.einsum("hqk,hck->hcq", weights, v).reshape(1, 16, 4, 6)
        torch.testing.assert_close(attention(x), x + attention.out(mixed), atol=1e-5, rtol=1e-4)


def test_coordinates_run_from_edge_to_edge() -> None:
    x = with_coordinates(torch.zeros(2, 3, 4, 6))
    assert x.shape == (2, 5, 4, 6)
    assert x[1, 3, :, 2].tolist() == pytest.approx([-1, -1 / 3, 1 / 3, 1])
    assert x[0, 4, 1].tolist() == pytest.approx(np.linspace(-1, 1, 6).tolist())


# On disk


def test_a_configuration_makes_the_same_network(images: ImageDenoiser, outlines: MaskDenoiser, tmp_path: Path) -> None:
    for network in (images, outlines):
        network.save_config(tmp_path)
        kind: Any = type(network)
        again = kind.from_config(kind.load_config(tmp_path))
        assert {n: p.shape for n, p in again.named_parameters()} == {n: p.shape for n, p in network.named_parameters()}


def test_a_saved_network_makes_the_same_result(images: ImageDenoiser, tmp_path: Path) -> None:
    images.save_pretrained(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".json", ".safetensors")]
    again = ImageDenoiser.from_pretrained(tmp_path)
    with torch.inference_mode():
        assert torch.equal(*(n(noise(), SIGMAS, ASKED, hearts()) for n in (images, again)))


@pytest.mark.parametrize(("kind", "millions"), [(ImageDenoiser, (6, 14)), (MaskDenoiser, (2, 4))])
def test_the_shipped_networks_are_small(kind: type[nn.Module], millions: tuple[int, int]) -> None:
    low, high = millions
    assert low < sum(p.numel() for p in kind().parameters()) / 1e6 < high
