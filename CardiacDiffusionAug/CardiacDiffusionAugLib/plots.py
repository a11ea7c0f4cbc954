"""Curves in Slicer's plot view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import slicer
import vtk

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Curves:
    """Curves over a common abscissa.

    Attributes:
        name: of the table behind them.
        x: the abscissa.
        values: by name of the curve; NaN leaves a gap.
        colors: sRGB 0..255 by name of the curve.
        marked: whether each point is marked, as where they are few.
    """

    name: str
    x: Sequence[float]
    values: Mapping[str, Sequence[float]]
    colors: Mapping[str, Color]
    marked: bool = False


def showCurves(
    title: str,
    axes: tuple[str, str],
    groups: Sequence[Curves],
    chart: slicer.vtkMRMLPlotChartNode | None = None,
) -> slicer.vtkMRMLPlotChartNode:
    """Draw curves and show them in a layout with a plot view, or bring those of a chart up to date.

    Args:
        title: of the chart.
        axes: titles of abscissa and ordinate.
        groups: of curves; groups that come later are added to the chart.
        chart: from an earlier call; a new one where it is None or was removed.
    """
    if chart is None or not slicer.mrmlScene.IsNodePresent(chart):
        chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", title)
        chart.SetTitle(title)
        chart.SetXAxisTitle(axes[0])
        chart.SetYAxisTitle(axes[1])
        slicer.modules.plots.logic().ShowChartInLayout(chart)
    for group in groups:
        table = _tableOf(chart, group) or _addTable(chart, group, axes[0])
        _fill(table.GetTable(), axes[0], group)
        table.Modified()
    chart.Modified()
    return chart


def _tableOf(chart: slicer.vtkMRMLPlotChartNode, group: Curves) -> slicer.vtkMRMLTableNode | None:
    every = (chart.GetNthPlotSeriesNode(i) for i in range(chart.GetNumberOfPlotSeriesNodes()))
    tables = (series.GetTableNode() for series in every if series is not None)
    return next((table for table in tables if table is not None and table.GetName() == group.name), None)


def _addTable(chart: slicer.vtkMRMLPlotChartNode, group: Curves, xName: str) -> slicer.vtkMRMLTableNode:
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", group.name)
    # The columns must be there before a series names them.
    _fill(table.GetTable(), xName, group)
    markers = slicer.vtkMRMLPlotSeriesNode
    for name in group.values:
        series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", name)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetMarkerStyle(markers.MarkerStyleCircle if group.marked else markers.MarkerStyleNone)
        series.SetXColumnName(xName)
        series.SetYColumnName(name)
        series.SetColor(*(channel / 255 for channel in group.colors[name]))
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
    return table


def _fill(table: vtk.vtkTable, xName: str, group: Curves) -> None:
    table.Initialize()
    for name, values in {xName: group.x, **group.values}.items():
        array = vtk.vtkDoubleArray()
        array.SetName(name)
        for value in values:
            array.InsertNextValue(float(value))
        table.AddColumn(array)
