"""Exported graphs compared. `python -m benchmarks.graph.NAME --help`

exported: against the plain forward pass. packing: padding, and several texts in one row.
"""
