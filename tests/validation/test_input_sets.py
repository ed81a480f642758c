"""Lists of inputs compared: the true one is chosen, ties are called ties, and files keep the result."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint import Input
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_recording, mock_trials
from tests.factories import assert_same

STIMULUS = Input("stimulus", column="stimulus", window_s=(0, 1))
OTHER = Input("other", column="other", window_s=(0, 1))
OPTIONS = {"rank": 1, "tau_s": 0.1, "method": "regression"}


@pytest.fixture(scope="module")
def recording():
    """Rates driven by the stimulus, and a column that has nothing to do with them."""
    found = mock_recording(n_conditions=12)
    return found.assign_coords(other=("condition", np.random.default_rng(3).permutation(np.linspace(-1, 1, 12))))


def compare(recording, sets, **options):
    prepare = partial(nl.prepare, n_components=None, time_course=False)
    return nl.compare_inputs(recording, sets, prepare=prepare, **OPTIONS | options)


def test_the_true_input_is_chosen(recording):
    found = compare(recording, {"both": [STIMULUS, OTHER], "other": [OTHER], "stimulus": [STIMULUS]})
    assert found.attrs["input_set"] == "stimulus"
    assert found.attrs["tied"] == 0
    assert not found["as_good"].sel(input_set="other")
    assert found["n_inputs"].values.tolist() == [2, 1, 1]
    np.testing.assert_allclose(found["condition_score"].mean("condition"), found["set_score"])
    np.testing.assert_allclose(1 - found["unexplained_time"].mean("time"), found["set_score"])


def test_lists_that_say_the_same_are_tied(recording):
    same = Input("doubled", column="stimulus", window_s=(0, 1), scale=2)
    with pytest.warns(UserWarning, match="equally well, with as many inputs: stimulus, doubled"):
        found = compare(recording, {"stimulus": [STIMULUS], "doubled": [same], "other": [OTHER]})
    assert (found.attrs["input_set"], found.attrs["tied"]) == ("stimulus", 1)
    assert found["set_deficit"].values[:2] == pytest.approx(0, abs=1e-4)


@pytest.mark.filterwarnings("ignore:inputs .* are collinear")
def test_of_lists_that_are_as_good_the_one_with_fewest_inputs_is_chosen(recording):
    again = Input("again", column="stimulus", window_s=(0, 1), scale=0.5)
    found = compare(recording, {"twice": [STIMULUS, again], "once": [STIMULUS]})
    assert found["as_good"].values.all()
    assert (found.attrs["input_set"], found.attrs["tied"]) == ("once", 0)


def test_order_of_lists_changes_nothing_but_the_order(recording):
    sets = {"stimulus": [STIMULUS], "other": [OTHER]}
    one, two = compare(recording, sets), compare(recording, dict(reversed(sets.items())))
    xr.testing.assert_allclose(one, two.sel(input_set=one["input_set"]))
    assert one.attrs == two.attrs


def test_held_out_conditions_are_held_out_of_the_preparation(recording):
    """A fold's activity is prepared on its training conditions."""
    seen = []

    def prepare(recording, *, inputs, fit_on):
        seen.append(fit_on)
        return nl.prepare(recording, inputs=inputs, fit_on=fit_on)

    nl.compare_inputs(recording, {"a": [STIMULUS], "b": [OTHER]}, prepare=prepare, folds=3, **OPTIONS)
    assert len(seen) == 6
    np.testing.assert_array_equal(np.sum(~np.array(seen[::2]), axis=0), 1)


def test_areas_of_an_input_act_on_the_lists_that_have_it(recording):
    area = np.resize(["A", "B"], recording.sizes["neuron"])
    recording, sets = recording.assign_coords(area=("neuron", area)), {"a": [STIMULUS], "b": [OTHER]}
    free = compare(recording, sets, areas="area", folds=2)
    bound = compare(recording, sets, areas="area", folds=2, input_areas={"stimulus": "A"})
    same = np.isclose(free["condition_score"], bound["condition_score"]).all(axis=1)
    assert same.tolist() == [False, True]
    with pytest.raises(ContractError, match="names the input 'sound'"):
        compare(recording, sets, areas="area", folds=2, input_areas={"sound": "A"})


def driven_trials(seed=0):
    """Trials of a rank-1 network that a column drives, and a column that has nothing to do with them."""
    trials = mock_trials(n_trials=60, seed=seed)
    draw = np.random.default_rng(seed + 1)
    return trials.assign_coords(other=("trial", draw.standard_normal(60)))


def test_single_trials_are_compared_by_the_evidence_of_held_out_trials(tmp_path):
    trials = driven_trials()
    column = next(name for name in trials.coords if trials[name].dims == ("trial",) and name not in ("trial", "other"))
    true, none = [Input("true", column=column)], []
    found = nl.compare_inputs(
        trials, {"other": [OTHER], "true": true, "none": none}, rank=1, tau_s=0.1, hidden=0, max_iter=5, folds=2
    )
    assert found.attrs["input_set"] == "true"
    assert found["n_inputs"].values.tolist() == [1, 1, 0]
    assert found["set_score"].attrs["units"] == "bits/spike"
    assert found.sizes["condition"] == 60
    fit = nl.fit_trials(nl.prepare(trials, inputs=true), rank=1, tau_s=0.1, hidden=0, max_iter=5)
    subject = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
    path = nl.write_fit(fit, tmp_path / "fit.nwb", subject=subject, results={"inputs": found})
    assert_same(found, nl.read_result(path, "inputs"))


def test_single_trials_are_compared_with_drift():
    """The first and the last trial of the session are held out in some fold too."""
    sets = {"other": [OTHER], "none": []}
    options = {"rank": 1, "tau_s": 0.1, "hidden": 0, "max_iter": 3, "folds": 2}
    found = nl.compare_inputs(driven_trials(), sets, drift=1, **options)
    assert np.isfinite(found["condition_score"]).all()
    constant = nl.compare_inputs(driven_trials(), sets, **options)
    assert not np.allclose(found["condition_score"], constant["condition_score"], atol=1e-6)
    with pytest.raises(ContractError, match=r"test_size is 0\.5"):
        nl.compare_inputs(driven_trials(), sets, test_size=0.5, **options)


def test_what_cannot_be_compared_is_refused(recording):
    with pytest.raises(ContractError, match="needs two"):
        compare(recording, {"stimulus": [STIMULUS]})
    with pytest.raises(ContractError, match="rank is None"):
        compare(recording, {"a": [STIMULUS], "b": [OTHER]}, rank=None)
    with pytest.raises(ContractError, match="folds is 20"):
        compare(recording, {"a": [STIMULUS], "b": [OTHER]}, folds=20)

    def uneven(recording, *, inputs, fit_on):
        return nl.prepare(recording, inputs=inputs, fit_on=fit_on, scale=1.0 + len(inputs))

    with pytest.raises(ContractError, match=r"'both', prepare gives another activity"):
        nl.compare_inputs(recording, {"a": [STIMULUS], "both": [STIMULUS, OTHER]}, prepare=uneven, **OPTIONS)
