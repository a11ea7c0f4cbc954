"""The settings of the panel, kept in the scene."""

from __future__ import annotations

import enum
from typing import Annotated

import slicer
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from .saving import Format, Which


class Labelled(enum.Enum):
    """A choice whose values are its texts."""

    def label(self) -> str:
        """For people."""
        return str(self.value)

    @property
    def setting(self) -> str | None:
        """As jobs take it; None for any."""
        return None if self.name == "ANY" else self.name


class Phase(Labelled):
    """Phase of the cycle."""

    ANY = "Any phase"
    ED = "End-diastole"
    ES = "End-systole"


class Level(Labelled):
    """Slice level."""

    ANY = "Any level"
    apical = "Apical"
    mid = "Mid-ventricular"
    basal = "Basal"


class Group(Labelled):
    """Diagnostic group."""

    ANY = "Any group"
    NOR = "Normal"
    MINF = "Infarction"
    DCM = "Dilated"
    HCM = "Hypertrophic"
    RV = "Abnormal RV"


class Precision(Labelled):
    """Numbers of the image network."""

    auto = "Automatic"
    bf16 = "bfloat16"
    fp32 = "float32"


class TuneSource(Labelled):
    """Where labelled scans come from."""

    FOLDER = "A folder on disk"
    SCENE = "The scene"


@parameterNodeWrapper
class Parameters:
    """What the user has set; names of the engine's options where there is one."""

    model: str = "acdc-128"
    device: str = "auto"

    count: Annotated[int, WithinRange(1, 100000)] = 8
    phase: Phase = Phase.ANY
    level: Level = Level.ANY
    group: Group = Group.ANY
    variations: Annotated[int, WithinRange(1, 100)] = 1
    filter: bool = True
    newHearts: bool = True
    seed: Annotated[int, WithinRange(0, 2**31 - 1)] = 0
    steps: Annotated[int, WithinRange(0, 1000)] = 0
    guidance: Annotated[float, WithinRange(0.0, 20.0)] = 0.0
    precision: Precision = Precision.auto
    drawAttributes: bool = True

    mask: slicer.vtkMRMLSegmentationNode | slicer.vtkMRMLLabelMapVolumeNode | None
    maskVariations: Annotated[int, WithinRange(1, 100)] = 1
    maskSeed: Annotated[int, WithinRange(0, 2**31 - 1)] = 0

    cases: slicer.vtkMRMLSequenceBrowserNode | None
    outline: bool = True
    fill: bool = False
    opacity: Annotated[float, WithinRange(0.0, 1.0)] = 1.0
    realData: str = ""

    saveFormat: Format = Format.NNUNET
    saveWhich: Which = Which.KEPT

    tuneSource: TuneSource = TuneSource.FOLDER
    tuneFolder: str = ""
    tuneKept: bool = True
    tuneSteps: Annotated[int, WithinRange(1, 100000)] = 300
    tuneShare: Annotated[float, WithinRange(0.0, 1.0)] = 0.5
    tuneHeldOut: Annotated[float, WithinRange(0.05, 0.9)] = 0.2
    tuneName: str = "my-unet"

    scan: slicer.vtkMRMLScalarVolumeNode | slicer.vtkMRMLSequenceNode | None
    segmenter: str = "acdc-unet"
    insist: bool = False
