"""What schemathesis cannot know from the document: which models the service has, and that a text needs a mask."""

from typing import Any

import schemathesis

NAMES = ["reviews", "characters", "absent"]


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    if not path_parameters or "name" not in path_parameters:
        return path_parameters
    length = len(str(path_parameters["name"]))
    known = {"name": NAMES[length % 3], "version": ["1", "absent"][length % 2]}
    return {name: known.get(name, value) for name, value in path_parameters.items()}


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    if context.operation.path != "/fill-mask" or not isinstance(body, dict):
        return body
    return {
        name: f"{value}[MASK]" if name in ("inputs", "text") and isinstance(value, str) and value.strip() else value
        for name, value in body.items()
    }
