"""Where and how precisely to compute."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from cardiac_diffusion_aug import devices
from cardiac_diffusion_aug.devices import bfloat16_gain, has_fast_bfloat16, use_bfloat16
from cardiac_diffusion_aug.errors import CardiacError

CPU = torch.device("cpu")
SUPPORTED = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.fixture
def anew() -> Iterator[None]:
    bfloat16_gain.cache_clear()
    yield
    bfloat16_gain.cache_clear()


@pytest.mark.usefixtures("anew")
def test_the_gain_is_what_the_processor_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    def convolve(image: torch.Tensor, kernel: torch.Tensor, padding: int) -> None:
        assert image.dtype == kernel.dtype
        clock[0] += 0.4 if image.dtype == torch.float32 else 0.1

    clock = [0.0]
    monkeypatch.setattr(devices, "conv2d", convolve)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    assert bfloat16_gain() == pytest.approx(4)
    monkeypatch.undo()
    assert bfloat16_gain() == pytest.approx(4), "it is measured once"
    bfloat16_gain.cache_clear()
    assert 0 < bfloat16_gain() < 100


@pytest.mark.skipif(not SUPPORTED, reason="this processor does not know bfloat16 at all")
@pytest.mark.parametrize(("gain", "fast"), [(0.4, False), (1.1, False), (1.8, True)])
def test_bfloat16_is_taken_where_it_is_faster(gain: float, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "bfloat16_gain", lambda: gain)
    assert has_fast_bfloat16(CPU) == fast
    assert use_bfloat16("auto", CPU) == fast
    assert use_bfloat16("bf16", CPU)
    assert not use_bfloat16("fp32", CPU)


def test_an_unknown_precision_is_told() -> None:
    with pytest.raises(CardiacError, match="no precision 'fp8'; choose one of auto, bf16, fp32"):
        use_bfloat16("fp8", CPU)
