"""Values of columns: which are missing, which are equal, and which levels a column has."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

# The texts that stand for no value in a column of texts, spaces around them aside. All others are values: "None",
# "none" and "NA" are levels of a column (no stimulus; nucleus accumbens).
MISSING_TEXTS = ("", "N/A", "n/a", "NaN", "nan")


def missing_in(values: np.ndarray) -> np.ndarray:
    """Where a column has no value. Reading, queries, grouping and analyses all use this definition.

    Missing are NaN, NaT, None, and the texts of `MISSING_TEXTS`.

    Parameters
    ----------
    values : numpy.ndarray
        A column of any type.

    Returns
    -------
    numpy.ndarray
        bool, of the same shape.

    Examples
    --------
    >>> missing_in(np.array(["left", "N/A", "", "None"]))
    array([False,  True,  True, False])
    """
    kind = values.dtype.kind
    if kind == "f":
        return np.isnan(values)
    if kind in "mM":
        return np.isnat(values)
    if kind in "OT":
        objects = values.astype(object)
        return xr.DataArray(objects).isnull().values | np.vectorize(_is_missing_text, otypes=[bool])(objects)
    return np.isin(np.char.strip(values), MISSING_TEXTS) if kind == "U" else np.zeros(values.shape, bool)


def _is_missing_text(value: object) -> bool:
    return isinstance(value, str) and value.strip() in MISSING_TEXTS


def as_text_column(values: np.ndarray) -> np.ndarray:
    """A column of texts as numpy texts, '' where it has no value; any other column as it is."""
    if values.dtype.kind not in "OT":
        return values
    return np.where(missing_in(values), "", values.astype(object)).astype(str)


# Numbers that differ by this fraction differ by rounding alone (0.3 and 0.1 + 0.2), and so do numbers of a column by
# this fraction of its largest one (0 and 0.1 + 0.2 - 0.3). Real differences are larger by far.
ROUNDING, ROUNDING_OF_COLUMN = 1e-12, 1e-14
_FEW_DIGITS = 6  # a number of so few is no rounding error


def shortest_decimals(values: np.ndarray) -> np.ndarray:
    """Numbers that went through float32 as the shortest decimals that they stand for; all others as they are.

    Whole numbers are left alone: those of a float32 can be exact.

    Examples
    --------
    >>> shortest_decimals(np.array([np.float32(0.3), 0.3, 2.0]))
    array([0.3, 0.3, 2. ])
    """
    out = np.array(values, float)
    with np.errstate(over="ignore", invalid="ignore"):
        single = out.astype(np.float32)
        short = np.isfinite(out) & (single.astype(float) == out) & (out != np.rint(out))
    out[short] = single[short].astype(str).astype(float)
    return out


def equal_up_to_rounding(a: Any, b: Any, size: float = 0.0) -> np.ndarray:
    """Whether numbers are equal, or differ by rounding alone; different whole numbers are never equal.

    Parameters
    ----------
    a, b : numpy.ndarray or float
        Numbers of shapes that can be broadcast.
    size : float, default=0.0
        The largest number of the column; 0 compares the two numbers alone.

    Returns
    -------
    numpy.ndarray
        bool.

    Examples
    --------
    >>> equal_up_to_rounding(np.array([0.1 + 0.2, 0.30001, np.float32(0.3)]), 0.3)
    array([ True, False,  True])
    """
    a, b = shortest_decimals(np.asarray(a)), shortest_decimals(np.asarray(b))
    with np.errstate(invalid="ignore"):
        close = np.abs(a - b) <= np.maximum(ROUNDING * np.maximum(np.abs(a), np.abs(b)), ROUNDING_OF_COLUMN * size)
        return (a == b) | (close & ~((a == np.rint(a)) & (b == np.rint(b))))


def size_of_column(values: np.ndarray) -> float:
    """The number that rounding errors of a column are measured by, for `equal_up_to_rounding`.

    It is the largest number, unless rounding errors of that size would hide a number of few digits: one number that is
    very large, such as 1e18 for "none", must not make 0.25 and 0.5 equal.

    Parameters
    ----------
    values : numpy.ndarray
        Numbers.

    Returns
    -------
    float

    Examples
    --------
    >>> size_of_column(np.array([0.25, 0.5, 2.0])), size_of_column(np.array([0.25, 0.5, 1e18])) < 1e9
    (2.0, True)
    """
    known = np.unique(np.abs(values[np.isfinite(values) & (values != 0)]))
    if not len(known):
        return 0.0
    largest = float(known[-1])
    hidden = known[known <= ROUNDING_OF_COLUMN * largest].tolist()
    plain = [
        number for number in hidden if len(f"{number!r}".partition("e")[0].strip("0.").replace(".", "")) <= _FEW_DIGITS
    ]
    return min([largest, *(number * 1e-6 / ROUNDING_OF_COLUMN for number in plain)])


def distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The levels of a column, ascending, and the level of each value. Numbers that differ by rounding are one level.

    Parameters
    ----------
    values : numpy.ndarray
        A column of any type that can be sorted.

    Returns
    -------
    levels : numpy.ndarray
        Distinct values. Of numbers that differ by rounding, the one of fewest digits stands for all.
    codes : numpy.ndarray
        Position of each value in ``levels``.

    Examples
    --------
    >>> distinct(np.array([0.3, 0.1 + 0.2, 0.5]))
    (array([0.3, 0.5]), array([0, 0, 1]))
    """
    levels, codes = np.unique(values, return_inverse=True)
    n = int(np.isfinite(levels).sum()) if levels.dtype.kind == "f" else 0
    if n < 2 or not np.isfinite(levels[:n]).all():
        return levels, codes
    keys = shortest_decimals(levels[:n])
    order = np.argsort(keys, kind="stable")
    ordered, size = keys[order], float(np.abs(keys).max())
    if not equal_up_to_rounding(ordered[1:], ordered[:-1], size).any():
        return levels, codes
    size = size_of_column(ordered)
    group, first = np.zeros(n, np.int64), 0
    for k in range(1, n):
        if not equal_up_to_rounding(ordered[k], ordered[first], size):
            first = k
        group[k] = group[k - 1] + (first == k)
    shown = [min(ordered[group == g], key=lambda number: len(repr(float(number)))) for g in range(group[-1] + 1)]
    of_level = np.empty(len(levels), np.int64)
    of_level[order] = group
    of_level[n:] = group[-1] + 1 + np.arange(len(levels) - n)
    return np.concatenate([shown, levels[n:]]), of_level[codes]
