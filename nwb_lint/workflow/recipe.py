"""A recipe: the whole analysis as data (TOML), checked field by field, and never code."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nwb_lint.errors import ContractError
from nwb_lint.inputs import Input

By = str | dict[str, Literal["rank"] | list[float]]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Read(_Part):
    """What `read_conditions` is asked."""

    by: list[By] = Field(min_length=1)
    align: str
    window_s: tuple[float, float]
    bin_s: float = Field(default=0.01, gt=0)
    smooth_s: float | None = Field(default=0.05, ge=0)
    where: str | None = None
    units: str | list[int] | None = None
    series: str | None = None
    table: str | list[str] = "trials"
    within: tuple[str, str] | None = None
    warp: tuple[str, str] | None = None
    infer_obs: bool = False
    min_trials: int = Field(default=1, ge=1)
    missing: Literal["drop", "keep"] = "drop"
    unit_columns: list[str] = []
    download: bool = False
    errors: Literal["raise", "skip"] = "raise"


class Prepare(_Part):
    """What `prepare` is asked."""

    n_components: int | None = Field(default=12, ge=1)
    center: bool | tuple[float, float] = True
    time_course: bool = True
    scale: float | Literal["auto", "neuron"] = "auto"
    burn_in_s: float = Field(default=0.0, ge=0)


class OneInput(_Part):
    """One `Input`."""

    name: str
    column: str | None = None
    equals: str | float | bool | None = None
    scale: float = 1.0
    window_s: tuple[float, float] | None = None


class Fit(_Part):
    """What `fit_lint` and `select_rank` are asked, and what is told beside the fit.

    ``test_size``: a fraction or a number of conditions; ``test_conditions``: their labels, instead. ``cv_over``: what a
    fold holds out.
    ``ensemble``: members fitted ``vary`` folds, seeds, … of the training conditions (0 = none). ``baselines``: whether
    simpler and freer models are cross-validated too. ``checkpoint``: of the last fit, the one of the chosen rank.
    """

    ranks: list[int] = Field(default=[1, 2], min_length=1)
    tau_s: float = Field(default=0.1, gt=0)
    method: Literal["auto", "regression", "gradient", "published"] = "auto"
    nonlinearity: Literal["tanh", "relu", "softplus", "linear"] = "tanh"
    loss: Literal["activity", "rate"] = "activity"
    test_size: float = 0.1
    test_conditions: list[str] | None = None
    folds: int = Field(default=9, ge=2)
    cv_over: Literal["condition", "neuron"] = "condition"
    ensemble: int = Field(default=0, ge=0)
    vary: Literal["fold", "subsample", "half", "seed", "ridge"] = "fold"
    baselines: bool = False
    hidden: int = Field(default=0, ge=0)
    bias: bool = False
    initial: str = "zero"
    l2_n: float = Field(default=0.0, ge=0)
    ridge_by: Literal["held_out", "gcv", "innovations"] = "held_out"
    max_iter: int = Field(default=200, ge=1)
    optimizer: Literal["auto", "lbfgs", "adam"] = "auto"
    segment_s: float | None = Field(default=None, gt=0)
    seed: int = 0
    checkpoint: str | None = None
    device: str = "cpu"

    @model_validator(mode="before")
    @classmethod
    def _rank_is_one_of_ranks(cls, data: Any) -> Any:
        if isinstance(data, dict) and "rank" in data:
            if "ranks" in data:
                raise ValueError("rank and ranks are both given; keep one")
            data = {k: v for k, v in data.items() if k != "rank"} | {"ranks": [data["rank"]]}
        return data


class Subject(_Part):
    """What the fit's file says of the animal beside what its sources say, or in place of that."""

    subject_id: str | None = None
    species: str | None = None
    sex: str | None = None
    age: str | None = None
    date_of_birth: str | None = None
    strain: str | None = None
    genotype: str | None = None
    weight: str | None = None
    description: str | None = None


class Recipe(_Part):
    """From NWB files to a fit: sources and where the fit goes, then one part per step."""

    sources: list[str] = Field(min_length=1)
    out: str | None = None
    read: Read
    prepare: Prepare = Prepare()
    inputs: list[OneInput] = []
    fit: Fit = Fit()
    subject: Subject | None = None

    def given_inputs(self) -> list[Input]:
        """The inputs, or one for each column of ``by`` where the recipe names none."""
        if self.inputs:
            return [Input(**one.model_dump()) for one in self.inputs]
        columns = [name for by in self.read.by for name in ([by] if isinstance(by, str) else by)]
        return [Input(name, column=name) for name in columns]

    def text(self) -> str:
        """The recipe as TOML, with every default written out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe; sources and out are taken relative to its folder.

    Raises: ContractError, one line, naming the field that is wrong, missing or not known.

    Example:
        >>> load_recipe("nowhere.toml")
        Traceback (most recent call last):
        nwb_lint.errors.ContractError: there is no recipe nowhere.toml; make one with `nwb-lint init SOURCE`.
    """
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ContractError(f"there is no recipe {path}; make one with `nwb-lint init SOURCE`.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ContractError(f"{path} is not TOML: {' '.join(str(error).split())}. Mend that line.") from None
    recipe = make_recipe(data)
    folder = path.parent
    sources = [source if "://" in source else str(folder / source) for source in recipe.sources]
    out = None if recipe.out is None else str(folder / recipe.out)
    kept = None if recipe.fit.checkpoint is None else str(folder / recipe.fit.checkpoint)
    fit = recipe.fit.model_copy(update={"checkpoint": kept})
    return recipe.model_copy(update={"sources": sources, "out": out, "fit": fit})


def make_recipe(data: dict[str, Any]) -> Recipe:
    """A recipe from plain data, or a ContractError that names the first field at fault."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "recipe"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ContractError(f"recipe field {field}: {first['msg'].lower()}{more}; mend or drop it.") from None
