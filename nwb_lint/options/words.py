"""Options in words: what is wrong with one, what type it needs, and its value as TOML."""

from __future__ import annotations

import collections.abc
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

# Earlier names of arguments, by their name today. Using one is an error that names the new one.
RENAMED = {
    "audit": "refit_fractions", "cells": "cache_dir", "centre": "center", "fit": "fit_name", "hold": "cv_over",
    "holdout": "test_size (a fraction or a number) or test_conditions (labels or a mask)", "input": "u", "over": "vary",
}  # fmt: skip


def explain(error: ValidationError, options: type[BaseModel], values: Mapping[str, Any]) -> str:
    """The first thing that is wrong, in three short sentences: what was found, what is needed, what to do."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    if first["type"] == "extra_forbidden":
        new = RENAMED.get(name)
        do = f"It is called {new} now. Use {new}." if new else f"Known are {', '.join(options.model_fields)}."
        return f"There is no option {name}. {do}"
    field = options.model_fields[name]
    if first["type"] == "missing" and len(first["loc"]) == 1:
        return f"{name} is missing. It is needed: {field.description} Give {name}."
    return f"{name} is {values.get(name)!r}. It needs {needed(field)}. {field.description}"


def needed(field: FieldInfo) -> str:
    """The type and the bounds of an option in words.

    Examples
    --------
    >>> from nwb_lint.options.fits import FitOptions
    >>> from nwb_lint.options.validation import SelectOptions
    >>> needed(FitOptions.model_fields["max_iter"])
    'a whole number from 1 on'
    >>> needed(SelectOptions.model_fields["cv_over"])
    "'condition' or 'neuron'"
    """
    bounds = ""
    for one in field.metadata:
        bounds += f" above {one.gt:g}" if hasattr(one, "gt") else f" from {one.ge:g} on" if hasattr(one, "ge") else ""
        bounds += (
            f" and below {one.lt:g}" if hasattr(one, "lt") else f" and at most {one.le:g}" if hasattr(one, "le") else ""
        )
        bounds += f", at least {one.min_length} of them" if hasattr(one, "min_length") else ""
    return _words(field.annotation, bounds)


_NOUNS = {int: "whole number", float: "number", str: "text", dict: "table", tuple: "pair"}


def _words(kind: Any, bounds: str = "") -> str:
    """A type in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(repr(one) for one in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(one, "" if one is type(None) else bounds) for one in inner))
    if origin is tuple:
        first = get_args(inner[0]) if get_origin(inner[0]) is types.UnionType else inner[:1]
        many = " or ".join(f"{_noun(one)}s" for one in first)
        return f"a list of {many}{bounds}" if inner[-1] is Ellipsis else f"{len(inner)} {many}"
    if kind is bool:
        return "True or False"
    return "None" if kind is type(None) else f"a {_noun(kind)}{bounds}"


def _noun(kind: Any) -> str:
    origin = get_origin(kind)
    return "function" if origin is collections.abc.Callable else _NOUNS.get(origin or kind, "value")


def as_toml(value: Any) -> str:
    """A value as TOML on one line.

    Examples
    --------
    >>> as_toml({"window_s": [(0.0, 0.5)], "where": "correct"})
    '{ window_s = [[0.0, 0.5]], where = "correct" }'
    """
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml_key(key)} = {as_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").strip()


def _toml_key(name: str) -> str:
    return tomli_w.dumps({name: 0}).rpartition(" = ")[0]
