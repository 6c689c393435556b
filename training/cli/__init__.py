"""The commands `ernie-train`, and those of `ernie-build` that need training."""
