"""A griffe extension: the description of a field in the code becomes its docstring in the reference pages.

The training settings write it as `name: Annotated[type, "description"]`, the service's bodies as
`Field(description="…")`.
"""

from __future__ import annotations

import ast
from typing import Any

import griffe


class Descriptions(griffe.Extension):
    """Gives attributes without a docstring the description in their annotation or their value."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **kwargs: Any) -> None:
        """Called by griffe for every attribute that it reads."""
        if attr.docstring:
            return
        annotation, value = attr.annotation, attr.value
        if isinstance(annotation, griffe.ExprSubscript) and str(annotation.left) == "Annotated":
            kind, *rest = annotation.slice.elements if isinstance(annotation.slice, griffe.ExprTuple) else [None]
            if kind is not None and rest and str(rest[0])[:1] in "'\"":
                attr.annotation, attr.docstring = kind, docstring(rest[0], attr)
        elif isinstance(value, griffe.ExprCall) and str(value.function) == "Field":
            for argument in value.arguments:
                if isinstance(argument, griffe.ExprKeyword) and argument.name == "description":
                    others = [each for each in value.arguments if each is not argument]
                    attr.value, attr.docstring = (
                        griffe.ExprCall(value.function, others),
                        docstring(argument.value, attr),
                    )


def docstring(literal: griffe.Expr | str | None, attr: griffe.Attribute) -> griffe.Docstring:
    """A string literal as the docstring of an attribute."""
    return griffe.Docstring(ast.literal_eval(str(literal)), parent=attr)
