"""Several areas: a low-rank network whose m and n have a pattern of zeros.

The block from area b to area a is J_ab = m_ab n_ab' / N, of its own rank. Each of its ranks is a column of m that is 0
outside a, and a column of n that is 0 outside b. With one latent for each column, kappa_ab, the activation of area a is

    x_a = sum_b m_ab kappa_ab + I_a v,     kappa_ab[t+1] = (1 - alpha) kappa_ab[t] + alpha n_ab' phi(x_b[t]) / N.

The whole is therefore a network of rank R = sum_ab R_ab, and every function of a low-rank network takes it. What it may
not do is mix the columns of different blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.contract.columns import columns_of, input_names, recorded_of
from nwb_lint.contract.values import as_text_column, missing_in
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array, Network, canonical, effective_n, factors

ARROW = "<-"  # "M1<-V1": to M1 from V1


class Blocks(NamedTuple):
    """Which area each neuron belongs to, and which block each rank.

    ``names`` of the areas; ``area`` (neuron), ``to`` (rank) and ``source`` (rank) are positions in them; ``reached``
    (neuron, drive) says which drives reach which neurons. Hidden units come after the recorded neurons.
    """

    names: tuple[str, ...]
    area: Array
    to: Array
    source: Array
    reached: Array

    @property
    def of_m(self) -> Array:
        """Where m may differ from 0, (neuron, rank)."""
        return self.area[:, None] == self.to

    @property
    def of_n(self) -> Array:
        """Where n may differ from 0, (neuron, rank)."""
        return self.area[:, None] == self.source

    @property
    def together(self) -> Array:
        """Whether two ranks belong to the same block, (rank, rank)."""
        return (self.to[:, None] == self.to) & (self.source[:, None] == self.source)

    def of_drives(self, columns: Array) -> Blocks:
        """The same with some of the drives."""
        return self._replace(reached=self.reached[:, columns])

    def masked(self, network: Network) -> Network:
        """The network with 0 where the blocks have none; without hidden units if the network has none yet."""
        m, n, w = factors(network)
        size = len(m)
        return Network(m * self.of_m[:size], n * self.of_n[:size], w * self.reached[:size])

    def masked_gradient(self, loss_and_gradient: Callable[..., Any]) -> Callable[..., Any]:
        """The loss and its gradient, which is 0 where the network must stay 0."""

        def of_network(m: Array, n: Array, w: Array) -> tuple[float, Array, Array, Array]:
            loss, gm, gn, gw = loss_and_gradient(m, n, w)
            return loss, gm * self.of_m, gn * self.of_n, gw * self.reached

        return of_network

    def ranks(self) -> Array:
        """Rank of each block, (to, from)."""
        found = np.zeros((len(self.names),) * 2, int)
        np.add.at(found, (self.to, self.source), 1)
        return found

    def pairs(self) -> list[tuple[int, int, Array]]:
        """Every block of rank above 0: to which area, from which, and its columns."""
        there = sorted(set(zip(self.to.tolist(), self.source.tolist(), strict=True)))
        return [(a, b, np.flatnonzero((self.to == a) & (self.source == b))) for a, b in there]


def areas_of(dataset: xr.Dataset, column: str) -> Array:
    """The area of each neuron, as texts.

    Raises
    ------
    ContractError
        If the neurons have no such column, or some of the recorded ones have no area.
    """
    there = columns_of(dataset, "neuron")
    if column not in there:
        known = ", ".join(there) or "none"
        raise ContractError(
            f"The neurons have no column {column!r}; they have {known}. areas needs a column that names the area of "
            "each neuron. Read with unit_columns=[…]."
        )
    values = there[column].values
    lacking = int((missing_in(values) & recorded_of(dataset)).sum())
    if lacking:
        raise ContractError(
            f"{lacking} neurons have no value in column {column!r}. Each neuron needs an area. Drop these neurons."
        )
    return as_text_column(values).astype(str)


def ranks_of_blocks(names: tuple[str, ...], rank: int, exceptions: Mapping[str, int] | None) -> Array:
    """Rank of each block, (to, from): ``rank``, or what ``exceptions`` say ("M1<-V1": to M1 from V1).

    Raises
    ------
    ContractError
        If an exception names an area that is not there, or no block is left.
    """
    ranks = np.full((len(names), len(names)), rank)
    for key, one in (exceptions or {}).items():
        to, _, source = key.partition(ARROW)
        unknown = [area for area in (to, source) if area not in names]
        if unknown:
            raise ContractError(
                f"block_ranks names the area {unknown[0]!r}. The areas are {', '.join(names)}. A key is 'TO{ARROW}FROM'"
                f", such as '{names[0]}{ARROW}{names[-1]}'."
            )
        ranks[names.index(to), names.index(source)] = one
    if not ranks.any():
        raise ContractError("Every block has rank 0. A fit needs one of rank 1. Change block_ranks.")
    return ranks


def blocks_for(
    activity: xr.Dataset,
    column: str,
    rank: int,
    exceptions: Mapping[str, int] | None,
    input_areas: Mapping[str, tuple[str, ...]] | None,
    *,
    hidden: int,
    n_drives: int,
) -> Blocks:
    """The blocks of a fit to this activity. Hidden units belong to the areas in turn.

    Raises
    ------
    ContractError
        If an area or an input is not there, or a block has a higher rank than its areas have neurons.
    """
    of_neuron = areas_of(activity, column)
    names = tuple(np.unique(of_neuron).tolist())
    ranks = ranks_of_blocks(names, rank, exceptions)
    area = np.concatenate([np.searchsorted(names, of_neuron), np.arange(hidden) % len(names)])
    sizes = np.bincount(area[: len(of_neuron)], minlength=len(names))
    for a, b in np.argwhere(ranks > np.minimum(sizes[:, None], sizes)):
        raise ContractError(
            f"The block to {names[a]} from {names[b]} has rank {ranks[a, b]}. These areas have {sizes[a]} and "
            f"{sizes[b]} neurons. A block needs as many neurons as ranks. Use a lower rank, or other areas."
        )
    if (many := ranks.sum(axis=1) > sizes).any():
        a = int(np.flatnonzero(many)[0])
        raise ContractError(
            f"The blocks to {names[a]} have {ranks[a].sum()} ranks in all, and it has {sizes[a]} neurons. It needs as "
            "many neurons. Use lower ranks, or other areas."
        )
    to, source = (np.repeat(one.ravel(), ranks.ravel()) for one in np.indices(ranks.shape))
    reached = np.ones((len(area), n_drives), bool)
    for name, targets in (input_areas or {}).items():
        reached[:, _position(activity, name)] = np.isin(area, [_area(names, one, name) for one in targets])
    return Blocks(names, area, to, source, reached)


def _position(activity: xr.Dataset, name: str) -> int:
    known = input_names(activity)
    if name not in known:
        raise ContractError(
            f"input_areas names the input {name!r}. The inputs are {', '.join(known)}. Use their names."
        )
    return known.index(name)


def _area(names: tuple[str, ...], area: str, name: str) -> int:
    if area not in names:
        raise ContractError(
            f"input_areas lets the input {name!r} reach {area!r}. The areas are {', '.join(names)}. Use their names."
        )
    return names.index(area)


def blocks_of(fit: xr.Dataset) -> Blocks | None:
    """The blocks of a fit; None if it was fitted without areas.

    Raises
    ------
    ContractError
        If an area of a block has no neurons.
    """
    if not {"to_area", "from_area"} <= fit.coords.keys() or "areas" not in fit.attrs or "rank" not in fit.dims:
        return None
    of_neuron = areas_of(fit, str(fit.attrs["areas"]))
    names = tuple(np.unique(of_neuron).tolist())
    ends = [fit[name].values.astype(str) for name in ("to_area", "from_area")]
    if lost := sorted(set(np.concatenate(ends).tolist()) - set(names)):
        raise ContractError(
            f"The fit has blocks of the area {lost[0]!r}, and no neurons there. A network needs all of its neurons. "
            "Use the whole fit, and choose neurons from the result."
        )
    to, source = (np.searchsorted(names, one) for one in ends)
    reached = fit["input_reached"].values if "input_reached" in fit else np.ones(fit["input_weights"].shape, bool)
    return Blocks(names, np.searchsorted(names, of_neuron), to, source, reached)


def one_block(m: Array, w: Array) -> Blocks:
    """A network without areas as a single block."""
    (size, rank), all_drives = m.shape, np.ones(w.shape, bool)
    return Blocks(("",), np.zeros(size, int), np.zeros(rank, int), np.zeros(rank, int), all_drives)


def in_blocks(fit: xr.Dataset, blocks: Blocks, column: str) -> xr.Dataset:
    """The fit with the blocks of its ranks, the areas of its hidden units, and which inputs reach which neurons."""
    names = np.array(blocks.names)
    fit = fit.assign_coords(to_area=("rank", names[blocks.to]), from_area=("rank", names[blocks.source]))
    key = next(name for name, own in columns_of(fit, "neuron").items() if name == column)
    coordinate = next(
        str(name)
        for name, variable in fit.coords.variables.items()
        if variable.dims == ("neuron",) and variable.attrs.get("column", name) == key
    )
    fit = fit.assign_coords({coordinate: ("neuron", names[blocks.area], fit[coordinate].attrs)})
    inputs = blocks.reached[:, : fit.sizes["input"]]
    return fit if inputs.all() else fit.assign(input_reached=(("neuron", "input"), inputs))


def canonical_blocks(blocks: Blocks, m: Array, n: Array) -> tuple[Array, Array]:
    """m and n with the same blocks of J, each in the canonical gauge of `network.canonical`."""
    m, n = m.copy(), n.copy()
    for a, b, columns in blocks.pairs():
        to, source = np.flatnonzero(blocks.area == a), np.flatnonzero(blocks.area == b)
        m[np.ix_(to, columns)], n[np.ix_(source, columns)] = canonical(
            m[np.ix_(to, columns)], n[np.ix_(source, columns)]
        )
    return m, n


def effective_n_of(blocks: Blocks | None, m: Array, n: Array, weights: Array) -> Array:
    """`network.effective_n`; with areas, in the span of m and I on the neurons of the source of each rank.

    An input that reaches several areas would else give n a part outside of its source.
    """
    if blocks is None:
        return effective_n(m, n, weights)
    parts = [weights * (blocks.area == a)[:, None] for a in range(len(blocks.names))]
    return effective_n(m, n, np.column_stack(parts)) * blocks.of_n
