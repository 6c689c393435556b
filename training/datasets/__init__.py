"""Labelled data: one module per data set and per file format, the list of data sets, and overlap between sets."""
