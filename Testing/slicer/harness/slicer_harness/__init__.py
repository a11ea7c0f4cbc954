"""Drives scripted modules of 3D Slicer in tests without the application.

MRML, its logics and rendering are real, from the wheel `slicer-core`; Qt is PySide6 dressed as PythonQt; the rest of
the application is stood in for. Where the environment variable SLICER_SOURCE names a checkout of Slicer's sources, its
own `ScriptedLoadableModule`, `parameterNodeWrapper`, `util`, `i18n` and `packaging` run in place of the stand-ins.

Fixtures (`fixtures.py`): `slicer_app`, `scene`, `dialogs`, `panel`, `vtk_errors`, `unhandled_errors`. Functions:
`loop.wait_until`, `loop.process_events`, `loop.LongestPause`; `modules.load_module`, `reload_module`, `unload_module`,
`complete_startup`; `views.slice_png`, `show_volume`, `screenshot`, `set_dark`.

Not like the application: `sizeHint` and `minimumSizeHint` of widgets are methods; attributes that a widget's class does
not have can be set, which `panel` reports at the end of a test; no node is read or written by `slicer.util.load...` or
`save...`; segments have no items in Subject Hierarchy; views have no windows; terminologies of Slicer are not there.
"""

from .start import missing_requirement, set_environment, start_application

__all__ = ["missing_requirement", "set_environment", "start_application"]
