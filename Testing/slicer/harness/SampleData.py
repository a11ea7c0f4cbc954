"""Stand-in for the module Sample Data: remembers what is registered, and runs downloaders that modules bring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer


class SampleDataSource:
    """One sample, with what it was registered with as attributes."""

    def __init__(self, **keywords: Any) -> None:
        self.category = self.sampleName = ""
        self.customDownloader: Callable[[Any], Any] | None = None
        vars(self).update(keywords)


class SampleDataLogic:
    """Downloads nothing: a sample is what its own `customDownloader` gives."""

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom",
        sampleName: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: str | None = None,
        loadFileTypes: Any = None,
        loadFiles: Any = None,
        loadFileProperties: Any = None,
        checksums: Any = None,
        loadFileType: Any = None,
    ) -> None:
        """Remember a sample; the keywords are those of Slicer, which takes no others."""
        sources = vars(slicer.modules).setdefault("sampleDataSources", {})
        sources.setdefault(category, []).append(SampleDataSource(**locals()))

    @staticmethod
    def sampleDataSourcesByCategory(category: str | None = None) -> Any:
        """Samples of a category, or all by category."""
        sources = vars(slicer.modules).setdefault("sampleDataSources", {})
        return sources if category is None else sources.get(category, [])

    def sourceForSampleName(self, sampleName: str) -> SampleDataSource | None:
        """The sample of a name."""
        every = [source for each in self.sampleDataSourcesByCategory().values() for source in each]
        return next((source for source in every if source.sampleName == sampleName), None)

    def downloadFromSource(self, source: SampleDataSource) -> list[Any]:
        """Nodes of a sample."""
        if source.customDownloader is None:
            raise NotImplementedError(f"the harness downloads nothing, and {source.sampleName} has no customDownloader")
        made = source.customDownloader(source)
        return list(made) if isinstance(made, (list, tuple)) else [made]

    def downloadSamples(self, sampleName: str) -> list[Any]:
        """Nodes of a sample by its name."""
        source = self.sourceForSampleName(sampleName)
        if source is None:
            raise ValueError(f"there is no sample {sampleName}")
        return self.downloadFromSource(source)

    def downloadSample(self, sampleName: str) -> Any:
        """First node of a sample."""
        return self.downloadSamples(sampleName)[0]


def downloadSample(sampleName: str) -> Any:
    """First node of a sample."""
    return SampleDataLogic().downloadSample(sampleName)


def downloadSamples(sampleName: str) -> list[Any]:
    """Nodes of a sample by its name."""
    return SampleDataLogic().downloadSamples(sampleName)
