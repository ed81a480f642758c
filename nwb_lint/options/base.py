"""What every class of options is made of: `option` for a field, `Options` for a class, `derived` from another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from pydantic.fields import FieldInfo

from nwb_lint.errors import ContractError
from nwb_lint.options.words import explain

Seconds = float
Window = tuple[float, float]
MOST_LISTED = 100_000  # numbers that a range may stand for

MOST_COUNTED = 1_000_000  # repetitions, units, iterations: the largest number of any option but a seed
LARGEST_SEED = 2**31 - 1  # what every generator takes, and a file keeps, also where 1, 2, … are added


def option(default: Any, sentence: str, *, kept: bool = True, **bounds: Any) -> Any:
    """A field with its sentence; ``kept``: whether a fit keeps it as an attribute. ``...`` as default: required."""
    return Field(default, description=sentence, json_schema_extra={"kept": kept}, **bounds)


class Options(BaseModel):
    """The options of one function; values of other types are refused, numbers must be finite."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._check_combinations()
        for name, field in type(self).model_fields.items():
            value = getattr(self, name) if field.annotation in (int, int | None) else None
            if value is None or value <= (LARGEST_SEED if name == "seed" else MOST_COUNTED):
                continue
            if name == "seed":
                raise ValueError(f"seed is {value}. It needs to be at most {LARGEST_SEED}. Use a smaller one.")
            raise ValueError(f"{name} is {value}. More than {MOST_COUNTED} takes years. Use fewer.")
        return self

    def _check_combinations(self) -> None:
        """Raise a ValueError where options do not go together."""

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> Self:
        """The options of these values.

        Raises
        ------
        ContractError
            If a name is not known, or a value has another type or is out of bounds.
        """
        try:
            return cls.model_validate({name: plain(value) for name, value in values.items()})
        except ValidationError as error:
            raise ContractError(explain(error, cls, values)) from None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the function."""
        return {name: getattr(self, name) for name in type(self).model_fields}


def derived(name: str, base: type[Options], *, without: tuple[str, ...] = (), **defaults: Any) -> Any:
    """A class with the fields and the checks of another one, some left out, some with another default."""
    checks = type(f"_{name}", (Options,), {"__module__": __name__, "_check_combinations": base._check_combinations})
    fields: dict[str, Any] = {}
    for key, field in base.model_fields.items():
        if key not in without:
            own = FieldInfo.merge_field_infos(field, default=defaults[key]) if key in defaults else field
            fields[key] = (field.annotation, own)
    return create_model(name, __base__=checks, __doc__=base.__doc__, **fields)


def plain(value: Any) -> Any:
    """Numbers of numpy as numbers of Python, sequences as tuples; a pair of functions stays what it is."""
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, range) and len(value) > MOST_LISTED:
        raise ContractError(f"{value} has {len(value)} numbers. At most {MOST_LISTED} are needed. Use fewer.")
    if isinstance(value, list | tuple | range | set | frozenset) and not hasattr(value, "_fields"):
        return tuple(plain(one) for one in value)
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return value


def is_kept(field: FieldInfo) -> bool:
    """Whether a fit keeps an option as an attribute."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("kept"))


def same(value: Any, default: Any) -> bool:
    """Whether an option has its default, sequences compared by their values."""
    return isinstance(value, type(default)) and plain(value) == plain(default)
