"""Arrays of numpy, or tensors of torch on a device: one code for both.

A function that takes either gets what it computes with from `functions_of` one of its arguments: numpy itself, or
functions of torch with numpy's names. An `Engine` moves data to where they are computed with, and results back. Random
numbers are drawn by numpy and moved, so that they do not depend on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

import numpy as np
from scipy.special import gammaln

from nwb_lint.errors import ContractError
from nwb_lint.parallel.threads import map_in_order

Array = np.ndarray
Data = TypeVar("Data")
Result = TypeVar("Result")
Fields = TypeVar("Fields", bound=tuple[Any, ...])


class Engine(Protocol):
    """What computes with blocks of data.

    ``on_threads``: whether blocks run side by side on processors, and should fit in their cache.
    """

    on_threads: bool

    def put(self, fields: Fields) -> Fields:
        """A tuple or NamedTuple whose arrays are where the engine computes; what is no array stays."""

    def get(self, values: Any) -> Array:
        """An array of numpy."""

    def map(self, work: Callable[[Data], Result], parts: Iterable[Data]) -> Iterator[Result]:
        """``work(data)`` of every part, in order."""

    def eigh(self, matrix: Array) -> tuple[Array, Array]:
        """Eigenvalues, rising, and eigenvectors of a symmetric matrix, all of numpy."""


class NumpyEngine:
    """numpy, on as many threads as BLAS has; see `Engine`."""

    on_threads = True

    def put(self, fields: Fields) -> Fields:
        """The fields."""
        return fields

    def get(self, values: Array) -> Array:
        """The values."""
        return values

    def map(self, work: Callable[[Data], Result], parts: Iterable[Data]) -> Iterator[Result]:
        """``work(data)`` of every part, in order, on threads."""
        return map_in_order(work, parts)

    def eigh(self, matrix: Array) -> tuple[Array, Array]:
        """Eigenvalues, rising, and eigenvectors of a symmetric matrix."""
        power, axes = np.linalg.eigh(matrix)
        return power, axes


NUMPY = NumpyEngine()


def check_device(device: str, dtype: str = "float64") -> None:
    """Raise ContractError, with what there is, if torch cannot compute with numbers of this type on a device.

    Parameters
    ----------
    device : str
        Its name in torch, such as "cuda" or "cuda:1".
    dtype : {"float64", "float32"}, default="float64"
    """
    if device == "cpu":
        return
    from nwb_lint.parallel._torch import devices, has_device

    if not has_device(device, dtype):
        raise ContractError(
            f"device is {device!r}. torch finds {', '.join(devices())} here with numbers of type {dtype}. Use one of "
            "them, or install torch for the graphics card: https://pytorch.org/get-started."
        )


def engine_on(device: str) -> Engine:
    """numpy for "cpu", torch for every other device, such as "cuda"; `check_device` says what it raises."""
    if device == "cpu":
        return NUMPY
    from nwb_lint.parallel._torch import TorchEngine

    check_device(device)
    return TorchEngine(device)


def engine_with_doubles(device: str) -> Engine:
    """`engine_on` a device, or numpy where the device has single precision alone."""
    if device == "cpu":
        return NUMPY
    from nwb_lint.parallel._torch import has_device

    return engine_on(device) if has_device(device, "float64") else NUMPY


def functions_of(values: Any) -> Any:
    """numpy for an array; functions of torch with numpy's names for a tensor."""
    if isinstance(values, np.ndarray):
        return np
    from nwb_lint.parallel._torch import Functions

    return Functions(values.device)


def cast(values: Any, dtype: Any) -> Any:
    """An array or a tensor with numbers of another type, of numpy or of another tensor."""
    return values.astype(dtype) if isinstance(values, np.ndarray) else functions_of(values).astype(values, dtype)


def log_factorial(counts: Any) -> Any:
    """log(count!) of whole numbers: looked up, since few of them occur often."""
    if not isinstance(counts, np.ndarray):
        return functions_of(counts).lgamma(counts + 1.0)
    whole = counts.astype(np.intp)
    return gammaln(np.arange(whole.max(initial=0) + 1) + 1.0)[whole]
