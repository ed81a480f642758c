"""A nonlinearity given as a pair of functions: made fit for arrays, and its slope compared with its differences."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from nwb_lint.contract import ContractError
from nwb_lint.model.rnn import NONLINEARITIES, Array, Nonlinearity

PROBES = np.linspace(-6, 6, 241) + 0.00317  # where the slope is checked: beside the round numbers, at which kinks are
STEP = 1e-3
TOLERANCE = 1e-3  # of the slope, or of 1 where that is more


def as_nonlinearity(given: object) -> str | Nonlinearity:
    """A name as it is; a pair (phi, slope) of functions of one array or tensor as one on arrays, checked.

    Raises: ContractError for what is neither, values that are not finite or of another shape, and, with the place, a
        slope that is not the derivative of phi (beyond 1e-3, by central differences between -6 and 6).
    """
    if isinstance(given, Nonlinearity) or (isinstance(given, str) and given in NONLINEARITIES):
        return given
    if not isinstance(given, tuple | list) or len(given) != 2 or not all(callable(f) for f in given):
        raise ContractError(
            f"nonlinearity is {given!r}; it needs to be one of {', '.join(map(repr, NONLINEARITIES))}, or a pair of "
            "functions (phi, slope)."
        )
    phi, slope = (_on_arrays(f, name) for f, name in zip(given, ("phi", "slope"), strict=True))
    found, wanted = slope(PROBES), (phi(PROBES + STEP) - phi(PROBES - STEP)) / (2 * STEP)
    off = np.abs(found - wanted) / np.maximum(np.abs(wanted), 1)
    if off.max() > TOLERANCE:
        k = int(off.argmax())
        raise ContractError(
            f"slope is not the derivative of phi: at x = {PROBES[k]:.3g} it is {found[k]:.4g}, and phi rises by "
            f"{wanted[k]:.4g} per unit; give nonlinearity=(phi, derivative of phi)."
        )
    return Nonlinearity(phi, partial(_of_x, slope))


def _on_arrays(given: Callable[[Any], Any], name: str) -> Callable[[Array], Array]:
    """The function from arrays to new arrays of the same shape and dtype."""
    f = given
    try:
        given(PROBES)
    except (TypeError, AttributeError):  # one of tensors
        from nwb_lint.model._torch import through_torch

        f = partial(through_torch, given)
    try:
        values = _same_dtype(f, PROBES)
    except Exception as error:
        told = " ".join(str(error).split())
        raise ContractError(f"{name} fails on an array ({told}); it needs to take one array and give one.") from error
    if values.shape != PROBES.shape or not np.isfinite(values).all():
        raise ContractError(f"{name} gives another shape, or values that are not finite, between -6 and 6; mend it.")
    return partial(_same_dtype, f)


def _same_dtype(f: Callable[[Array], Array], x: Array) -> Array:
    values = np.asarray(f(x)).astype(x.dtype, copy=False)
    return values.copy() if np.may_share_memory(values, x) else values


def _of_x(slope: Callable[[Array], Array], x: Array, r: Array) -> Array:
    """A slope that looks at x alone."""
    return slope(x)
