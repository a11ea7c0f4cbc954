"""What is done otherwise on a GPU: recorded samplers, fused kernels, training with slices deformed there."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cardiac_diffusion_aug.attributes import Attributes
from cardiac_diffusion_aug.diffusion.replay import Replayed
from cardiac_diffusion_aug.errors import Cancelled
from cardiac_diffusion_aug.generation import Generator
from cardiac_diffusion_aug.networks import blocks, fused
from tiny import IMAGE_STEPS

pytest_plugins = ["tiny"]
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of CUDA")
with_triton = pytest.mark.skipif(
    not (torch.cuda.is_available() and fused.has_triton()), reason="needs a GPU of CUDA, and Triton"
)
# Channels and pixels along a side, as in the networks: one, two and several parts to sum over, none a power of two.
SHAPES = [(8, 4), (24, 23), (64, 64), (192, 32), (384, 16)]


def modulated(channels: int, size: int, device: str, kind: torch.dtype) -> list[Any]:
    """Tensor, norms without and with a scale of their own, modulation and condition."""
    generator = torch.Generator().manual_seed(channels)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, kind)

    own = nn.GroupNorm(8, channels)
    nn.init.normal_(own.weight, generator=generator)
    nn.init.normal_(own.bias, generator=generator)
    norms = [norm.to(device) for norm in (nn.GroupNorm(8, channels, affine=False), own)]
    image = (3, channels, size, size)
    # Far from zero, where a variance from sums of squares would be lost first.
    return [3 * drawn(*image) + 10, norms, (drawn(*image), drawn(*image)), drawn(3, 2 * channels)]


def in_float64(x: Tensor, norm: nn.GroupNorm, modulation: Any, condition: Tensor | None) -> Tensor:
    """The activation as its formula says, on the CPU."""
    made: Tensor = norm.cpu().double()(x.cpu().double())
    if modulation is not None:
        made = made * modulation[0].cpu().double() + modulation[1].cpu().double()
    if condition is not None:
        scale, shift = condition.cpu().double()[:, :, None, None].chunk(2, dim=1)
        made = made * (1 + scale) + shift
    return made * torch.sigmoid(made)


def largest_error(channels: int, size: int, device: str, kind: torch.dtype) -> float:
    """Of the fused activation, relative to the same in float64, over all that it may be given."""
    x, norms, modulation, condition = modulated(channels, size, device, kind)
    errors = []
    with torch.inference_mode():
        for norm in norms:
            for pixels in (None, modulation):
                for row in (None, condition):
                    made = fused.fused_activation(x, norm, pixels, row)
                    assert made.dtype == kind
                    assert made.is_contiguous(memory_format=torch.channels_last)
                    exact = in_float64(x, norm, pixels, row)
                    norm.float().to(device)
                    errors.append(float((made.cpu() - exact).norm() / exact.norm()))
    return max(errors)


@with_triton
@pytest.mark.parametrize(("channels", "size"), SHAPES)
def test_fused_activation_is_the_plain_one(channels: int, size: int) -> None:
    assert largest_error(channels, size, "cuda", torch.float32) < 1e-5
    assert largest_error(channels, size, "cuda", torch.bfloat16) < 5e-3


@pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")
def test_fused_activation_on_the_processor() -> None:
    """The kernels are interpreted, in a process of their own, since Triton asks for it when it is imported."""
    script = (
        "import torch, test_gpu as t; print([t.largest_error(c, s, 'cpu', torch.float32) for c, s in t.SHAPES[:2]])"
    )
    path = os.pathsep.join(sys.path)
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    errors = [float(word) for word in found.stdout.strip("[]\n").split(",")]
    assert len(errors) == 2
    assert max(errors) < 1e-5


def test_gradients_are_never_fused() -> None:
    x, norms, modulation, condition = modulated(24, 8, "cpu", torch.float32)
    x.requires_grad_()
    assert not fused.can_fuse(x)
    blocks.activation(x, norms[0], modulation, condition).sum().backward()
    assert x.grad is not None


def test_triton_without_pythons_headers_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def there() -> bool:
        fused.has_triton.cache_clear()
        return fused.has_triton()

    monkeypatch.setattr(fused, "find_spec", lambda name: name)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}" if name == "cc" else None)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert not there()
    (tmp_path / "Python.h").touch()
    assert there()
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert not there()
    monkeypatch.undo()
    there()


@on_a_gpu
def test_what_is_replayed_is_what_was_recorded() -> None:
    calls: list[int] = []

    def function(a: Tensor, b: Tensor | None) -> Tensor:
        calls.append(len(a))
        return a * 2 if b is None else a + b

    replayed = Replayed(function)
    first = torch.arange(4.0, device="cuda")
    kept = replayed(first, None)
    assert torch.equal(replayed(first + 1, None), 2 * first + 2)
    assert torch.equal(replayed(first, first), 2 * first)
    assert torch.equal(replayed(first[:2], None), 2 * first[:2])
    # Nothing is written over that was given out.
    assert torch.equal(kept, 2 * first)
    # Each of the three kinds was warmed up and recorded.
    assert calls == [4, 4, 4, 4, 2, 2]


@on_a_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_case_is_the_same_whatever_is_made_beside_it(tiny_model: Path, precision: str) -> None:
    generator = Generator(tiny_model, "cuda", precision, batch_size=8)
    many = list(generator.generate(11, seed=3))
    (alone,) = Generator(tiny_model, "cuda", precision, batch_size=8).generate(
        10, seed=3, skip=lambda case, variation: case != 9
    )
    assert np.array_equal(alone.image, many[9].image)
    assert np.array_equal(alone.mask, many[9].mask)
    assert len({case.image.tobytes() for case in many}) == 11


@on_a_gpu
def test_it_makes_what_a_processor_makes(tiny_model: Path) -> None:
    asked = Attributes(group="HCM")
    on_gpu, on_cpu = (
        list(Generator(tiny_model, device, "fp32").generate(4, attributes=asked)) for device in ("cuda", "cpu")
    )
    for gpu, cpu in zip(on_gpu, on_cpu, strict=True):
        assert np.mean(gpu.mask != cpu.mask) < 0.01
        if np.array_equal(gpu.mask, cpu.mask):
            assert np.abs(gpu.image.astype(int) - cpu.image).mean() < 1


@on_a_gpu
def test_other_settings_are_recorded_anew(tiny_model: Path) -> None:
    generator = Generator(tiny_model, "cuda", "fp32")
    asked = Attributes(group="HCM")
    (first,) = generator.generate(1, attributes=asked)
    generator.configure(steps=IMAGE_STEPS + 1, guidance_scale=3.0)
    (second,) = generator.generate(1, attributes=asked)
    assert not np.array_equal(first.image, second.image)
    generator.configure()
    (third,) = generator.generate(1, attributes=asked)
    assert np.array_equal(first.image, third.image)


@on_a_gpu
def test_it_can_be_cancelled(tiny_model: Path) -> None:
    def cancel() -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        list(Generator(tiny_model, "cuda", "fp32").generate(1, check=cancel))
