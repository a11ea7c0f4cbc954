"""The Slicer side of CardiacDiffusionAug: scene nodes, the worker's client, and the sections of the panel.

Nothing here imports torch: whatever needs it runs in the worker, a process of its own.
"""
