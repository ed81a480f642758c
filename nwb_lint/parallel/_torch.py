"""Tensors of torch under numpy's names, and the devices that torch has; see `arrays`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray
Data = TypeVar("Data")
Result = TypeVar("Result")
Fields = TypeVar("Fields", bound=tuple[Any, ...])

_TYPES = {np.dtype(float): torch.float64, np.dtype(np.float32): torch.float32}


def has_device(device: str, dtype: str) -> bool:
    """Whether torch can compute with numbers of this type on a device."""
    try:
        torch.zeros(1, device=device, dtype=getattr(torch, dtype)).sum().item()
    except (RuntimeError, AssertionError, TypeError, ImportError):
        return False
    return True


def devices() -> list[str]:
    """The devices of this machine: "cpu", and every CUDA device."""
    return ["cpu", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))]


class Functions:
    """Functions of tensors on a device, with the names and arguments that they have in numpy.

    What is not here has the same name and arguments in torch.
    """

    linalg = torch.linalg

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def astype(self, values: Tensor, dtype: Any) -> Tensor:
        """Numbers of another type, of numpy or of torch."""
        return values.to(dtype if isinstance(dtype, torch.dtype) else _TYPES[np.dtype(dtype)])

    def copy(self, values: Tensor) -> Tensor:
        """A copy."""
        return values.clone()

    def sum(self, values: Tensor, dtype: type) -> Tensor:
        """The sum of all values, as a number of a type that numpy names."""
        return values.sum(dtype=_TYPES[np.dtype(dtype)])

    def arange(self, number: int) -> Tensor:
        """Numbers from 0."""
        return torch.arange(number, device=self.device)

    def eye(self, size: int) -> Tensor:
        """The unit matrix."""
        return torch.eye(size, dtype=torch.float64, device=self.device)

    def ones(self, shape: tuple[int, ...]) -> Tensor:
        """Ones of double precision."""
        return torch.ones(shape, dtype=torch.float64, device=self.device)

    def minimum(self, values: Tensor, most: float, out: Tensor | None = None) -> Tensor:
        """The smaller of each value and a number."""
        return torch.clamp(values, max=most, out=out)

    def maximum(self, values: Tensor, least: float, out: Tensor | None = None) -> Tensor:
        """The larger of each value and a number."""
        return torch.clamp(values, min=least, out=out)

    def logaddexp(self, values: Tensor, number: float) -> Tensor:
        """log(exp(value) + exp(number))."""
        return torch.logaddexp(values, torch.full_like(values, number))

    def concatenate(self, parts: list[Tensor], axis: int) -> Tensor:
        """Tensors one after the other along an axis."""
        return torch.cat(parts, dim=axis)

    def flatnonzero(self, which: Tensor) -> Tensor:
        """Positions of what is true."""
        return torch.nonzero(which)[:, 0]


class TorchEngine:
    """torch on a device, one block after the other; see `nwb_lint.parallel.arrays.Engine`.

    Counts become int32, since torch has few functions of unsigned integers.
    """

    on_threads = False

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)

    def _tensor(self, values: Array) -> Tensor:
        known = values.astype(np.int32) if values.dtype.kind == "u" else values
        return torch.as_tensor(np.require(known, requirements=("C", "W")), device=self.device)

    def put(self, fields: Fields) -> Fields:
        """A tuple or NamedTuple with its arrays on the device."""
        moved: Any = tuple(self._tensor(one) if isinstance(one, np.ndarray) else one for one in fields)
        return moved if type(fields) is tuple else type(fields)(*moved)

    def get(self, values: Tensor | Array) -> Array:
        """An array of numpy."""
        return values if isinstance(values, np.ndarray) else values.cpu().numpy()

    def map(self, work: Callable[[Data], Result], parts: Iterable[Data]) -> Iterator[Result]:
        """``work(data)`` of every part, in order."""
        return map(work, parts)

    def eigh(self, matrix: Array) -> tuple[Array, Array]:
        """Eigenvalues, rising, and eigenvectors of a symmetric matrix."""
        power, axes = torch.linalg.eigh(self._tensor(matrix))
        return power.cpu().numpy(), axes.cpu().numpy()
