"""A whole model of tiny random networks, made in a moment: what it draws is no heart, but depends on all it should.

Beside it, what the tests of the command share; a module takes the fixtures with `pytest_plugins = ["tiny"]`.
PYTEST_DONT_REWRITE, for modules import names from here before pytest takes it as a plugin.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

CHANNELS, BLOCKS, WIDTH, HIDDEN = (8, 16, 16), (1, 1, 1), 16, 8
MASK_STEPS, IMAGE_STEPS, GUIDANCE_SCALE = 3, 3, 1.5
SLICE_THICKNESS = 8.0
GAIN = 20.0
CARD = "# tiny 1.0.0\n\nA model for tests.\n"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the model; only to be read."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def forge() -> Iterator[Forge]:
    """Starts processes of the command; absent where processes cannot be forked."""
    if not hasattr(os, "fork"):
        pytest.skip("processes cannot be forked here")
    made = Forge()
    yield made
    made.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of 64 KiB; the test is skipped where it may not be mounted."""
    disk = SmallDisk(tmp_path / "disk")
    yield disk
    disk.unmount()


class Killed(BaseException):
    """As SIGKILL: what follows in the program does not happen."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes the program stop before its n-th change of a path, leaving all as it is."""
    real = {name: getattr(os, name) for name in ("replace", "unlink", "write", "mkdir", "link")}
    left = [-1]

    def stops(name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real[name](*arguments, **options)

        return call

    def arm(count: int) -> None:
        left[0] = count
        for name in real:
            monkeypatch.setattr(os, name, stops(name))

    yield arm
    monkeypatch.undo()


def write_tiny_model(folder: Path, image_steps: int = IMAGE_STEPS) -> Path:
    """Write the model into a folder, whose name becomes its own.

    Returns:
        `folder`.
    """
    from cardiac_diffusion_aug.bundle import write_bundle
    from cardiac_diffusion_aug.training.objectives import flow_scheduler
    from cardiac_diffusion_aug.training.tasks import IMAGE_STEP_MEAN, MASK_STEP_MEAN

    schedulers = {
        "mask_scheduler": flow_scheduler(MASK_STEP_MEAN),
        "image_scheduler": flow_scheduler(IMAGE_STEP_MEAN),
    }
    write_bundle(folder, tiny_networks(), schedulers, tiny_info(folder.name, image_steps), CARD)
    return folder


def tiny_info(name: str = "tiny", image_steps: int = IMAGE_STEPS) -> dict[str, Any]:
    """What its `bundle.json` says."""
    return {
        "name": name,
        "version": "1.0.0",
        "license": "Apache-2.0",
        "labels": {"background": 0, "LV": 1, "MYO": 2, "RV": 3},
        "grid": {"size": 128, "spacing_mm": 1.5},
        "attributes": {"phase": ["ED", "ES"], "group": ["NOR", "MINF", "DCM", "HCM", "RV"], "level": [0.0, 1.0]},
        "slice_thickness_mm": SLICE_THICKNESS,
        "defaults": {"mask_steps": MASK_STEPS, "image_steps": image_steps, "guidance_scale": GUIDANCE_SCALE},
        "training": {"data": "none"},
    }


def tiny_networks() -> dict[str, Any]:
    """The two networks by subfolder, the same at each call."""
    import torch

    from cardiac_diffusion_aug.networks.image_denoiser import ImageDenoiser
    from cardiac_diffusion_aug.networks.mask_denoiser import MaskDenoiser

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        networks = {
            "mask_denoiser": MaskDenoiser(CHANNELS, BLOCKS, WIDTH),
            "image_denoiser": ImageDenoiser(CHANNELS, BLOCKS, WIDTH, HIDDEN),
        }
        for network in networks.values():
            for parameter in network.parameters():
                # Some layers start at zero, and would hide what comes before them.
                parameter.add_(torch.randn(parameter.shape) * 0.1)
        _make_coarse(networks["mask_denoiser"].unet)
    return {name: network.eval() for name, network in networks.items()}


def _make_coarse(unet: Any) -> None:
    """Let a network draw large shapes only, for small ones are taken out of masks again, which takes its time."""
    for stage in unet.up[1:]:
        for block in stage:
            # The second half of what enters comes from the fine level on the way down.
            for layer in (block.conv1, block.skip):
                layer.weight[:, layer.weight.shape[1] // 2 :] = 0
    # What the network says then outweighs the noise that it is added to.
    unet.exit.weight.mul_(GAIN)


class SmallDisk:
    """A file system in memory that is soon full.

    Attributes:
        folder: where it is mounted.
    """

    def __init__(self, folder: Path, size: str = "64k") -> None:
        self.folder = folder
        folder.mkdir()
        if not self._mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
            pytest.skip("file systems may not be mounted here")

    def change(self, options: str) -> None:
        """Remount it, such as with `size=8m` or `ro`."""
        assert self._mount("-o", f"remount,{options}")

    def unmount(self) -> None:
        """Let it go, and all that is on it."""
        subprocess.run(["umount", self.folder], check=True)

    def _mount(self, *options: str) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return subprocess.run(["mount", *options, self.folder], capture_output=True, check=False).returncode == 0
        return False


class Forge:
    """A process that has imported the engine and forks, so that real processes of the command start at once.

    A process of its own, since a fork of the one that runs the tests would inherit torch's threads half dead.
    """

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def start(self, arguments: Sequence[str | Path], log: Path) -> int:
        """Start the command; its output and errors go to `log`. Returns the process id."""
        return self._ask({"start": list(map(str, arguments)), "log": str(log)})

    def wait(self, pid: int) -> int:
        """Exit code of a process that was started, negative for a signal."""
        return self._ask({"wait": pid})

    def run(self, arguments: Sequence[str | Path], log: Path) -> int:
        """Start the command and wait for its exit code."""
        return self.wait(self.start(arguments, log))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def _forge() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "CardiacDiffusionAug"))
    for name in ("cardiac_diffusion_aug.generation", "cardiac_diffusion_aug.export", "diffusers"):
        import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                _be_the_command(request["start"], request["log"])
        print(answer, flush=True)


def _be_the_command(arguments: list[str], log: str) -> None:
    from cardiac_diffusion_aug.cli import main

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    code = 1
    try:
        code = main(arguments)
    finally:
        os._exit(code)


if __name__ == "__main__":
    _forge()
