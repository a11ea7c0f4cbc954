"""Parts of a job that several processes or machines share."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import CardiacError, shown


@dataclass(frozen=True)
class Part:
    """One of several parts.

    Attributes:
        index: which, from 1 on.
        count: of parts.
    """

    index: int
    count: int

    def of(self, total: int) -> range:
        """Numbers that belong to it, of those from 0 to below `total`: every `count`-th, so that parts are alike."""
        return range(self.index - 1, total, self.count)

    def __str__(self) -> str:
        # It stands in names of files too, where a slash may not.
        return f"{self.index}of{self.count}"


def parse_part(text: str) -> Part:
    """The part that a text such as `2/4` names.

    Raises:
        CardiacError: it is not understood.
    """
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*", text)
    part = Part(int(match[1]), int(match[2])) if match else Part(0, 0)
    if not 1 <= part.index <= part.count:
        raise CardiacError(f"--part is {shown(text)}, but must be a part of the whole, such as 1/4 or 4/4.")
    return part
