"""The native extension is built from this distribution."""

from importlib.metadata import version

import native


def test_the_extension_has_the_version_of_the_distribution() -> None:
    assert native.version() == version("ernie-zh")
