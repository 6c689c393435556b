"""The error of every reader of weights."""


class WeightsError(ValueError):
    """Weights that cannot be read or do not fit the model; the message names the file or the parameters."""
