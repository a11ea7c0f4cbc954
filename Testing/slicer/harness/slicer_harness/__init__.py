"""Drives scripted modules of 3D Slicer in tests without the application.

MRML, its logics and rendering are real, from the wheel `slicer-core`; Qt is PySide6 dressed as PythonQt; the rest of
the application is stood in for. Where the environment variable SLICER_SOURCE names a checkout of Slicer's sources, its
own `ScriptedLoadableModule`, `parameterNodeWrapper`, `util`, `i18n` and `packaging` run in place of the stand-ins.
"""

from .start import missing_requirement, set_environment, start_application

__all__ = ["missing_requirement", "set_environment", "start_application"]
