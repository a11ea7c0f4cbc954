"""Model: which one, its card, the device, and a test."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

import qt
from cardiac_diffusion_aug.bundle import GENERATOR

from ..cases import CaseSet
from ..environment import choosePython, chosenPython
from ..job import Callbacks, Job, State
from ..models import Model, modelAt, models
from .section import Section

AUTO, CPU = "auto", "cpu"
TEST_TITLE = "Test"
CARD_SIZE = 700, 600


class ModelSection(Section):
    """Model and device."""

    def setup(self) -> None:
        """Connect the widgets."""
        ui = self.ui
        self._models: list[Model] = []
        self._devices: list[dict[str, Any]] = []
        self.card: Any = None
        ui.modelComboBox.connect("activated(int)", self._onModel)
        ui.modelFolderButton.clicked.connect(self._chooseFolder)
        ui.deviceComboBox.connect("activated(int)", self._onDevice)
        ui.cardButton.clicked.connect(self.showCard)
        ui.testButton.clicked.connect(self.test)
        ui.pythonPathEdit.currentPath = chosenPython()
        ui.pythonPathEdit.currentPathChanged.connect(self._onPython)

    @property
    def device(self) -> str:
        """The device that jobs run on."""
        return self.parameters.device

    @property
    def steps(self) -> int | None:
        """Steps that are asked for; None for the model's own."""
        fixed = self.model is not None and self.model.imageCalls is not None
        return None if fixed else self.parameters.steps or None

    def bind(self) -> None:
        """Show model and device of the settings."""
        self._listModels()
        self._listDevices()

    def _listModels(self) -> None:
        ui, wanted = self.ui, self.parameters.model
        self._models = models(GENERATOR, wanted)
        ui.modelComboBox.clear()
        for model in self._models:
            ui.modelComboBox.addItem(model.name)
        names = [model.name for model in self._models]
        ui.modelComboBox.setCurrentIndex(names.index(wanted) if wanted in names else -1)
        self.panel.tell(ui.modelLabel, self._glance())

    def _glance(self) -> str:
        if self.model is None:
            return _("The model {name} is not there any more; choose another.").format(name=self.parameters.model)
        return self.model.glance

    @property
    def model(self) -> Model | None:
        """The chosen model; None where it is gone."""
        found = next((model for model in self._models if model.name == self.parameters.model), None)
        return found if found is not None and modelAt(found.folder).info else None

    def _onModel(self, index: int) -> None:
        if 0 <= index < len(self._models):
            self.parameters.model = self._models[index].name
        self._listModels()

    def _chooseFolder(self) -> None:
        folder = qt.QFileDialog.getExistingDirectory(self.ui.modelFolderButton, _("Folder of a model"))
        if folder:
            self.parameters.model = str(folder)
            self._listModels()

    def showCard(self) -> None:
        """Show the model card."""
        if self.model is None:
            return
        # A window of its own: the text is long, and the work goes on beside it.
        self.card = qt.QTextBrowser()
        self.card.setMarkdown(self.model.card)
        self.card.windowTitle = self.model.name
        self.card.resize(*CARD_SIZE)
        self.card.show()

    def _listDevices(self) -> None:
        ui, wanted = self.ui, self.parameters.device
        rows = [(AUTO, _("Automatic")), (CPU, "CPU")]
        for device in self._devices:
            text = _("{name}, {free:.1f} of {total:.1f} GB free").format(
                name=device["name"], free=device["free_gib"], total=device["total_gib"]
            )
            rows = [row for row in rows if row[0] != device["id"]] + [(device["id"], f"{device['id']}: {text}")]
        if wanted not in dict(rows):
            rows.append((wanted, wanted))
        ui.deviceComboBox.clear()
        for identifier, text in rows:
            ui.deviceComboBox.addItem(text, identifier)
        ui.deviceComboBox.setCurrentIndex([row[0] for row in rows].index(wanted))

    def _onDevice(self, index: int) -> None:
        self.parameters.device = str(self.ui.deviceComboBox.itemData(index))

    def _onPython(self, path: str) -> None:
        if path != chosenPython():
            choosePython(path)
            # The next job starts the other one.
            self.logic.stop()
            self.panel.lookForPackages()

    def test(self) -> None:
        """List the devices, then make a case and tell how long it took."""
        self.panel.tell(self.ui.testLabel, "")
        self.panel.run(self.ui.testButton, self._startTest, Callbacks(onEnd=self._onInfo))

    def _startTest(self, callbacks: Callbacks, overrides: dict[str, Any]) -> Job:
        return self.logic.machine(callbacks)

    def _onInfo(self, job: Job) -> None:
        if job.state is not State.SUCCESS:
            return
        self._devices = list(job.result.get("devices", []))
        self._listDevices()
        cases = CaseSet.create(TEST_TITLE)

        def start(callbacks: Callbacks, overrides: dict[str, Any]) -> Job:
            settings = {**self.settings(model=self.parameters.model, count=1), **overrides}
            return self.logic.generate(into=cases, callbacks=callbacks, **settings)

        qt.QTimer.singleShot(0, lambda: self.panel.run(self.ui.testButton, start, self._testCallbacks(cases)))

    def _testCallbacks(self, cases: CaseSet) -> Callbacks:
        def end(job: Job) -> None:
            if cases.alive:
                cases.remove()
            if job.state is State.SUCCESS:
                self.panel.tell(self.ui.testLabel, _("It works: {text}").format(text=self.ui.jobLabel.text))

        return Callbacks(onEnd=end)

    def update(self, reason: str, busy: str) -> None:
        """Enable what can be done."""
        gone = "" if self.model is not None else self._glance()
        self.panel.tell(self.ui.modelLabel, self._glance())
        self.panel.allow(self.ui.testButton, reason or gone)
        self.panel.allow(self.ui.cardButton, gone)
        self.panel.allow(self.ui.pythonPathEdit, busy)

    def cleanup(self) -> None:
        """Close the card."""
        if self.card is not None:
            self.card.close()
