"""The figures of a study: each arm's, and paired differences of arms by patient, from the scores on disk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...labels import STRUCTURES
from ..scores import WORST, Score, read_scores, summarize
from ..statistics import bootstrap_interval, signed_rank_p
from .ledger import Ledger
from .plan import (
    ARMS,
    BOTH,
    COPYING,
    FURTHER,
    PLAIN,
    QUALITY,
    SCORES,
    SYNTHETIC,
    TRADITIONAL,
    UNET,
    Fraction,
    Unit,
)

FloatArray = npt.NDArray[np.float64]
Table = dict[str, dict[str, float]]
"""Of each structure and their `mean`, a value for each patient."""

SCORE_TABLE, SMALL_TABLE = "scores.csv", "small.csv"
MEAN = "mean"
KEYS = (*(s.key for s in STRUCTURES), MEAN)
DICE, HAUSDORFF = "dice", "hausdorff_95_mm"
PAIRS = ((BOTH, TRADITIONAL), (SYNTHETIC, TRADITIONAL), (SYNTHETIC, PLAIN), (TRADITIONAL, PLAIN))
"""Arms that are compared: the first with the second."""
POINTS = 100.0


@dataclass(frozen=True)
class Cell:
    """The scores of one U-Net.

    Attributes:
        scores: of whole volumes.
        small: of their small objects.
    """

    scores: list[Score]
    small: list[Score]

    def table(self, name: str) -> Table:
        """`dice`, `hausdorff_95_mm` or `small_dice` by structure and patient."""
        return by_patient(self.small, DICE) if name == "small_dice" else by_patient(self.scores, name)


def read_cells(ledger: Ledger, units: Iterable[Unit], kind: str = SCORES) -> dict[tuple[int, str, int], Cell]:
    """The scores of all finished cells, by number of patients, arm and seed."""
    return {
        (unit.fraction.count, unit.arm, unit.seed): read_cell(ledger.place(unit))
        for unit in units
        if unit.kind == kind and ledger.is_done(unit)
    }


def read_cell(folder: Path) -> Cell:
    """The scores in the folder of a unit."""
    return Cell(read_scores(folder / SCORE_TABLE), read_scores(folder / SMALL_TABLE))


def by_patient(scores: Iterable[Score], measure: str) -> Table:
    """Means over the volumes of each patient, and as `mean` over the structures.

    What neither reference nor prediction has is left out. Distances, which a structure that was not found lacks, leave
    out the patient then: of the other volumes or structures alone a mean would look better than it is.
    """
    found: dict[str, dict[str, list[float]]] = {key: defaultdict(list) for key in KEYS}
    for score in scores:
        if np.isfinite(score.dice):
            found[score.structure][score.patient].append(float(getattr(score, measure)))
    means = {key: {patient: float(np.mean(v)) for patient, v in found[key].items()} for key in KEYS if key != MEAN}
    patients = sorted({patient for column in means.values() for patient in column})
    means[MEAN] = {p: float(np.mean([column[p] for column in means.values() if p in column])) for p in patients}
    return {key: {p: value for p, value in column.items() if np.isfinite(value)} for key, column in means.items()}


def over_seeds(tables: Sequence[Table]) -> Table:
    """Means over the seeds, of the patients who have a value in each of them."""
    result: Table = {}
    for key in KEYS:
        common = set.intersection(*(set(table[key]) for table in tables)) if tables else set()
        result[key] = {p: float(np.mean([table[key][p] for table in tables])) for p in sorted(common)}
    return result


def arm_figures(cells: Sequence[Cell]) -> dict[str, Any]:
    """Figures of an arm from its cells, one for each seed.

    Returns:
        `dice`, `hausdorff_95_mm` and `small_dice` by structure, each with mean over patients, interval, patients and
        the mean of each seed; `worst_dice`, the mean of the worst tenth of the volumes; and `no_distance`, how many
        structures of how many, over all volumes and seeds, either reference or prediction alone has.
    """
    figures: dict[str, Any] = {}
    for name in (DICE, HAUSDORFF, "small_dice"):
        tables = [cell.table(name) for cell in cells]
        common = over_seeds(tables)
        figures[name] = {
            key: {**_mean_of(list(common[key].values())), "seeds": [_mean(list(t[key].values())) for t in tables]}
            for key in KEYS
        }
    worst = [_worst(_volume_dice(cell.scores)) for cell in cells]
    figures["worst_dice"] = {"mean": _mean(worst), "seeds": worst}
    missed = [[not np.isfinite(s.hausdorff_95_mm) for s in cell.scores if np.isfinite(s.dice)] for cell in cells]
    figures["no_distance"] = {"count": int(sum(map(sum, missed))), "of": int(sum(map(len, missed)))}
    return figures


def compared(first: Mapping[int, Cell], second: Mapping[int, Cell]) -> dict[str, Any] | None:
    """Differences of two arms, first minus second, paired by seed and by patient; None where no seed has both.

    Args:
        first, second: cells by seed.

    Returns:
        By measure and structure: mean difference (of Dice in points, of distances in mm), its interval by bootstrap
        over patients, p of the signed-rank test, number of patients and the difference of each seed. `ratio` is of the
        mean Dice.
    """
    seeds = sorted(set(first) & set(second))
    if not seeds:
        return None
    first, second = _comparable({seed: first[seed] for seed in seeds}, {seed: second[seed] for seed in seeds})
    result: dict[str, Any] = {"seeds": seeds}
    for name in (DICE, HAUSDORFF, "small_dice"):
        scale = 1.0 if name == HAUSDORFF else POINTS
        tables = [[arm[seed].table(name) for seed in seeds] for arm in (first, second)]
        a, b = map(over_seeds, tables)
        result[name] = {}
        for key in KEYS:
            differences = _differences(a[key], b[key], scale)
            own = [_mean(_differences(x[key], y[key], scale)) for x, y in zip(*tables, strict=True)]
            facts = {**_mean_of(differences), "p": signed_rank_p(differences), "seeds": own}
            result[name][key] = facts
        if name == DICE:
            means = [_mean(list(table[MEAN].values())) for table in (a, b)]
            result["ratio"] = means[0] / means[1] if means[0] is not None and means[1] else None
    result["worst_dice"] = _worst_difference([first[s] for s in seeds], [second[s] for s in seeds])
    return result


def _comparable(*arms: Mapping[int, Cell]) -> list[dict[int, Cell]]:
    """Arms with those structures of volumes alone that have a Dice in all cells.

    One that the reference lacks has none where nothing is found, but 0 where a pixel is: it would count in one arm
    alone.
    """
    cells = [cell for arm in arms for cell in arm.values()]

    def known(scores: Sequence[Score]) -> set[tuple[str, str]]:
        return {(s.case, s.structure) for s in scores if np.isfinite(s.dice)}

    whole = set.intersection(*(known(cell.scores) for cell in cells))
    small = set.intersection(*(known(cell.small) for cell in cells))

    def kept(scores: Sequence[Score], which: set[tuple[str, str]]) -> list[Score]:
        return [s for s in scores if (s.case, s.structure) in which]

    return [{seed: Cell(kept(c.scores, whole), kept(c.small, small)) for seed, c in arm.items()} for arm in arms]


def gain_sentence(fraction: str, facts: Mapping[str, Any], where: str = "") -> str:
    """What synthetic pairs add over strong traditional augmentation, in plain words.

    Args:
        fraction: such as `8 patients`.
        facts: as `compared` gives them.
        where: such as `on the further data`; whom it was measured on is told otherwise.
    """
    found = facts[DICE][MEAN]
    gain, interval = found["mean"], found["interval"]
    if gain is None:
        return f"With {fraction}, nothing could be compared."
    verb = f"add {gain:.1f} points of Dice" if gain >= 0 else f"take {-gain:.1f} points of Dice away"
    count = len(facts["seeds"])
    measured = f"{found['patients']} patients never seen, {count} seed{'s' * (count != 1)}{where}"
    if interval is None:
        return f"With {fraction}, synthetic pairs {verb} (no interval from one patient), {_against(gain)}; {measured}."
    low, high = interval
    of_gain = "95 % interval" if gain >= 0 else "95 % interval of the gain"
    sure = "" if low > 0 or high < 0 else ", which holds 0: no difference is shown"
    text = f"With {fraction}, synthetic pairs {verb} ({of_gain} {low:.1f} to {high:.1f}{sure}) {_against(gain)}"
    return f"{text}; {measured}."


def study_figures(
    ledger: Ledger, units: Sequence[Unit], fractions: Sequence[Fraction], kind: str = SCORES
) -> dict[str, Any]:
    """Figures of all arms and comparisons, by number of patients, of what is finished."""
    cells = read_cells(ledger, units, kind)
    arms: dict[str, Any] = {}
    comparisons: dict[str, Any] = {}
    for fraction in fractions:
        own = {arm: {s: c for (n, a, s), c in cells.items() if (n, a) == (fraction.count, arm)} for arm in ARMS}
        arms[str(fraction.count)] = {
            arm: {"seeds": sorted(found), **arm_figures([found[s] for s in sorted(found)])}
            for arm, found in own.items()
            if found
        }
        pairs = {f"{a}-{b}": compared(own[a], own[b]) for a, b in PAIRS}
        comparisons[str(fraction.count)] = {name: facts for name, facts in pairs.items() if facts is not None}
    return {"arms": arms, "comparisons": comparisons}


def not_run(ledger: Ledger, units: Sequence[Unit]) -> list[str]:
    """What was not trained, scored or measured yet, in words."""
    left: dict[tuple[str, str], list[int]] = {}
    further = []
    for unit in units:
        if unit.kind in (FURTHER, COPYING, QUALITY) and not ledger.is_done(unit):
            further.append(unit.name)
        elif unit.kind in (UNET, SCORES) and not ledger.is_done(unit):
            change = "" if unit.variant is None else f", {unit.variant.text}"
            seeds = left.setdefault((f"{unit.fraction.name}{change}", unit.arm), [])
            seeds += [unit.seed] if unit.seed not in seeds else []
    cells = [
        f"{fraction}, {arm} arm: seed{'s' * (len(seeds) > 1)} {', '.join(map(str, sorted(seeds)))}"
        for (fraction, arm), seeds in left.items()
    ]
    return [*cells, *further]


def worst_volumes(cells: Mapping[int, Cell], count: int) -> list[tuple[int, Score]]:
    """The volumes of the lowest Dice over all seeds, each once: the seed, and the mean score."""
    rows = [(seed, score) for seed, cell in cells.items() for score in _volume_dice(cell.scores)]
    chosen: dict[str, tuple[int, Score]] = {}
    for seed, score in sorted(rows, key=lambda row: row[1].dice):
        chosen.setdefault(score.case, (seed, score))
    return list(chosen.values())[:count]


def _against(gain: float) -> str:
    return "over strong traditional augmentation" if gain >= 0 else "from strong traditional augmentation"


def _volume_dice(scores: Sequence[Score]) -> list[Score]:
    """A score for each volume with the mean Dice of its structures."""
    volumes: dict[str, list[Score]] = defaultdict(list)
    for score in scores:
        if np.isfinite(score.dice):
            volumes[score.case].append(score)
    return [replace(own[0], structure=MEAN, dice=float(np.mean([s.dice for s in own]))) for own in volumes.values()]


def _worst(scores: Sequence[Score]) -> float | None:
    found = summarize(scores, DICE)
    return None if found is None else asdict(found)["worst"]


def _worst_difference(first: Sequence[Cell], second: Sequence[Cell]) -> dict[str, Any]:
    """Of the worst tenths of two arms, whose volumes differ, so that there are no pairs; patients are drawn."""
    columns = [{s.case: s for s in _volume_dice(cell.scores)} for cell in (*first, *second)]
    cases = sorted(set.intersection(*(set(column) for column in columns)))
    if not cases:
        return {"mean": None, "interval": None}
    values = np.array([[column[case].dice for column in columns] for case in cases]) * POINTS
    patients = [columns[0][case].patient for case in cases]

    def difference(rows: FloatArray) -> float:
        worst = np.sort(rows, axis=0)[: max(1, round(WORST * len(rows)))].mean(0)
        return float(worst[: len(first)].mean() - worst[len(first) :].mean())

    several = len(set(patients)) > 1
    interval = list(bootstrap_interval(values, patients, difference)) if several else None
    return {"mean": difference(values), "interval": interval}


def _differences(a: Mapping[str, float], b: Mapping[str, float], scale: float) -> list[float]:
    return [scale * (a[patient] - b[patient]) for patient in sorted(set(a) & set(b))]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _mean_of(values: Sequence[float]) -> dict[str, Any]:
    interval = list(bootstrap_interval(values)) if len(values) > 1 else None
    return {"mean": _mean(values), "interval": interval, "patients": len(values)}
