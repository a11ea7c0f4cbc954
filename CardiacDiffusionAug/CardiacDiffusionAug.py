"""CardiacDiffusionAug: labelled short-axis cardiac MR made by diffusion models, reviewed and used in Slicer."""

import sys

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from CardiacDiffusionAugLib.logic import CardiacDiffusionAugLogic
from CardiacDiffusionAugLib.panel import Panel

OWN_PACKAGES = ("CardiacDiffusionAugLib", "cardiac_diffusion_aug")


class CardiacDiffusionAug(ScriptedLoadableModule):
    """The module, as Slicer lists it."""

    def __init__(self, parent) -> None:
        super().__init__(parent)
        parent.title = _("Cardiac Diffusion Augmentation")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Image Synthesis")]
        parent.dependencies = ["Segmentations", "Sequences", "Terminologies"]
        parent.contributors = ["CardiacDiffusionAug developers"]
        parent.helpText = _(
            "Makes labelled short-axis cardiac MR: masks of the left ventricle, its myocardium and the right ventricle "
            "from noise, and the MR slice that fits each mask. Look through the cases, keep the good ones, and "
            "fine-tune the U-Net on them. For research and teaching, not for diagnosis. "
            '<a href="https://github.com/CardiacDiffusionAug/SlicerCardiacDiffusionAug#tutorial">Tutorial</a>'
        )
        parent.acknowledgementText = _(
            "The method: Li, Ma and Shi, Bioengineering 12(8):812, 2025. The shipped weights were trained on ACDC "
            "(Bernard et al., IEEE TMI 37(11), 2018) and are licensed CC BY-NC-SA 4.0."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData() -> None:
    """Add the sample stack to the Sample Data module, once Slicer has started."""
    from CardiacDiffusionAugLib.sample import register

    register()


class CardiacDiffusionAugWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.panel = None

    def setup(self) -> None:
        """Build the panel when the module is opened for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/CardiacDiffusionAug.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = CardiacDiffusionAugLogic()
        self.panel = Panel(self.ui, self.logic)
        self.panel.setup()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndClose)
        slicer.app.connect("aboutToQuit()", self.logic.stop)
        self.initializeParameterNode()

    def enter(self) -> None:
        """Called each time the user opens this module."""
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Called when Slicer ends or the module is reloaded."""
        self.removeObservers()
        if self.panel is not None:
            slicer.app.disconnect("aboutToQuit()", self.logic.stop)
            self.panel.cleanup()
            self.panel = None

    def onSceneStartClose(self, caller, event) -> None:
        """A job must not add nodes to the scene that comes after."""
        self.logic.cancel()
        self.panel.setParameters(None)

    def onSceneEndClose(self, caller, event) -> None:
        """Go on with the settings of the scene that is there now."""
        self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Bind the panel to the settings of the scene."""
        if self.panel is not None:
            self.panel.setParameters(self.logic.getParameterNode())

    def onReload(self) -> None:
        """Reload this module with all its own packages."""
        for name in [name for name in sys.modules if name.partition(".")[0] in OWN_PACKAGES]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)


class CardiacDiffusionAugTest(ScriptedLoadableModuleTest):
    """Self tests, with the real worker and the shipped weights."""

    def setUp(self) -> None:
        """Start from an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run all of them."""
        from CardiacDiffusionAugLib import selftest

        for test in selftest.TESTS:
            self.setUp()
            self.delayDisplay(test.__doc__)
            test()
        self.delayDisplay(_("All tests passed."))
