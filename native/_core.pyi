def version() -> str:
    """Version of the distribution this extension was built from."""
