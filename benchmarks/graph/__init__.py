"""Other ways to export a graph or to fill a batch, compared in one run."""
