"""Tables in CSV files, as challenges ship them and spreadsheets save them again."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path

from ..errors import CardiacError

Row = dict[str, str]


def read_table(path: Path, columns: Iterable[str] = ()) -> list[Row]:
    """The rows of a CSV file that are not blank, by column name in lower case; absent cells are empty.

    Args:
        path: the file; a byte order mark, further columns and semicolons between the cells are accepted.
        columns: those that must be there, in any order and case.

    Raises:
        CardiacError: the file cannot be read as CSV or lacks a column.
    """
    lines = _read_lines(path)
    header = [name.lower() for name in lines[0]] if lines else []
    missing = [name for name in columns if name.lower() not in header]
    if missing:
        raise CardiacError(f"{path} lacks the column {' and '.join(missing)}; restore the table or add the column.")
    empty = dict.fromkeys(header, "")
    return [{**empty, **dict(zip(header, line, strict=False))} for line in lines[1:]]


def index_rows(
    rows: Iterable[Row], column: str, path: Path, spelling: Callable[[str], str] = lambda key: key
) -> dict[str, Row]:
    """Rows by the value of a column; those without a value are left out.

    Args:
        rows: of the table.
        column: its name in lower case.
        path: of the table, for the error text.
        spelling: maps the spellings of a value to one.

    Raises:
        CardiacError: two rows of one value tell different things.
    """
    found: dict[str, Row] = {}
    for row in rows:
        key = spelling(row[column])
        if row[column] and found.setdefault(key, row) != row:
            raise CardiacError(f"{path} lists {row[column]} twice with different facts; remove the wrong row.")
    return found


def _read_lines(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        first = text.partition("\n")[0]
        # Spreadsheets write semicolons where the comma is the decimal sign.
        delimiter = ";" if ";" in first and "," not in first else ","
        lines = [
            [cell.strip() for cell in line] for line in csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
        ]
    except (OSError, csv.Error) as error:
        raise CardiacError(f"{path} cannot be read as a CSV table ({error}); restore or correct it.") from error
    return [line for line in lines if any(line)]
