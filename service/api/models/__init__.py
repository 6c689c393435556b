"""The models of an API process: `catalog` finds one by name, `served` runs a request on it."""
