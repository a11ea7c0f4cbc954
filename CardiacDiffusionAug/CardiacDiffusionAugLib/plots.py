"""Curves in Slicer's plot view."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import slicer
import vtk


def showCurves(
    title: str,
    xName: str,
    yName: str,
    x: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    colors: Mapping[str, tuple[int, int, int]],
    chart: slicer.vtkMRMLPlotChartNode | None = None,
    show: bool = True,
) -> slicer.vtkMRMLPlotChartNode:
    """Draw curves, or bring those of a chart up to date.

    Args:
        title: of the chart, and of the table behind it.
        xName, yName: titles of the axes.
        x: their common abscissa.
        curves: values by name; NaN leaves a gap.
        colors: sRGB 0..255 by name of a curve.
        chart: from an earlier call, with the same curves.
        show: switch to a layout with a plot view.
    """
    table = _tableOf(chart) if chart is not None else None
    if table is None:
        chart, table = _newChart(title, xName, yName, curves, colors)
    _fill(table.GetTable(), xName, x, curves)
    table.Modified()
    for i in range(chart.GetNumberOfPlotSeriesNodes()):
        chart.GetNthPlotSeriesNode(i).Modified()
    if show:
        slicer.modules.plots.logic().ShowChartInLayout(chart)
    return chart


def _tableOf(chart: slicer.vtkMRMLPlotChartNode) -> slicer.vtkMRMLTableNode | None:
    series = chart.GetNthPlotSeriesNode(0) if chart.GetNumberOfPlotSeriesNodes() else None
    return series.GetTableNode() if series is not None else None


def _newChart(
    title: str,
    xName: str,
    yName: str,
    curves: Mapping[str, Sequence[float]],
    colors: Mapping[str, tuple[int, int, int]],
) -> tuple[slicer.vtkMRMLPlotChartNode, slicer.vtkMRMLTableNode]:
    scene = slicer.mrmlScene
    table = scene.AddNewNodeByClass("vtkMRMLTableNode", f"{title} table")
    chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", title)
    chart.SetTitle(title)
    chart.SetXAxisTitle(xName)
    chart.SetYAxisTitle(yName)
    for name in curves:
        series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", name)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
        series.SetXColumnName(xName)
        series.SetYColumnName(name)
        series.SetColor(*(channel / 255 for channel in colors[name]))
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
    return chart, table


def _fill(table: vtk.vtkTable, xName: str, x: Sequence[float], curves: Mapping[str, Sequence[float]]) -> None:
    table.Initialize()
    for name, values in {xName: x, **curves}.items():
        array = vtk.vtkDoubleArray()
        array.SetName(name)
        for value in values:
            array.InsertNextValue(math.nan if value is None else float(value))
        table.AddColumn(array)
