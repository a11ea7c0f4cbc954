"""Kernels of `fused`, in Triton; images lie in memory pixel by pixel, each with all of its channels."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sums_kernel(x, sums, pixels, channels, of_a_sum: tl.constexpr, at_a_time: tl.constexpr, block: tl.constexpr):
    """Sum and sum of squares (N, parts, 2, C) of each channel over a part of the pixels."""
    sample, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel = tl.arange(0, block)
    used = channel < channels
    total, square = tl.zeros([block], tl.float32), tl.zeros([block], tl.float32)
    for first in range(0, of_a_sum, at_a_time):
        pixel = part * of_a_sum + first + tl.arange(0, at_a_time)
        place = (sample * pixels + pixel)[:, None] * channels + channel[None, :]
        values = tl.load(x + place, (pixel < pixels)[:, None] & used[None, :], other=0.0).to(tl.float32)
        total += tl.sum(values, 0)
        square += tl.sum(values * values, 0)
    row = sums + (sample * tl.num_programs(1) + part) * 2 * channels
    tl.store(row + channel, total, used)
    tl.store(row + channels + channel, square, used)


@triton.jit
def line_kernel(
    sums,
    line,
    weight,
    bias,
    pixels,
    channels,
    eps,
    parts: tl.constexpr,
    groups: tl.constexpr,
    block: tl.constexpr,
    affine: tl.constexpr,
):
    """Scale and shift (N, 2, C) that normalize each channel by its group, and apply the scale and shift of the norm."""
    sample = tl.program_id(0)
    channel = tl.arange(0, block)
    used = channel < channels
    total, square = tl.zeros([block], tl.float32), tl.zeros([block], tl.float32)
    for part in range(parts):
        row = sums + (sample * parts + part) * 2 * channels
        total += tl.load(row + channel, used, other=0.0)
        square += tl.load(row + channels + channel, used, other=0.0)
    size = (channels // groups) * pixels
    scale, shift = tl.zeros([block], tl.float32), tl.zeros([block], tl.float32)
    for group in tl.static_range(groups):
        inside = channel // (channels // groups) == group
        mean = tl.sum(tl.where(inside, total, 0.0), 0) / size
        variance = tl.sum(tl.where(inside, square, 0.0), 0) / size - mean * mean
        factor = tl.rsqrt(tl.maximum(variance, 0.0) + eps)
        scale = tl.where(inside, factor, scale)
        shift = tl.where(inside, -mean * factor, shift)
    if affine:
        own = tl.load(weight + channel, used, other=0.0).to(tl.float32)
        scale *= own
        shift = shift * own + tl.load(bias + channel, used, other=0.0).to(tl.float32)
    tl.store(line + sample * 2 * channels + channel, scale, used)
    tl.store(line + sample * 2 * channels + channels + channel, shift, used)


@triton.jit
def apply_kernel(
    x,
    line,
    scale,
    shift,
    condition,
    out,
    pixels,
    channels,
    at_a_time: tl.constexpr,
    block: tl.constexpr,
    modulated: tl.constexpr,
    conditioned: tl.constexpr,
):
    """SiLU of what is normalized, modulated by pixel, and modulated by channel."""
    sample = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, block)
    used = channel < channels
    pixel = tl.program_id(1) * at_a_time + tl.arange(0, at_a_time)
    place = (sample * pixels + pixel)[:, None] * channels + channel[None, :]
    inside = (pixel < pixels)[:, None] & used[None, :]
    row = line + sample * 2 * channels + channel
    a, b = tl.load(row, used, other=0.0), tl.load(row + channels, used, other=0.0)
    y = tl.load(x + place, inside, other=0.0).to(tl.float32) * a[None, :] + b[None, :]
    if modulated:
        y = y * tl.load(scale + place, inside, other=0.0).to(tl.float32)
        y += tl.load(shift + place, inside, other=0.0).to(tl.float32)
    if conditioned:
        row = condition + sample * 2 * channels + channel
        a = 1.0 + tl.load(row, used, other=0.0).to(tl.float32)
        b = tl.load(row + channels, used, other=0.0).to(tl.float32)
        y = y * a[None, :] + b[None, :]
    y = y * tl.sigmoid(y)
    tl.store(out + place, y.to(out.dtype.element_ty), inside)
