"""Every long job, its parameters defined once for the command line, the worker and the panel."""

from __future__ import annotations

from .base import Context, Job
from .bundle import BuildBundle
from .check import Check
from .enlarge import Enlarge
from .evaluate import Evaluate
from .generate import Generate
from .nearest import Nearest
from .score import ScoreJob
from .segment import Segment
from .study import Study
from .synthesize import Synthesize
from .train import TrainImages, TrainMasks
from .train_unet import TrainUnet

__all__ = ["JOBS", "Context", "Job"]

JOBS: dict[str, type[Job]] = {
    job.NAME: job
    for job in (
        Generate,
        Synthesize,
        Segment,
        ScoreJob,
        Evaluate,
        Check,
        Nearest,
        Enlarge,
        TrainMasks,
        TrainImages,
        BuildBundle,
        TrainUnet,
        Study,
    )
}
