"""Flags of the command line, made from the fields of `nwb_lint.options`: one flag for each field.

The flag of a field is its name with dashes, without ``_s`` at the end: every time is in seconds. Flags of a section
that a recipe may leave out begin with its name (``--ensemble-members``).
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from nwb_lint.options.base import Options, plain

NONE = "none"


def flag_of(name: str, prefix: str = "") -> str:
    """The flag of a field.

    Examples
    --------
    >>> flag_of("burn_in_s"), flag_of("members", "ensemble")
    ('--burn-in', '--ensemble-members')
    """
    return "--" + "-".join([*([prefix] if prefix else []), name.removesuffix("_s")]).replace("_", "-")


def flags(
    options: type[Options],
    *,
    section: str = "",
    prefix: str = "",
    without: tuple[str, ...] = (),
    trials: type[Options] | None = None,
) -> Callable[[Any], Any]:
    """A decorator that gives a command a flag for every field; one that is not given is None.

    ``section`` stands before the names of the command's parameters (``read__align``), so that `given` finds them.
    ``trials`` is the section of the same name for single trials: fields of both have one flag.
    """
    of_trials = {} if trials is None else dict(trials.model_fields)

    def decorate(command: Any) -> Any:
        for name, field in reversed(of_trials.items()):
            if name not in options.model_fields:
                command = _flag(name, field, section, prefix, "Of single trials: ")(command)
        for name, field in reversed(options.model_fields.items()):
            if name not in without:
                command = _flag(name, field, section, prefix, other=of_trials.get(name))(command)
        return command

    return decorate


def given(parameters: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """The values of the flags of a section that were given, by the names of their fields."""
    start = f"{section}__" if section else ""
    return {
        name.removeprefix(start): value
        for name, value in parameters.items()
        if name.startswith(start) and value is not None and value != ()
    }


def _flag(
    name: str, field: FieldInfo, section: str, prefix: str, start: str = "", other: FieldInfo | None = None
) -> Callable[[Any], Any]:
    parameter = f"{section}__{name}" if section else name
    default = _default(field)
    flag, kind = flag_of(name, prefix), field.annotation
    if other is not None:
        of_trials = _default(other)
        default += f"{'; ' if default else ''}of single trials: {of_trials}" if of_trials != default else ""
        simple = all(one in (int, float, str) or get_origin(one) is Literal for one in _alternatives(other.annotation))
        kind = Union[kind, other.annotation] if simple and kind is not Any else kind  # type: ignore[assignment]  # noqa: UP007
    sentence = f"{start}{field.description}" + (f"  [default: {default}]" if default else "")
    shared: dict[str, Any] = {"default": None, "help": sentence, "show_default": False}
    if kind is bool:
        return click.option(f"{flag}/--no-{flag.removeprefix('--')}", parameter, **shared)
    if _is_pair(kind):
        metavar, single = ("START STOP", float) if float in _parts(kind) else ("FROM TO", str)
        return click.option(flag, parameter, nargs=2, type=single, metavar=metavar, **shared)
    if _is_mapping(kind):
        return click.option(flag, parameter, multiple=True, metavar="NAME=TEXT", callback=_as_mapping, **shared)
    if _takes_many(kind):
        return click.option(flag, parameter, multiple=True, metavar="TEXT", **shared)
    if get_origin(kind) is Literal:
        return click.option(flag, parameter, type=click.Choice(get_args(kind)), **shared)
    return click.option(flag, parameter, type=Value(kind), **shared)


def _default(field: FieldInfo) -> str:
    """The default in words; nothing where there is none."""
    return "" if field.is_required() or field.default in (None, ()) else _shown(field.default)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{one:g}" if isinstance(one, float) else str(one) for one in value) or NONE
    return f"{value:g}" if isinstance(value, float) else str(value)


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The types of a union but None; a type alone."""
    every = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return tuple(one for one in every if one is not type(None))


def _parts(kind: Any) -> tuple[Any, ...]:
    return get_args(_alternatives(kind)[0])


def _is_pair(kind: Any) -> bool:
    """Whether a field is two numbers or two names, perhaps None, and nothing else."""
    every = _alternatives(kind)
    return len(every) == 1 and get_origin(every[0]) is tuple and Ellipsis not in get_args(every[0])


def _is_mapping(kind: Any) -> bool:
    """Whether a field is texts by name, perhaps None: its flag may be given several times."""
    every = _alternatives(kind)
    return len(every) == 1 and get_origin(every[0]) is dict


def _as_mapping(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str] | None:
    """NAME=TEXT, each once, as a dict."""
    pairs = [text.partition("=") for text in values]
    found = {name.strip(): text.strip() for name, _, text in pairs}
    if len(found) < len(pairs) or not all(name.strip() and sign for name, sign, _ in pairs):
        raise click.BadParameter(f"{', '.join(values)!r} is not valid. NAME=TEXT is needed, each name once.")
    return found or None


def _takes_many(kind: Any) -> bool:
    """Whether a field is a list of texts: its flag may be given several times."""
    lists = [get_args(one) for one in _alternatives(kind) if get_origin(one) is tuple]
    return any(one[-1] is Ellipsis and one[0] not in (int, float) for one in lists)


class Value(click.ParamType):
    """A text as the value of a field: a number, a list of numbers (``1,2,5`` or ``1:5``), yes or no, none, a choice."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.name = _metavar(kind)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """The forms that the text may have."""
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value in the first of the field's types that it fits; a text where it fits none and may be one."""
        if not isinstance(value, str):
            return value
        if value == NONE and type(None) in get_args(self.kind):
            return value  # what the text "none" means is the recipe's to say
        for kind in _alternatives(self.kind):
            try:
                return parse(value, kind)
            except ValueError:
                continue
        return self.fail(f"{value!r} is not valid. {self.name} is needed.", param, ctx)


def parse(text: str, kind: Any) -> Any:
    """A text as a value of a type.

    Raises
    ------
    ValueError
        If the text is no value of this type.

    Examples
    --------
    >>> parse("1:3", tuple[int, ...]), parse("0.1,1", tuple[float, ...]), parse("yes", bool)
    ((1, 2, 3), (0.1, 1.0), True)
    """
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError(text)
        return text
    if get_origin(kind) is tuple:
        single, *rest = get_args(kind)
        low, colon, high = text.partition(":")
        if colon and single is int:
            return plain(range(int(low), int(high) + 1))
        values = tuple(parse(one.strip(), single) for one in text.split(","))
        if rest != [Ellipsis] and len(values) != 1 + len(rest):
            raise ValueError(text)
        return values
    if kind is bool:
        known = {"yes": True, "true": True, "no": False, "false": False}
        if text.lower() not in known:
            raise ValueError(text)
        return known[text.lower()]
    return kind(text) if kind in (int, float) else text


def _metavar(kind: Any) -> str:
    words = []
    for one in _alternatives(kind):
        if get_origin(one) is Literal:
            words += [str(choice) for choice in get_args(one)]
        elif get_origin(one) is tuple:
            words.append("A:B" if get_args(one)[0] is int else "NUMBER,…")
        else:
            words.append({int: "INTEGER", float: "NUMBER", bool: "yes|no"}.get(one, "TEXT"))
    return "|".join(dict.fromkeys(words))
