"""A recipe: a whole analysis as data (TOML). It is checked field by field and never runs as code.

The sections are those of `nwb_lint.options.recipe_sections`. TOML has no word for None: the text "none" stands for it.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import ValidationError

from nwb_lint.behavior import Readout
from nwb_lint.errors import ContractError, MissingFileError, NWBError, one_line
from nwb_lint.inputs import Input
from nwb_lint.nwb.storage.asset import refuse_pipe, without_secrets
from nwb_lint.nwb.storage.source import is_path
from nwb_lint.options.base import Options, option, plain, same
from nwb_lint.options.read_and_prepare import BehaviorOptions, InputOptions
from nwb_lint.options.recipe_sections import (
    BaselineSection,
    BlocksSection,
    BootstrapSection,
    DecodingSection,
    EnsembleSection,
    FitSection,
    InferredSection,
    InputSetSection,
    PrepareSection,
    ReadoutWeightSection,
    ReadSection,
    SelectSection,
    SubsamplingSection,
    TrialFitSection,
    TrialReadSection,
    TrialSelectSection,
)
from nwb_lint.options.words import as_toml, explain

NONE = "none"

# The last line of a statement of several lines. No other is tried, or a long list would take its length squared.
_STATEMENT_END = re.compile(r"""(]|}|"{3}|'{3})\s*(#.*)?$""")


class Subject(Options):
    """What the file of the fit says of the animal, beside its sources or in their place."""

    subject_id: str | None = option(None, "Id of the animal.")
    species: str | None = option(None, "Species, such as 'Mus musculus'.")
    sex: str | None = option(None, "M, F, U or O.")
    age: str | None = option(None, "Age, such as P90D.")
    date_of_birth: str | None = option(None, "Date of birth.")
    strain: str | None = option(None, "Strain.")
    genotype: str | None = option(None, "Genotype.")
    weight: str | None = option(None, "Weight.")
    description: str | None = option(None, "Description.")


# The sections with their classes; those that a recipe may leave out.
SECTIONS: dict[str, type[Options]] = {
    "read": ReadSection, "prepare": PrepareSection, "inputs": InputOptions, "readouts": BehaviorOptions,
    "fit": FitSection, "select": SelectSection,
    "ensemble": EnsembleSection, "baselines": BaselineSection, "subsampling": SubsamplingSection,
    "blocks": BlocksSection,
    "bootstrap": BootstrapSection, "compare_inputs": InputSetSection, "compare_readouts": ReadoutWeightSection,
    "decode": DecodingSection, "infer_inputs": InferredSection, "subject": Subject,
}  # fmt: skip
TRIAL_SECTIONS: dict[str, type[Options]] = {
    "read": TrialReadSection, "inputs": InputOptions, "readouts": BehaviorOptions, "fit": TrialFitSection,
    "select": TrialSelectSection, "blocks": BlocksSection, "compare_inputs": InputSetSection,
    "compare_readouts": ReadoutWeightSection, "decode": DecodingSection, "infer_inputs": InferredSection,
    "subject": Subject,
}  # fmt: skip
_LISTS = ("inputs", "readouts")  # sections that may occur several times
MODES = {"means": SECTIONS, "trials": TRIAL_SECTIONS}

# Sections that have an effect without fields: they are written even where all fields have their defaults.
_SWITCHES = (
    "ensemble", "baselines", "subsampling", "blocks", "bootstrap", "compare_readouts", "decode", "infer_inputs",
    "subject",
)  # fmt: skip


class Recipe(Options):
    """From NWB files to a fit: the sources, the file of the fit, and one section for each step."""

    mode: Literal["means", "trials"] = option("means", "What is fitted: means over trials, or single trials.")
    sources: tuple[str, ...] = option(..., "NWB files: paths, patterns or addresses.", min_length=1)
    out: str | None = option(None, "File of the fit.")
    read: Any = option(..., "Options of read_conditions, or of read_trials.")
    prepare: Any = option(None, "Options of prepare; single trials have no such section.")
    inputs: tuple[Any, ...] = option((), "The inputs; none: one for each column of read.by, from time 0 on.")
    readouts: tuple[Any, ...] = option((), "Behavior that the network is fitted to, too.")
    fit: Any = option(None, "Options of fit_lint, or of fit_trials.")
    select: Any = option(None, "Options of select_rank; a single rank is fitted without a choice.")
    ensemble: Any = option(None, "Options of ensemble; without this section there is none.")
    baselines: Any = option(None, "Options of baselines; without this section there are none.")
    subsampling: Any = option(None, "Options of audit; without this section there is none.")
    blocks: Any = option(None, "Options of select_areas; without this section, all blocks have the rank.")
    bootstrap: Any = option(None, "Options of bootstrap; without this section there is none.")
    compare_inputs: Any = option(None, "Options of compare_inputs; without this section there is no comparison.")
    compare_readouts: Any = option(None, "Options of compare_readouts, whose weight is then fitted.")
    decode: Any = option(None, "Options of decode_behavior; without this section nothing is decoded.")
    infer_inputs: Any = option(None, "Options of infer_inputs; without this section no inputs are inferred.")
    subject: Any = option(None, "What the file of the fit says of the animal.")

    def input_list(self) -> list[Input]:
        """The inputs, or where the recipe names none, one for each column of ``read.by``.

        The latter begin at time 0 if the time axis contains it, since no trial column acts before the event that
        trials are aligned to.
        """
        if self.inputs:
            return [Input(**one.model_dump()) for one in self.inputs]
        by = self.read.by if isinstance(self.read.by, tuple) else (self.read.by,)
        columns = [name for one in by for name in ([one] if isinstance(one, str) else one)]
        start, stop = self.read.window_s
        burn_in_s = 0.0 if self.prepare is None else self.prepare.burn_in_s
        window = (0.0, stop) if start - burn_in_s < 0 < stop else None
        return [Input(name, column=name, window_s=window) for name in columns]

    def readout_list(self) -> list[Readout]:
        """The readouts of behavior."""
        return [Readout(**one.model_dump()) for one in self.readouts]

    def read_list(self) -> list[Input]:
        """What the readers read from series, events and tables: the inputs, and the series of readouts."""
        return [*self.input_list(), *(one.input for one in self.readout_list() if not one.once)]

    def input_sets(self) -> dict[str, list[Input]]:
        """The lists of inputs that are compared, by name.

        Raises
        ------
        ContractError
            If a list names an input that the recipe does not have.
        """
        known = {one.name: one for one in self.input_list()}
        found = {}
        for name, text in self.compare_inputs.sets.items():
            wanted = [one.strip() for one in text.split(",") if one.strip()]
            if unknown := [one for one in wanted if one not in known]:
                raise ContractError(
                    f"compare_inputs: the list {name!r} has {', '.join(unknown)}. The inputs of the recipe are "
                    f"{', '.join(known)}. Name these, with commas between them."
                )
            found[name] = [known[one] for one in wanted]
        return found

    def text(self) -> str:
        """The recipe as TOML, with every default and every input written out, and without secrets of addresses."""
        return tomli_w.dumps(recipe_data(self.written()))

    def written(self) -> Recipe:
        """The recipe as it is written: every input is in it, and no password, token or signature of an address."""
        inputs = tuple(InputOptions.check(vars(one)) for one in self.input_list())
        return self.model_copy(update={"inputs": inputs, "sources": tuple(map(without_secrets, self.sources))})


def commented(recipe: Recipe) -> str:
    """A recipe as TOML: the fields that differ from their defaults, each with a comment that says what it is.

    Inputs are written out, also those that the recipe does not name.

    Parameters
    ----------
    recipe : Recipe
        From `make_recipe`.

    Returns
    -------
    str
        TOML that `load_recipe` reads.

    Examples
    --------
    >>> read = {"by": ["side"], "align": "cue_time", "window_s": [-0.5, 1.0], "bin_s": 0.01}
    >>> print(commented(make_recipe({"sources": ["a.nwb"], "read": read})))
    sources = ["a.nwb"]  # NWB files: paths, patterns or addresses.
    <BLANKLINE>
    [read]
    align = "cue_time"  # Trial column, expression of columns, event series or function that gives time 0.
    window_s = [-0.5, 1.0]  # Start and end of the time axis around the alignment, s.
    by = ["side"]  # Trial columns that conditions are made of; ...
    <BLANKLINE>
    [[inputs]]
    name = "side"  # Name of the input.
    column = "side"  # Trial column that sets the amplitude; None: 1 in every condition.
    window_s = [0.0, 1.0]  # When the input is on, s; several windows: an input for each; None: always.
    <BLANKLINE>
    """
    whole = recipe.written()
    lines = _commented_fields(whole)
    for name in SECTIONS:
        value = getattr(whole, name)
        for one in value if isinstance(value, tuple) else (value,):
            own = [] if one is None else _commented_fields(one)
            if own or (isinstance(one, Options) and name in _SWITCHES):
                lines += ["", f"[[{name}]]" if name in _LISTS else f"[{name}]", *own]
    return "\n".join(lines) + "\n"


def _commented_fields(options: Options) -> list[str]:
    """The fields with a value of their own, which is no section, a line each."""
    lines = []
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        if name in SECTIONS or (not field.is_required() and same(value, field.default)):
            continue
        lines.append(f"{name} = {as_toml(NONE if value is None else value)}  # {field.description}")
    return lines


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe. Sources, out and checkpoint are taken relative to its folder.

    Raises
    ------
    MissingFileError
        If there is no such file.
    ContractError
        If it is not TOML, or a field is wrong, missing or not known. The message begins with the file and the line.

    Examples
    --------
    >>> load_recipe("nowhere.toml")
    Traceback (most recent call last):
    nwb_lint.errors.MissingFileError: There is no recipe nowhere.toml. Make one: nwb-lint init SOURCE > recipe.toml.
    """
    path = Path(path)
    refuse_pipe(path)
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors of Windows begin a file with a mark
        data = tomllib.loads(text)
    except FileNotFoundError:
        raise MissingFileError(f"There is no recipe {path}. Make one: nwb-lint init SOURCE > recipe.toml.") from None
    except OSError as error:
        raise NWBError(f"The recipe {path} cannot be read ({error.strerror}). Check its path.") from None
    except UnicodeDecodeError:
        raise ContractError(f"{path} is no text in UTF-8, as TOML is. Save it as UTF-8, in an editor.") from None
    except (ValueError, RecursionError) as error:
        raise ContractError(f"{path} is not TOML: {one_line(error)}. Correct that line.") from None
    try:
        recipe = make_recipe(data)
    except ContractError as error:
        earlier = [("fit", old) for old, new in _EARLIER if error.place[1:] == (new,)]
        lines = [line for place in (error.place, *earlier) if (line := line_of(text, place)) is not None]
        raise ContractError(f"{path}{f':{lines[0]}' if lines else ''}: {error}") from None
    folder = path.parent
    sources = tuple(str(folder / source) if is_path(source) else source for source in recipe.sources)
    out = None if recipe.out is None else str(folder / recipe.out)
    changes = {"sources": sources, "out": out}
    if recipe.fit.checkpoint is not None:
        changes["fit"] = recipe.fit.model_copy(update={"checkpoint": str(folder / recipe.fit.checkpoint)})
    return recipe.model_copy(update=changes)


def make_recipe(data: Mapping[str, Any]) -> Recipe:
    """A recipe from plain data, of this version or an earlier one.

    Raises
    ------
    ContractError
        If a field is wrong, missing or not known. The message names the section and the field, and the attribute
        ``place`` has the keys that lead there.
    """
    values = _current(data)
    mode = str(values.get("mode", "means"))
    with _at("mode"):
        if mode not in MODES:
            raise ContractError(f"Recipe: mode is {values['mode']!r}. It needs 'means' or 'trials'. Write one of them.")
    sections = MODES[mode]
    for name in SECTIONS.keys() - sections.keys() & values.keys():
        with _at(name):
            raise ContractError(
                f"Recipe section {name} is of means over trials, and mode is 'trials'. Single trials have the sections "
                f"{', '.join(sections)}. Leave {name} out."
            )
    values |= {name: {} for name in ("prepare", "fit", "select") if name in sections and name not in values}
    for name, section in sections.items():
        if name in _LISTS:
            values[name] = _listed(name, section, values.get(name, ()))
        elif name in values:
            with _at(name):
                values[name] = _section(name, section, values[name])
    try:
        return Recipe.model_validate({name: plain(value) for name, value in values.items()})
    except ValidationError as error:
        with _at(*_wrong_field(error, values)):
            raise ContractError(f"Recipe: {explain(error, Recipe, values)}") from None


def recipe_data(options: Options) -> dict[str, Any]:
    """The fields as TOML has them: None is left out, or written as "none" where it is not the default."""
    found: dict[str, Any] = {}
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        if isinstance(value, Options):
            found[name] = recipe_data(value)
        elif value is not None:
            found[name] = [recipe_data(one) for one in value] if name in _LISTS else _toml(value)
        elif field.default is not None and not field.is_required():
            found[name] = NONE
    return found


@contextmanager
def _at(*place: str | int) -> Iterator[None]:
    """Errors inside are of this place, or of one below it."""
    try:
        yield
    except ContractError as error:
        error.place = (*place, *error.place)
        raise


def _wrong_field(error: ValidationError, values: Mapping[str, Any]) -> tuple[str, ...]:
    """The field that is wrong: of several the first that is given; nothing for a field that is missing."""
    first = error.errors()[0]
    names = first["loc"][:1] or re.findall(r"\w+", str(first["ctx"]["error"]))
    return next(((str(name),) for name in names if name in values), ())


def line_of(text: str, place: tuple[str | int, ...]) -> int | None:
    """The line of a TOML text, counted from 1, where the statement begins that makes this place.

    `tomllib` keeps no lines. They are found by reading starts of the text: a start up to the end of a statement is TOML
    too, and the place is made by the last statement of the shortest start that has it.

    Parameters
    ----------
    text : str
        TOML.
    place : tuple of str and int
        Keys, and positions in lists, from the outside.

    Returns
    -------
    int or None
        None where the text has no such place.

    Examples
    --------
    >>> line_of("[fit]\\ntau_s = 1\\n\\n[[inputs]]\\nname = 'a'\\n[[inputs]]\\nname = 'b'", ("inputs", 1, "name"))
    7
    """
    lines = text.split("\n")
    starts, ends = [0], []
    for k, line in enumerate(lines):
        if (starts[-1] == k or _STATEMENT_END.search(line)) and _is_toml(lines[starts[-1] : k + 1]):
            starts.append(k + 1)
            ends.append(k + 1)
    found = bisect_left(ends, True, key=lambda end: _has(tomllib.loads("\n".join(lines[:end])), place))
    return starts[found] + 1 if place and found < len(ends) else None


def _is_toml(lines: list[str]) -> bool:
    try:
        tomllib.loads("\n".join(lines))
    except ValueError:
        return False
    return True


def _has(value: Any, place: tuple[str | int, ...]) -> bool:
    for key in place:
        if not (key in value if isinstance(value, dict) else isinstance(value, list) and int(key) < len(value)):
            return False
        value = value[key]
    return True


def _listed(name: str, section: type[Options], given: Any) -> tuple[Options, ...]:
    """The inputs or readouts of a recipe."""
    found = []
    with _at(name):
        if not isinstance(given, list | tuple):
            raise ContractError(f"Recipe field {name} is no list. Write [[{name}]] before each of them.")
        for k, one in enumerate(given):
            with _at(k):
                found.append(_section(f"{name}, number {k + 1}", section, one))
                if section is InputOptions:
                    _check_together(found[-1])
    return tuple(found)


def _check_together(one: Options) -> None:
    """Raise ContractError where the fields of an input do not go together."""
    try:
        Input(**one.model_dump())
    except ContractError as error:
        raise ContractError(f"Recipe: {error}") from None


def _section(name: str, section: type[Options], values: Any) -> Options:
    if not isinstance(values, Mapping):
        raise ContractError(f"Recipe section {name} is {values!r}. It needs a table. Write [{name}] before its fields.")
    nothing = {
        key for key, value in values.items() if isinstance(value, str) and value == NONE and _optional(section, key)
    }
    given = {key: None if key in nothing else plain(value) for key, value in values.items()}
    try:
        return section.model_validate(given)
    except ValidationError as error:
        with _at(*_wrong_field(error, given)):
            raise ContractError(f"Recipe section {name}: {explain(error, section, given)}") from None


def _optional(section: type[Options], name: str) -> bool:
    """Whether a field may be None and has another default."""
    field = section.model_fields.get(name)
    return field is not None and field.default is not None and "None" in str(field.annotation)


def _toml(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_toml(one) for one in value]
    return {key: _toml(one) for key, one in value.items()} if isinstance(value, dict) else value


def _current(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a recipe of an earlier version at their place and under their name of today."""
    values: dict[str, Any] = {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in data.items()
    }
    prepare, fit = values.get("prepare"), values.get("fit")
    if isinstance(prepare, dict) and "centre" in prepare:
        prepare["center"] = prepare.pop("centre")
    if not isinstance(fit, dict):
        return values
    if "holdout" in fit:
        held = fit.pop("holdout")
        if isinstance(held, list) and held:
            fit["test_conditions"] = held
        else:
            fit["test_size"] = 0 if isinstance(held, list) else held
    select: dict[str, Any] = {}
    if "rank" in fit:
        if "ranks" in fit:
            with _at("fit", "rank"):
                raise ContractError("Recipe section fit has rank and ranks. One of them is needed. Write select.ranks.")
        select["ranks"] = [fit.pop("rank")]
    select |= {new: fit.pop(old) for old, new in _MOVED.items() if old in fit}
    folds = {"folds": select["folds"]} if "folds" in select else {}
    if "ensemble" in fit or "over" in fit:
        members, vary = fit.pop("ensemble", 0), fit.pop("over", None)
        if members:
            values["ensemble"] = {"members": members} | ({} if vary is None else {"vary": vary})
    if fit.pop("baselines", False):
        values["baselines"] = dict(folds)
    if select and isinstance(values.get("select", {}), dict):
        values["select"] = select | values.get("select", {})
    return values


_MOVED = {"ranks": "ranks", "folds": "folds", "hold": "cv_over", "cv_over": "cv_over"}
_EARLIER = (*_MOVED.items(), ("rank", "ranks"), ("holdout", "test_size"), ("holdout", "test_conditions"))
