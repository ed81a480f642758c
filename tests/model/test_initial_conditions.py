"""Initial activations by group: found where they are known, and the mean for conditions of no group in training."""

import warnings

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.contract.columns import input_names
from nwb_lint.errors import ContractError
from nwb_lint.model.data import Samples
from nwb_lint.model.initial_conditions import with_starts
from nwb_lint.model.network import drives

OPTIONS = {"rank": 1, "tau_s": 0.1, "max_iter": 20}
GROUPS = np.array(["left", "right", "straight"])


@pytest.fixture
def started(truth, recurrence):
    """Three groups of conditions that start from three activations: the activity, those, and each one's group."""

    def build(neurons=20, conditions=24, own=False, burn_in=0):
        known = truth(neurons=neurons, conditions=conditions)
        rng = np.random.default_rng(5)
        group = np.arange(conditions) if own else np.arange(conditions) % 3
        start = 1 + rng.standard_normal((group.max() + 1, neurons))
        u = known.activity["u"].values.astype(float)
        x = recurrence(known.m, known.n, known.w, u, start=start[group])
        activity = known.activity.assign(activity=(("condition", "time", "neuron"), x.astype(np.float32)))
        if not own:
            activity = activity.assign_coords(side=("condition", GROUPS[group]))
        if burn_in:
            activity["u_burn_in"] = ("condition", "burn_in", "input"), u[:, :burn_in].astype(np.float32)
        return activity, start, group

    return build


def learned(fit):
    names = input_names(fit)
    return {n.removeprefix("start "): fit["input_weights"].values[:, k] for k, n in enumerate(names) if "start " in n}


def test_each_group_finds_its_own_start(started):
    activity, start, _ = started()
    fit = nl.fit_lint(activity, initial="side", test_size=0.25, **OPTIONS)
    common = nl.fit_lint(activity, initial="learned", test_size=0.25, **OPTIONS)
    for name, truth in zip(GROUPS, start, strict=True):
        assert np.corrcoef(learned(fit)[name], truth)[0, 1] > 0.99
    assert fit["r2"].values[1] > 0.99 > 0.95 > common["r2"].values[1]
    np.testing.assert_allclose(fit["activity_pred"][:3, 0], start, atol=0.25)


def test_a_column_of_one_value_is_a_common_start(started):
    activity, _, _ = started()
    activity = activity.assign_coords(one=("condition", np.zeros(24)))
    common, column = (
        nl.fit_lint(activity, initial=i, method="regression", test_size=0.25, **OPTIONS) for i in ("learned", "one")
    )
    np.testing.assert_allclose(column["activity_pred"], common["activity_pred"], atol=1e-3)


@pytest.mark.parametrize("burn_in", [0, 3])
def test_the_fit_runs_scores_and_comes_back_from_a_file_alone(started, tmp_path, burn_in):
    activity, _, _ = started(burn_in=burn_in)
    fit = nl.fit_lint(activity, initial="side", method="regression", test_size=0.25, **OPTIONS)
    assert fit.sizes["burn_in"] == burn_in + 1
    for given in (None, activity):
        np.testing.assert_array_equal(nl.simulate(fit, given)["activity"], fit["activity_pred"])
    held = nl.score(fit, activity, conditions=fit["held_out"].values)
    assert float(held["r2"]) == pytest.approx(float(fit["r2"][1]), abs=1e-9)
    path = nl.write_fit(fit, tmp_path / "fit.nwb", source=[], subject={"subject_id": "a", "species": "Mus musculus",
                        "sex": "U", "age": "P90D"})  # fmt: skip
    assert nl.read_fit(path).identical(fit)
    assert np.isfinite(nl.latents(fit, activity)["latent"]).all()
    with pytest.raises(ContractError, match="no column 'side'"):
        nl.simulate(fit, activity.drop_vars("side"))
    with pytest.raises(ContractError, match="for each side"):
        nl.simulate(fit, initial=np.zeros(20))


def test_held_out_conditions_start_from_their_first_sample_with_a_warning(started):
    activity, _, _ = started(own=True)
    held = np.arange(24) % 4 == 0
    options = {"initial": "condition", "method": "regression", **OPTIONS}
    with pytest.warns(UserWarning, match=r"6 held-out conditions .* combination of the 18 .* first sample"):
        fit = nl.fit_lint(activity, test_conditions=held, **options)
    found = learned(fit)
    assert set(found) == set(activity["condition"].values[~held])
    columns = np.array(list(found.values())).T
    first = activity["activity"].values[held, 0].T
    nearest = columns @ np.linalg.lstsq(columns, first, rcond=None)[0]
    np.testing.assert_allclose(fit["activity_pred"].values[held, 0], nearest.T, atol=1e-3)
    np.testing.assert_array_equal(nl.simulate(fit, activity)["activity"], fit["activity_pred"])
    assert float(nl.score(fit, activity, conditions=held)["r2"]) == pytest.approx(float(fit["r2"][1]), abs=1e-9)
    mean = nl.simulate(fit, activity.drop_vars("activity"))["activity"].values[held, 0]
    np.testing.assert_allclose(mean, np.tile(columns.mean(axis=1), (6, 1)), atol=1e-5)
    unseen = activity.copy()
    unseen["activity"] = unseen["activity"].where(unseen["time"] > unseen["time"][0])
    blind = nl.fit_lint(activity, test_conditions=[], **options)
    assert np.isfinite(nl.simulate(blind, unseen)["activity"]).all()


@pytest.mark.filterwarnings("ignore:initial=")
def test_a_limit_cycle_from_many_phases_comes_back():
    """Without inputs, only the start tells the phase: choices inside the fit need that of held-out conditions."""
    rng = np.random.default_rng(7)
    m = rng.standard_normal((40, 2))
    phase = rng.uniform(0, 2 * np.pi, 14)
    n, kappa, states = m @ np.array([[1.9, 0.9], [-0.9, 1.9]]), 2 * np.array([np.cos(phase), np.sin(phase)]).T, []
    for _ in range(80):
        states.append(kappa @ m.T)
        kappa = 0.8 * kappa + 0.2 * np.tanh(states[-1]) @ n / 40
    x = np.stack(states[30:], 1).astype(np.float32)
    u = np.zeros((14, 50, 1), np.float32)
    activity = xr.Dataset(
        {"activity": (("condition", "time", "neuron"), x), "u": (("condition", "time", "input"), u)},
        {"condition": [f"c{k}" for k in range(14)], "time": ("time", np.arange(50) * 0.02, {"units": "s"}),
         "neuron": [str(k) for k in range(40)], "input": ["none"]},
        {"bin_s": 0.02},
    )  # fmt: skip
    fit = nl.fit_lint(activity, rank=2, tau_s=0.1, initial="condition", test_size=4)
    assert fit["r2"].values.min() > 0.999
    table = nl.select_rank(activity, ranks=[2], tau_s=0.1, initial="condition", folds=3, method="regression")
    assert float(table["rank_r2"][0, 1]) > 0.999


def test_inner_splits_do_not_see_the_starts_of_held_out_conditions(started):
    """The drives of held-out conditions of new groups are all the same; those of known groups do not change."""
    activity, _, group = started(own=True)
    for initial, changed in (("condition", True), ("known", False)):
        named = activity.assign_coords(known=("condition", group % 2))
        wide, size, _ = with_starts(named, initial, np.zeros(24, bool), 0.2)
        u = np.concatenate([wide["u_burn_in"].values, wide["u"].values], axis=1)
        q = drives(u, 0.2, bias=True, initial=False)
        samples = Samples(activity["activity"].values, q, 0.2, starts=(u.shape[2] - size, u.shape[2]))
        fit, held = samples.take(np.arange(16)), samples.take(np.arange(16, 24))
        new = held.as_new_conditions(fit)
        assert (new.q is not held.q) == changed
        if changed:
            part = new.q[:, :, slice(*samples.starts)]
            assert not part[:, :, 16:].any()
            np.testing.assert_allclose(part[0], part[5])
            np.testing.assert_allclose(part.sum(axis=2), held.q[:, :, slice(*samples.starts)].sum(axis=2), rtol=1e-5)


def test_starts_are_chosen_in_every_fold(started):
    activity, _, _ = started()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = {"ranks": [1], "tau_s": 0.1, "folds": 3, "method": "regression"}
        table = nl.select_rank(activity, initial="side", **own)
        outside = nl.select_rank(activity, initial="side", cv_over="neuron", **own)
    assert min(float(t["rank_r2"][0, 1]) for t in (table, outside)) > 0.95


@pytest.mark.parametrize(("initial", "words"), [("nothing", "no column 'nothing'"), ("side", "name of an initial")])
def test_unknown_columns_and_names_in_use_are_refused(started, initial, words):
    activity, _, _ = started()
    activity = activity.assign_coords(input=("input", ["start left", "pulse"]))
    with pytest.raises(ContractError, match=words):
        nl.fit_lint(activity, initial=initial, **OPTIONS)
