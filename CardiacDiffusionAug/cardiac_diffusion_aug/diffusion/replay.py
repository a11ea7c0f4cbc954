"""Functions on a GPU that are recorded once, as a CUDA graph, and then replayed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor | None, ...]
    output: Tensor


class Replayed:
    """A function of tensors on a GPU, recorded at the first call with tensors of their shapes.

    Small networks leave a GPU waiting for the processor, which launches thousands of kernels for a sample. A recording
    is one launch. It is bound to what the function reads beside its arguments, such as weights, as that was when it was
    recorded; so the function must do the same at each call, and never wait for the GPU.

    Args:
        function: of tensors of one device, and of None, to a tensor there.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._recordings: dict[tuple[object, ...], _Recording] = {}

    def __call__(self, *tensors: Tensor | None) -> Tensor:
        """What the function makes of the tensors."""
        key = tuple(t if t is None else (t.shape, t.stride(), t.dtype, t.device) for t in tensors)
        if key not in self._recordings:
            self._recordings[key] = self._recorded(tensors)
        recording = self._recordings[key]
        for own, given in zip(recording.inputs, tensors, strict=True):
            if own is not None and given is not None:
                own.copy_(given)
        recording.graph.replay()
        # The next replay writes into the same memory.
        return recording.output.clone()

    def _recorded(self, tensors: tuple[Tensor | None, ...]) -> _Recording:
        inputs = tuple(t if t is None else t.clone() for t in tensors)
        device = next(t.device for t in inputs if t is not None)
        with torch.cuda.device(device):
            aside = torch.cuda.Stream(device)
            aside.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(aside):
                # What is chosen, compiled and allocated at the first call cannot be recorded.
                self._function(*inputs)
            torch.cuda.current_stream(device).wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                output = self._function(*inputs)
        return _Recording(graph, inputs, output)
