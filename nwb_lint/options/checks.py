"""The decorator `validated`: it checks the arguments of a public function by its options."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Any, ParamSpec, TypeVar

from nwb_lint.errors import ContractError, one_line
from nwb_lint.options.base import Options
from nwb_lint.options.fits import FitOptions, TrialFitOptions
from nwb_lint.options.words import RENAMED

P = ParamSpec("P")
R = TypeVar("R")


def validated(*classes: type[Options]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator that checks the arguments of a function by these options before it runs.

    Arguments that the options do not name are left alone. An earlier name of an argument is an error that names the new
    one.

    Examples
    --------
    >>> from nwb_lint.options.validation import EnsembleOptions
    >>> @validated(EnsembleOptions)
    ... def members_of(*, vary="fold", members=10):
    ...     return members
    >>> members_of(members=3)
    3
    >>> members_of(over="seed")
    Traceback (most recent call last):
    nwb_lint.errors.ContractError: members_of has no argument over. It is called vary now. Use vary.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        called = signature(function)
        parameters = called.parameters
        others = any(one.kind is Parameter.VAR_KEYWORD for one in parameters.values())

        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs.keys() & RENAMED.keys() - parameters.keys():
                new = RENAMED[name]
                raise ContractError(f"{function.__name__} has no argument {name}. It is called {new} now. Use {new}.")
            bound = called.bind_partial(*args, **kwargs).arguments
            given = bound | (bound.get("fit_options", {}) if others else {})
            single = "trial" in getattr(next(iter(bound.values()), None), "dims", ())
            of_fits: type[Options] = TrialFitOptions if single else FitOptions
            if others and (strange := kwargs.keys() - parameters.keys() - of_fits.model_fields.keys()):
                raise ContractError(
                    f"{function.__name__} has no argument {min(strange)}. It needs its own arguments or those of "
                    f"{'fit_trials' if single else 'fit_lint'}. Leave {min(strange)} out."
                )
            every: list[type[Options]] = [*classes, *([of_fits] if others and of_fits not in classes else [])]
            own = {name for one in classes for name in one.model_fields}
            for options in every:
                checked_before = own if others and options is of_fits else set()
                values = {name: given[name] for name in options.model_fields.keys() - checked_before if name in given}
                values |= {"rank": 1} if others and options is of_fits and "rank" not in values else {}
                if all(name in values for name, field in options.model_fields.items() if field.is_required()):
                    options.check(values)
            try:
                return _with_caution(function(*args, **kwargs), bound.get("fit"))
            except MemoryError as error:
                raise ContractError(
                    f"{function.__name__} needs more memory than it can get{_memory()}. {one_line(error)}. Use fewer "
                    "bins, conditions, neurons or hidden units."
                ) from error

        return checked

    return decorate


def _memory() -> str:
    """The memory of the machine in brackets, where the system says it."""
    try:
        return f" (the machine has {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB)"
    except (AttributeError, ValueError, OSError):
        return ""


def _with_caution(result: R, fit: Any) -> R:
    """A result of a fit that explains little repeats what the fit says, as the attribute ``fit_caution``."""
    caution = getattr(fit, "attrs", {}).get("caution")
    if caution and "kind" in getattr(result, "attrs", {}):
        result.attrs["fit_caution"] = caution  # type: ignore[attr-defined]
        warnings.warn(f"Computed from a fit that explains little: {caution}", stacklevel=3)
    return result
