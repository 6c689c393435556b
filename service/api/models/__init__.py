"""The models of an API process: `catalog` finds a model by name, `served` runs a request on it."""
