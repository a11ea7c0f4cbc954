"""The manifest of a data set: a line a case.

`manifest.csv` is the manifest of the whole. While several processes make parts of one data set, each has a hidden
manifest of its own, such as `.manifest-2of4.csv`, so that none ever writes to a file of another.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .disk import is_plain_name
from .errors import CardiacError
from .labels import STRUCTURES
from .parts import Part

MANIFEST = "manifest.csv"
COLUMNS = (
    "name",
    "patient",
    "seed",
    "case",
    "variation",
    "slice",
    "asked",
    "phase",
    "group",
    "level",
    "source",
    "model",
    "model_version",
    "model_sha256",
    "steps",
    "guidance_scale",
    "checks",
    "draws",
    "rejected",
    *(f"dice_{structure.key}" for structure in STRUCTURES),
    "kept",
)
CASE, VARIATION = COLUMNS.index("case"), COLUMNS.index("variation")
OF_A_PART = re.compile(r"\.manifest-[0-9]+of[0-9]+\.csv")


def manifest_name(part: Part | None) -> str:
    """Name of a part's manifest, or of that of the whole."""
    return MANIFEST if part is None else f".manifest-{part}.csv"


def part_manifests(folder: Path) -> list[Path]:
    """The manifests of parts that are in a folder."""
    return sorted(path for path in folder.iterdir() if OF_A_PART.fullmatch(path.name))


def csv_line(values: Sequence[Any]) -> bytes:
    """A line of the manifest."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(["" if value is None else value for value in values])
    return buffer.getvalue().encode()


def read_rows(path: Path) -> Iterator[list[str]]:
    """A manifest's lines without its head, none where there is no such file; one that a crash tore is left out.

    Raises:
        CardiacError: it is not as this program wrote it.
    """
    seen: set[str] = set()
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(line for line in stream if line.endswith("\n"))
            if next(reader, None) != list(COLUMNS):
                raise ValueError("other columns")
            for row in reader:
                # The name becomes a path, of files that may be removed.
                if len(row) != len(COLUMNS) or not is_plain_name(row[0]):
                    raise ValueError(row)
                if row[0] not in seen:
                    seen.add(row[0])
                    yield row
    except FileNotFoundError:
        # Another part may have taken it away since it was listed.
        return
    except (ValueError, csv.Error) as error:
        raise CardiacError(
            f"{path} is not as this program wrote it; restore it, or choose another folder.", "bad_output"
        ) from error


def place(row: Sequence[str]) -> tuple[int, int]:
    """By what lines are put in order: the numbers of case and variation."""
    case, variation = (int(row[column]) if row[column].isdecimal() else 0 for column in (CASE, VARIATION))
    return case, variation
