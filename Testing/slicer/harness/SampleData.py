"""Stand-in for the module Sample Data: remembers what is registered, and runs downloaders that modules bring."""

from __future__ import annotations

from typing import Any


class SampleDataSource:
    """One sample, with the keywords that it was registered with as attributes."""

    def __init__(self, **keywords: Any) -> None:
        self.category = self.sampleName = ""
        self.customDownloader: Any = None
        vars(self).update(keywords)


sources: list[SampleDataSource] = []
"""All registered samples, oldest first; tests may clear it."""


class SampleDataLogic:
    """Downloads nothing: a sample is what its own `customDownloader` gives."""

    @staticmethod
    def registerCustomSampleDataSource(category: str = "Custom", sampleName: str = "", **keywords: Any) -> None:
        """Remember a sample."""
        sources.append(SampleDataSource(category=category, sampleName=sampleName, **keywords))

    def sourceForSampleName(self, sampleName: str) -> SampleDataSource | None:
        """The sample of a name."""
        return next((each for each in sources if each.sampleName == sampleName), None)

    def downloadFromSource(self, source: SampleDataSource) -> list[Any]:
        """Nodes of a sample."""
        if source.customDownloader is None:
            raise NotImplementedError(f"the harness downloads nothing, and {source.sampleName} has no customDownloader")
        made = source.customDownloader(source)
        return list(made) if isinstance(made, (list, tuple)) else [made]

    def downloadSample(self, sampleName: str) -> Any:
        """First node of a sample."""
        source = self.sourceForSampleName(sampleName)
        if source is None:
            raise ValueError(f"there is no sample {sampleName}")
        return self.downloadFromSource(source)[0]


def downloadSample(sampleName: str) -> Any:
    """First node of a sample."""
    return SampleDataLogic().downloadSample(sampleName)
