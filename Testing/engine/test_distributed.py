"""Two processes train one network together, as `accelerate launch` starts them on two GPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from phantom import write_acdc

LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cardiac_diffusion_aug"]
LIMIT_SECONDS = 300


def test_two_processes_write_one_training(tmp_path: Path) -> None:
    data = write_acdc(tmp_path / "data", 3)
    output = tmp_path / "run"
    job = ["train-masks", "--data", str(data), "--output", str(output), "--split", "none", "--steps", "2"]
    job += ["--batch-size", "4", "--device", "cpu", "--precision", "fp32"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CARDIAC_DIFFUSION_AUG_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, *LAUNCH, *job],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    snapshots = list(output.iterdir())
    assert [path.name for path in snapshots] == ["snapshot-00000002"]
    state = json.loads((snapshots[0] / "state.json").read_text(encoding="utf-8"))
    assert state["step"] == 2
    assert done.stdout.count("snapshot-00000002/sheet.png") == 1
    assert done.stderr.count("was read as") == 1
