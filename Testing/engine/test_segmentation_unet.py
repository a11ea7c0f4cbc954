"""The segmentation network's own layer: the formula of instance normalization, whichever kernel reckons it."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from cardiac_diffusion_aug.networks.segmentation_unet import LIGHT, InstanceNorm, SegmentationUNet


def example(size: int, kind: torch.dtype = torch.float32) -> Tensor:
    """Channels of other means and variances than 0 and 1, lying last."""
    generator = torch.Generator().manual_seed(size)
    x = 3 * torch.randn(2, 24, size, size, generator=generator) + 3 * torch.randn(2, 24, 1, 1, generator=generator)
    return x.to(kind, memory_format=torch.channels_last)


def by_formula(x: Tensor, norm: nn.InstanceNorm2d) -> Tensor:
    """Of a tensor in float64."""
    variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    weight, bias = (p.double().view(1, -1, 1, 1) for p in (norm.weight, norm.bias))
    return (x - mean) / (variance + norm.eps).sqrt() * weight + bias


@pytest.fixture
def norm() -> InstanceNorm:
    made = InstanceNorm(24, affine=True)
    generator = torch.Generator().manual_seed(0)
    nn.init.normal_(made.weight, generator=generator)
    nn.init.normal_(made.bias, generator=generator)
    return made


@pytest.mark.parametrize("size", [8, 31, 32, 65])
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
def test_it_is_instance_normalization(norm: InstanceNorm, size: int, kind: torch.dtype, tolerance: float) -> None:
    x = example(size, kind)
    with torch.inference_mode():
        found = norm(x)
    assert found.dtype == kind
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.double(), by_formula(x.double(), norm), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
def test_its_gradients_are_those_of_the_formula(
    norm: InstanceNorm, size: int, kind: torch.dtype, tolerance: float
) -> None:
    x, exact = example(size, kind).requires_grad_(), example(size, kind).double().requires_grad_()
    reference = copy.deepcopy(norm).double()
    pull = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    (norm(x) * pull).sum().backward()
    (by_formula(exact, reference) * pull).sum().backward()
    for own, other in ((x, exact), (norm.weight, reference.weight), (norm.bias, reference.bias)):
        assert own.grad is not None
        assert other.grad is not None
        assert (own.grad.double() - other.grad).norm() <= tolerance * other.grad.norm()


@pytest.mark.parametrize("arguments", [{}, LIGHT])
def test_all_of_the_networks_norms_are_such(arguments: dict[str, object]) -> None:
    network = SegmentationUNet(**arguments)
    norms = [module for module in network.modules() if isinstance(module, nn.InstanceNorm2d)]
    assert len(norms) == 4 * len(network.config.channels) - 2
    assert all(type(norm) is InstanceNorm for norm in norms)
    plain = copy.deepcopy(network)
    for module in plain.modules():
        if isinstance(module, InstanceNorm):
            module.forward = partial(nn.InstanceNorm2d.forward, module)  # type: ignore[method-assign]
    x = example(64)[:, :1]
    with torch.inference_mode():
        torch.testing.assert_close(network(x), plain(x), rtol=1e-4, atol=1e-4)
