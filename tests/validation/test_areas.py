"""The choice of blocks: the true ones come back, one block where there are no areas, and names and order do not act."""

from __future__ import annotations

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_areas

OPTIONS = {"areas": "area", "tau_s": 0.1, "folds": 4}
CHAIN = [[1, 0, 0], [1, 1, 0], [0, 1, 1]]


@pytest.fixture(scope="module")
def activity():
    return mock_areas(CHAIN, n_neurons=60, n_conditions=40, noise=0.05, seed=7)[0]


@pytest.fixture(scope="module")
def found(activity):
    return nl.select_areas(activity, ranks=[1], **OPTIONS)


def test_the_blocks_that_are_there_are_chosen(found):
    chosen = found.isel(candidate=found.attrs["chosen"])
    assert not chosen["one_block"]
    assert chosen["block_rank"].values.tolist() == CHAIN
    assert chosen["n_parameters"] == 5 * 40
    assert nl.chosen_areas(found)["block_ranks"] == {
        f"{to}<-{source}": CHAIN["ABC".index(to)]["ABC".index(source)] for to in "ABC" for source in "ABC"
    }


def test_scores_are_those_of_the_folds_and_the_best_is_behind_by_0(found):
    assert found["deficit"].min() == 0
    np.testing.assert_allclose(found["deficit"], found["area_r2"].max() - found["area_r2"], atol=1e-9)
    np.testing.assert_allclose(found["r2"].mean("fold"), found["area_r2"], atol=0.01)
    bound = np.maximum(found["deficit_sem"], 7e-5)
    assert found["as_good"].values.tolist() == (found["deficit"] <= bound).values.tolist()


def test_order_of_neurons_and_names_of_areas_do_not_act(activity, found):
    names = dict(zip("ABC", "ZXY", strict=True))
    moved = activity.assign_coords(area=("neuron", [names[one] for one in activity["area"].values]))
    other = nl.select_areas(
        moved.isel(neuron=np.random.default_rng(0).permutation(60)), ranks=[1], **OPTIONS
    )  # fmt: skip
    ours, theirs = (one.isel(candidate=one.attrs["chosen"]) for one in (found, other))
    for to in "ABC":
        for source in "ABC":
            rank = theirs["block_rank"].sel(target=names[to], sender=names[source])
            assert rank == ours["block_rank"].sel(target=to, sender=source)
    assert float(theirs["area_r2"]) == pytest.approx(float(ours["area_r2"]), abs=1e-5)


def test_one_area_that_is_called_two_is_one_block():
    activity, _ = mock_areas([[2]], n_neurons=40, n_conditions=32, noise=0.05, seed=3)
    halves = activity.assign_coords(area=("neuron", np.resize(["A", "B"], 40)))
    found = nl.select_areas(halves, ranks=[1, 2], **OPTIONS)
    assert found.attrs["areas"] == ""
    assert nl.chosen_areas(found) == {"rank": 2}
    with pytest.raises(ContractError, match="one area, 'A'"):
        nl.select_areas(activity, **OPTIONS)


def test_held_out_conditions_do_not_act(activity, found):
    more = activity.isel(condition=[*range(40), *range(4)]).assign_coords(
        condition=[f"c{k}" for k in range(44)], held_out=("condition", np.arange(44) >= 40)
    )
    more["activity"].values[40:] = 100.0
    other = nl.select_areas(more, ranks=[1], **OPTIONS)
    np.testing.assert_allclose(other["area_r2"], found["area_r2"])
