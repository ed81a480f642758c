"""The choice of blocks: the true ones come back, one block where there are no areas, and names and order do not act.

Of means, and of single trials.
"""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.options.fits import TrialFitOptions
from nwb_lint.statespace.fit import fit_trials_with
from nwb_lint.testing import mock_areas
from nwb_lint.validation.folds import folds_of

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


def test_options_that_means_do_not_have_are_refused(activity):
    with pytest.raises(ContractError, match="argument hidden"):
        nl.select_areas(activity, hidden=4, **OPTIONS)
    with pytest.raises(ContractError, match="activity is a NoneType"):
        nl.select_areas(None, **OPTIONS)
    with pytest.raises(ContractError, match="initial is 'condition'"):
        nl.select_areas(activity, initial="condition", **OPTIONS)


TRIAL_OPTIONS = {"areas": "area", "tau_s": 0.1, "ranks": [1], "folds": 2, "hidden": 0, "max_iter": 14}


@pytest.fixture(scope="module")
def trials():
    """Spikes of two areas of 16 neurons, of which A drives B and B does not drive A, with noise in the latents."""
    network = mock_areas([[1, 0], [1, 1]], n_neurons=32, n_conditions=60, seed=3)[1]
    m, n, w, u = (network[name].values.astype(float) for name in ("m", "n", "input_weights", "u"))
    u = 0.5 * u
    rng, path = np.random.default_rng(0), []
    kappa, v = 0.3 * rng.standard_normal((60, 3)), np.zeros((60, 2))
    for t in range(u.shape[1]):
        path.append(kappa @ m.T + v @ w.T)
        kappa = 0.8 * kappa + 0.2 * np.tanh(path[-1]) @ n / len(n) + 0.15 * rng.standard_normal(kappa.shape)
        v = 0.8 * v + 0.2 * u[:, t]
    count = rng.poisson(0.3 * np.exp(np.stack(path, axis=1))).astype(np.uint16)
    coords = {name: network[name] for name in ("area", "neuron", "time", "input")} | {"trial": np.arange(60)}
    data = {"count": (("trial", "time", "neuron"), count), "u": (("trial", "time", "input"), u.astype("f4"))}
    return xr.Dataset(data, coords, {"bin_s": 0.02})


@pytest.fixture(scope="module")
def found_of_trials(trials):
    return nl.select_areas(trials, **TRIAL_OPTIONS)


def test_the_blocks_of_single_trials_are_chosen_by_the_evidence_of_held_out_trials(found_of_trials, trials):
    found = found_of_trials
    chosen = found.isel(candidate=found.attrs["chosen"])
    assert not chosen["one_block"]
    assert chosen["block_rank"].values.tolist() == [[1, 0], [1, 1]]
    assert chosen["n_parameters"] == 3 * 32
    evidence = found["evidence_condition"].values
    np.testing.assert_allclose(found["area_evidence"], evidence.mean(axis=1))
    off = evidence[found["area_evidence"].values.argmax()] - evidence
    np.testing.assert_allclose(found["deficit"], off.mean(axis=1), atol=1e-9)
    np.testing.assert_allclose(found["deficit_sem"], off.std(axis=1, ddof=1) / np.sqrt(60), atol=1e-9)
    assert found["as_good"].values.tolist() == (found["deficit"] <= 2 * found["deficit_sem"]).values.tolist()
    fit = nl.fit_trials(trials, tau_s=0.1, hidden=0, max_iter=2, **nl.chosen_areas(found))
    assert fit["to_area"].values.tolist() == ["A", "B", "B"]


def test_the_evidence_of_a_candidate_is_that_of_its_fit(found_of_trials, trials):
    held = folds_of(60, 2, what="trials")[0]
    options = {"rank": 1, "tau_s": 0.1, "hidden": 0, "max_iter": 14, "areas": "area"}
    fit = fit_trials_with(trials, TrialFitOptions.check(options), held, scored=False)
    own = nl.infer_latents(fit, trials.isel(trial=held))["evidence"].values
    whole = (found_of_trials["block_rank"].values == 1).all(axis=(1, 2)) & ~found_of_trials["one_block"].values
    k = int(whole.argmax())
    np.testing.assert_allclose(found_of_trials["evidence_condition"].values[k, held], own, rtol=1e-6)


def test_single_trials_of_one_area_that_is_called_two_are_one_block(trials):
    network = mock_areas([[1]], n_neurons=32, n_conditions=60, seed=4)[1]
    x = network["activity_pred"].values
    count = np.random.default_rng(1).poisson(0.3 * np.exp(np.minimum(x, 3))).astype(np.uint16)
    one = trials.isel(input=[0]).assign(count=(trials["count"].dims, count), u=(trials["u"].dims, network["u"].values))
    one = one.assign_coords(area=("neuron", np.resize(["A", "B"], 32)))
    found = nl.select_areas(one, **TRIAL_OPTIONS)
    assert nl.chosen_areas(found) == {"rank": 1}
    for given in ({"block_ranks": {"A<-B": 0}}, {"rank": 2}):
        with pytest.raises(ContractError, match="Every fit here needs its own"):
            nl.select_areas(one, **TRIAL_OPTIONS, **given)
