"""No option is accepted and ignored: a value other than the default changes what its function gives."""

from __future__ import annotations

from functools import partial

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.nwb.extension.write_session import write_session
from nwb_lint.testing import mock_recording, mock_trials
from tests.option_classes import options_of

pytestmark = pytest.mark.filterwarnings("ignore")

READ = {"align": "cue_time", "window_s": (-0.2, 0.8), "bin_s": 0.05}
FIT = {"rank": 1, "tau_s": 0.1, "method": "regression"}
# Options that say how work runs, or that need a file elsewhere; they have tests of their own.
ELSEWHERE = {"download", "external", "exclude", "device", "checkpoint"}


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Three units, the last of which ends early; trials with two times each."""
    rng = np.random.default_rng(0)
    spikes = [np.sort(rng.uniform(0, end, round(20 * end))) for end in (80, 80, 30)]
    start = 2.0 * np.arange(40)
    trials = pd.DataFrame(
        {
            "start_time": start, "stop_time": start + 1.6, "cue_time": start + rng.uniform(0.3, 0.6, 40),
            "go_time": start + rng.uniform(0.9, 1.2, 40), "side": np.resize(["left", "right"], 40),
            "block": np.repeat([1, 2], 20), "correct": rng.random(40) < 0.8,
        }
    )  # fmt: skip
    path = tmp_path_factory.mktemp("session") / "s.nwb"
    write_session(path, spikes, trials, unit_columns={"region": ["a", "b", "b"]})
    with h5py.File(path, "r+") as file:  # two pulses in every trial, up and down
        file["acquisition/ttl/timestamps"] = (start[:, None] + [0.4, 1.1]).ravel()
        file["acquisition/ttl/data"] = np.tile([1, -1], 40)
        times = np.arange(0, 80, 0.02)
        for name, values in {"speed": np.sin(times), "eye": rng.random((4000, 2)), "lost": np.log(times - 20)}.items():
            file[f"acquisition/{name}/timestamps"], file[f"acquisition/{name}/data"] = times, values
    return path


@pytest.fixture(scope="module")
def activity() -> xr.Dataset:
    """An activity that was not denoised, with a second column on its conditions."""
    recording = mock_recording(n_neurons=16)
    recording = recording.assign_coords(side=("condition", np.resize(["left", "right"], 8)))
    inputs = [nl.Input("stimulus", column="stimulus", window_s=(0.1, 0.5))]
    activity = nl.prepare(recording, inputs=inputs, n_components=None)
    noise = np.random.default_rng(1).standard_normal(activity["activity"].shape)
    activity["activity"] = activity["activity"].dims, (activity["activity"].values + 0.2 * noise).astype("f4")
    return activity.assign_coords(area=("neuron", np.resize(["left", "right"], 16)))


@pytest.fixture(scope="module")
def fit(activity) -> xr.Dataset:
    return nl.fit_lint(activity, rank=2, tau_s=0.1, hidden=8, method="regression")


def outcome(call, **arguments):
    """The Dataset, or the text of the error."""
    try:
        return call(**arguments)
    except (nl.errors.NWBLintError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def same(one, other) -> bool:
    return type(one) is type(other) and (one.identical(other) if isinstance(one, xr.Dataset) else one == other)


FIRST = {}  # what a function gives of the base, which most of its options share, and whether it gives it twice


def check(call, base, name, value, more=None):
    """The value changes the outcome; twice the same value does not."""
    base = base | (more or {})
    key = getattr(call, "func", call).__qualname__, repr(base)
    if key not in FIRST:
        first = outcome(call, **base)
        FIRST[key] = first, same(first, outcome(call, **base))
    first, twice = FIRST[key]
    assert twice
    assert not same(first, outcome(call, **(base | {name: value})))


TRIALS = {
    "align": ("go_time", {}), "window_s": ((0.0, 0.5), {}), "bin_s": (0.1, {}), "where": ("correct", {}),
    "units": ((0, 1), {}), "units_table": ("nowhere", {}), "series": ("nothing", {}), "table": ("others", {}),
    "within": (("start_time", "go_time"), {}), "warp": (("cue_time", "go_time"), {}), "infer_obs": (True, {}),
    "align_where": ("data < 0", {"align": "ttl"}), "align_which": ("last", {"align": "ttl"}),
    "inputs": ([nl.Input("run", series="speed")], {}), "unit_columns": (("region",), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", [one for one in options_of(nl.read_trials) if one not in ELSEWHERE])
def test_read_trials(name, session):
    value, more = (TRIALS | {"columns": (("side",), {})})[name]
    check(partial(nl.read_trials, session), READ, name, value, more)


CONDITIONS = TRIALS | {
    "columns": ({"late": "block == 2"}, {"by": ["late"]}), "by": (("side", "block"), {}),
    "smooth_s": (0.1, {}), "min_trials": (25, {}),
    "missing": ("keep", {"infer_obs": True, "by": ["side", "block"]}), "halves": (True, {}), "draws": (3, {}),
    "seed": (1, {"halves": True}),
    "burn_in_s": (0.1, {"inputs": [nl.Input("run", series="speed")]}),
}  # fmt: skip


@pytest.mark.parametrize("name", [one for one in options_of(nl.read_conditions) if one not in {*ELSEWHERE, "errors"}])
def test_read_conditions(name, session):
    value, more = CONDITIONS[name]
    check(partial(nl.read_conditions, session), READ | {"by": ["side"]}, name, value, more)


def test_read_conditions_errors(session):
    sources = [session, session.with_name("nothing.nwb")]
    check(partial(nl.read_conditions, sources), READ | {"by": ["side"]}, "errors", "skip")


PREPARE = {"n_components": 2, "center": False, "time_course": False, "scale": 5.0, "rate_link": "log", "burn_in_s": 0.1}


@pytest.mark.parametrize("name", options_of(nl.prepare))
def test_prepare(name):
    inputs = [nl.Input("stimulus", column="stimulus")]
    check(partial(nl.prepare, mock_recording(), inputs=inputs), {}, name, PREPARE[name])


WINDOWS = {"window_s": ((0.1, 0.3), (0.3, 0.6))}
PULSE = {"events": "ttl", "where": "data > 0"}
INPUT = {
    "name": ("other", {}), "column": (None, {}), "equals": (1.0, {}), "scale": (2.0, {}), "window_s": ((0.1, 0.4), {}),
    "weights": ((1.0, -1.0), WINDOWS), "lag_s": (0.1, {"window_s": (0.1, 0.4)}),
    "times": ((0.1, 0.4), {"values": (1.0, 2.0)}), "values": (np.exp, {}), "start": ("go_time", {}),
    "stop": ("go_time", {}), "series": ("speed", {}), "series_column": (1, {"series": "eye"}), "events": ("speed", {}),
    "table": ("trials", {}), "where": ("data < 0", {"events": "ttl", "where": "data > 0"}),
    "amplitude": ("data", {"events": "ttl"}), "width_s": (0.2, PULSE), "fill": (1.0, {"series": "lost"}),
    "product": ("a * a", {"column": None}),
}  # fmt: skip


@pytest.mark.parametrize("name", options_of(nl.Input))
def test_input(name, session):
    def inputs_of(**fields):
        inputs = [nl.Input("a", column="block", window_s=(0, 0.5)), nl.Input(**fields)]
        trials = nl.read_trials(session, inputs=inputs, **READ)
        return nl.prepare(trials, inputs=inputs)[["u"]]

    value, more = INPUT[name]
    check(inputs_of, {"name": "stimulus", "column": "block"}, name, value, more)


SWEEPS = [
    (nl.select_rank, {"tau_s": 0.1, "method": "regression", "ranks": [1], "folds": 2},
     {"ranks": [1, 2], "folds": 3, "cv_over": "neuron", "seeds": 2}),
    (nl.ensemble, FIT | {"members": 2}, {"vary": "seed", "members": 3}),
    (nl.baselines, FIT | {"folds": 2}, {"folds": 3, "columns": ("side",)}),
    (nl.audit,
     {"tau_s": 0.1, "method": "regression", "ranks": [1], "fractions": (0.5,), "draws": 1, "folds": 2},
     {"fractions": (0.75,), "draws": 2, "folds": 3}),
    (nl.select_areas,
     {"areas": "area", "tau_s": 0.1, "ranks": [1], "folds": 2},
     {"ranks": [1, 2], "folds": 3}),
    (nl.compare_tau, {"rank": 1, "method": "regression", "taus_s": (0.1, 0.2), "folds": 2},
     {"taus_s": (0.1, 0.3), "folds": 3, "condition": "nowhere", "input": [1.0], "at_s": 0.1}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "base", "values", "name"),
    [(*case, name) for case in SWEEPS for name in options_of(case[0])],
    ids=lambda one: one if isinstance(one, str) else getattr(one, "__name__", ""),
)
def test_sweeps(function, base, values, name, activity):
    check(partial(function, activity), base, name, values[name])


def prepared(recording):
    return nl.prepare(recording, inputs=[nl.Input("stimulus", column="stimulus", window_s=(0, 1))])


@pytest.mark.parametrize("name", options_of(nl.compare_links))
def test_compare_links(name):
    prepare = partial(nl.prepare, inputs=[nl.Input("stimulus", column="stimulus", window_s=(0, 1))])
    base = FIT | {"prepare": prepare, "links": ("identity", "log"), "folds": 2}
    check(
        partial(nl.compare_links, mock_recording()), base, name, {"links": ("identity", "softplus"), "folds": 3}[name]
    )


@pytest.mark.parametrize("name", options_of(nl.compare_inputs))
def test_compare_inputs(name):
    sets = {"stimulus": [nl.Input("stimulus", column="stimulus")], "always": [nl.Input("always", window_s=(0, 1))]}
    check(partial(nl.compare_inputs, mock_recording(), sets), FIT | {"folds": 2}, name, {"folds": 3}[name])


@pytest.mark.parametrize("name", options_of(nl.infer_inputs))
def test_infer_inputs(name):
    trials = mock_trials(n_neurons=6, n_trials=12)
    base = {"rank": 1, "tau_s": 0.1, "hidden": 0, "folds": 2, "max_iter": 2, "by": "choice"}
    value = {"by": "stimulus", "prior": "sparse", "folds": 3, "level": 0.5}[name]
    check(partial(nl.infer_inputs, trials), base, name, value)


@pytest.mark.parametrize("name", options_of(nl.compare_drift))
def test_compare_drift(name):
    trials = mock_trials(n_neurons=6, n_trials=8)
    base = {"rank": 1, "tau_s": 0.1, "hidden": 0, "max_iter": 2, "drifts": (0, 1), "folds": 2}
    check(partial(nl.compare_drift, trials), base, name, {"drifts": (0, 2), "folds": 3}[name])


@pytest.mark.parametrize("name", options_of(nl.align_fits))
def test_align_fits(name):
    inputs = [nl.Input("stimulus", column="stimulus", window_s=(0, 1))]
    days = {k: nl.fit_lint(nl.prepare(mock_recording(seed=k), inputs=inputs), **FIT) for k in (0, 1)}
    fits = {f"day {k}": one.assign_coords(side=("condition", np.resize(["l", "r"], 8))) for k, one in days.items()}
    value, more = {
        "by": ("dynamics", {}), "column": ("side", {"by": "dynamics"}), "reference": ("day 1", {}), "splits": (3, {}),
        "seed": (1, {"splits": 2}),
    }[name]  # fmt: skip
    pairs = {day: (one, nl.prepare(mock_recording(seed=int(day[-1])), inputs=inputs)) for day, one in fits.items()}
    check(partial(nl.align_fits, pairs if name in ("splits", "seed") else fits), {}, name, value, more)


def test_network_of_trial():
    fit = nl.fit_trials(mock_trials(n_neurons=6, n_trials=8), rank=1, tau_s=0.1, hidden=0, max_iter=2, drift=1)
    check(partial(nl.network_of_trial, fit), {"trial": 2}, "trial", 3)


@pytest.mark.parametrize("name", options_of(nl.bootstrap))
def test_bootstrap(name):
    recording = mock_recording(draws=4)
    fit = nl.fit_lint(prepared(recording), **FIT)
    base = {"prepare": prepared, "draws": 2, "simulations": 2}
    check(partial(nl.bootstrap, fit, recording), base, name, {"draws": 3, "simulations": 3, "seed": 1}[name])


POPULATIONS = {
    "n_groups": (3, {}), "method": ("bayesian", {}), "effective": (False, {}), "zero_mean": (False, {}),
    "max_groups": (3, {"n_groups": None}), "resamples": (4, {}), "window_s": ((0.1, 0.4), {}), "hidden": (True, {}),
    "seed": (1, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", options_of(nl.find_populations))
def test_find_populations(name, fit):
    value, more = POPULATIONS[name]
    base = {"n_groups": 2, "max_groups": 2, "resamples": 2}
    check(partial(nl.find_populations, fit), base, name, value, more)


HELD = {
    "condition": (0, {}), "input": ({"stimulus": 0.5}, {}), "at_s": (0.2, {"condition": 0}),
    "refit_fractions": ((0.75,), {}), "draws": (2, {"refit_fractions": (0.75,)}),
    "other_ranks": ((1, 2), {}), "other_ridges": (True, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", options_of(nl.fixed_points))
def test_fixed_points(name, fit, activity):
    value, more = (HELD | {"n_starts": (7, {}), "seed": (1, {"refit_fractions": (0.75,)})})[name]
    check(partial(nl.fixed_points, fit, activity=activity), {"n_starts": 20, "draws": 1}, name, value, more)


@pytest.mark.parametrize("name", options_of(nl.limit_cycles))
def test_limit_cycles(name, fit):
    turned = fit.assign(n=fit.sizes["neuron"] * fit["m"] @ xr.DataArray([[1.9, 0.9], [-0.9, 1.9]], dims=("rank", "to")))
    turned["n"] = ("neuron", "rank"), turned["n"].values
    value, more = (HELD | {"n_starts": (3, {}), "seed": (1, {})})[name]
    check(partial(nl.limit_cycles, turned), {"n_starts": 2}, name, value, more)


@pytest.mark.parametrize("name", options_of(nl.flow_field))
def test_flow_field(name, fit, activity):
    value, more = (HELD | {"extent": (2.0, {}), "n_points": (4, {}), "seed": (1, {"refit_fractions": (0.75,)})})[name]
    check(partial(nl.flow_field, fit, activity=activity), {"n_points": 3, "draws": 1}, name, value, more)


READS = {"readout": "side"}
INACTIVATION = {
    "readout": ("side", {}), "context": ("side", READS), "answer": ("stimulus", READS),
    "response_s": ((0.4, 0.6), READS), "factor": (0.5, {}), "drive": (0.3, {}), "window_s": ((0.1, 0.3), {}),
    "controls": (3, {}), "seed": (1, {}), "to": ("left", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", options_of(nl.predict_inactivation))
def test_predict_inactivation(name, fit, activity):
    value, more = INACTIVATION[name]
    if name == "to":
        fit = nl.fit_lint(activity, rank=1, tau_s=0.1, areas="area", method="regression")
    groups = {"some": list(fit["neuron"].values[:4])}
    check(partial(nl.predict_inactivation, fit, groups), {"controls": 2}, name, value, more)


READOUT = {"window_s": (0.4, 0.6), "nonlinearity": "linear", "folds": 2, "seed": 1}


@pytest.mark.parametrize("name", options_of(nl.fit_readout))
def test_fit_readout(name, activity):
    check(partial(nl.fit_readout, activity, "side"), {"folds": 3}, name, READOUT[name])


@pytest.mark.parametrize(("name", "value"), [("seed", 1), ("n_neurons", 30)])
def test_resample_network(name, value, fit):
    groups = nl.find_populations(fit, n_groups=1, hidden=True)
    check(partial(nl.resample_network, fit, groups), {}, name, value)


COMPARED = [
    (nl.project, {"order": ("n", "m"), "orthogonal": False}),
    (nl.score, {"conditions": [0, 1, 5]}),
    (nl.compare_axes,
     {"variables": ("side",), "n_components": 1, "orthogonal": False, "mtdr_dims": 1}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "values", "name"),
    [(function, values, name) for function, values in COMPARED for name in options_of(function)],
    ids=lambda one: one if isinstance(one, str) else getattr(one, "__name__", ""),
)
def test_comparisons_with_an_activity(function, values, name, fit, activity):
    check(partial(function, fit, activity), {"mtdr_dims": 0} if function is nl.compare_axes else {}, name, values[name])


FIT_TRIALS = {
    "rank": (2, {}), "tau_s": (0.2, {}), "observation": ("gaussian", {}), "link": ("softplus", {}), "hidden": (3, {}),
    "nonlinearity": ("linear", {}), "bias": ("fitted", {}), "ridge": (1.0, {}), "noise": ("diagonal", {"rank": 2}),
    "initial": ("choice", {}), "test_size": (0.3, {}), "drift": (1, {}),
    "max_iter": (1, {}), "tol": (0.9, {"max_iter": 8}), "seed": (1, {}),
    "areas": ("area", {}), "block_ranks": ({"A<-B": 0}, {"areas": "area"}),
    "input_areas": ({"stimulus": "A"}, {"areas": "area"}), "hidden_scale": (0.5, {"hidden": 3}),
    "readout_weight": (30.0, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", [one for one in options_of(nl.fit_trials) if one not in ELSEWHERE])
def test_fit_trials(name):
    value, more = FIT_TRIALS[name]
    base = {"rank": 1, "tau_s": 0.1, "hidden": 0, "max_iter": 2}
    trials = mock_trials(n_neurons=6, n_trials=8).assign_coords(area=("neuron", np.resize(["A", "B"], 6)))
    if "area" in name:
        trials = nl.prepare(trials, inputs=[nl.Input("stimulus", column="stimulus")])
    if name == "readout_weight":
        trials, more = with_behavior(trials), {"tol": 1e-3}  # another outcome to compare with
    check(partial(nl.fit_trials, trials), base, name, value, more)


def with_behavior(data):
    """Trials or an activity with a course in time that is read from the latents."""
    values = np.random.default_rng(0).standard_normal((data.sizes.get("trial", data.sizes.get("condition")), 1, 2))
    values = values + np.linspace(0, 1, data.sizes["time"])[:, None]
    dims = "trial" if "trial" in data.dims else "condition", "time", "readout"
    of_readouts = {
        "readout": ["a", "b"], "readout_kind": ("readout", ["number"] * 2), "readout_once": ("readout", [False] * 2),
        "readout_definition": ("readout", [""] * 2),
    }  # fmt: skip
    return data.assign(behavior=(dims, values)).assign_coords(of_readouts)


BEHAVIOR = {
    "name": ("other", {}), "column": ("start_time", {}), "equals": ("left", {}), "log": (True, {"column": "block"}),
    "series": ("speed", {"column": None}), "series_column": (1, {"series": "eye", "series_column": 0, "column": None}),
    "window_s": ((0.0, 0.4), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", options_of(nl.Readout))
def test_readout(name, session):
    def behavior_of(**fields):
        readout = nl.Readout(**fields)
        inputs = [nl.Input("run", series="speed"), nl.Input("eye", series="eye", series_column=0)]
        inputs.append(nl.Input("eye 1", series="eye", series_column=1))
        trials = nl.read_trials(session, inputs=inputs, **READ)
        found = nl.prepare(trials, inputs=[], readouts=[readout])
        return found[["behavior"]].assign_coords(readout=[readout.name])

    value, more = BEHAVIOR[name]
    if name == "series":
        first = behavior_of(name="stimulus", column="side")
        assert not same(first, behavior_of(name="stimulus", series="speed"))
        return
    if name == "log":
        more = {"column": "start_time"}
    check(behavior_of, {"name": "stimulus", "column": "side"}, name, value, more)


@pytest.mark.parametrize("name", options_of(nl.compare_readouts))
def test_compare_readouts(name, activity):
    base = FIT | {"readout_weights": (0.0, 1.0), "folds": 2}
    value = {"readout_weights": (0.0, 2.0), "folds": 3}[name]
    check(partial(nl.compare_readouts, with_behavior(activity)), base, name, value)


@pytest.mark.parametrize("name", options_of(nl.decode_behavior))
def test_decode_behavior(name):
    trials = with_behavior(mock_trials(n_neurons=6, n_trials=12))
    fit = nl.fit_trials(trials, rank=1, tau_s=0.1, hidden=0, max_iter=2, test_size=4)
    check(partial(nl.decode_behavior, fit, trials), {}, name, {"causal": False, "level": 0.5}[name])


FROM_NETWORK = {
    "dt_s": 0.01, "alpha": 0.3, "tau_s": (0.2, {"alpha": None}), "nonlinearity": "relu", "over_n": False,
    "names": {"m": "n", "n": "m"}, "n_bins": 7,
}  # fmt: skip


@pytest.mark.parametrize("name", [one for one in options_of(nl.from_network) if one != "trial"])
def test_from_network(name):  # trial is for modules of LtrRNN alone: tests/tasks/test_convert.py
    rng = np.random.default_rng(0)
    network = {key: rng.normal(size=(9, 1)) for key in ("m", "n", "input_weights")}
    value, more = FROM_NETWORK[name] if isinstance(FROM_NETWORK[name], tuple) else (FROM_NETWORK[name], {})
    if name == "tau_s":
        network["alpha"] = np.array(0.2)
    check(partial(nl.from_network, network), {"dt_s": 0.02, "alpha": 0.2} | more, name, value)


MODULE = {"dt_s": 0.02, "states": "rate"}
DISTILL = {"rank": (1, 2), "dt_s": (0.02, {"tau_s": None}), "states": "activation", "tau_s": 0.03, "hidden": 3}


@pytest.fixture(scope="module")
def gru():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    return torch.nn.GRU(1, 6)


@pytest.mark.parametrize("name", options_of(nl.run_module))
def test_run_module(name, gru):
    check(partial(nl.run_module, gru, np.ones((5, 20, 1))), {"dt_s": 0.01}, name, MODULE[name])


@pytest.mark.parametrize("name", options_of(nl.distill))
def test_distill(name, gru):
    value, more = DISTILL[name] if name == "dt_s" else (DISTILL[name], {})
    base = {"rank": 1, "dt_s": 0.01, "states": "rate", "tau_s": 0.01, "hidden": 0, "method": "regression"} | more
    u = np.random.default_rng(0).standard_normal((12, 20, 1))
    check(partial(nl.distill, gru, u), {key: one for key, one in base.items() if one is not None}, name, value)


DYNAMICS = {"measure": "dsa", "splits": 3, "change": 0.1, "level": 0.5, "seed": 1}


@pytest.mark.parametrize("name", options_of(nl.compare_dynamics))
def test_compare_dynamics(name, fit, activity):
    systems = {"fit": fit, "data": activity}
    base = {"measure": "prediction", "splits": 2} | FIT
    check(partial(nl.compare_dynamics, systems), base, name, DYNAMICS[name])


OF_TRIALS = [
    (nl.infer_latents, {"causal": True}, {}),
    (nl.predict_rates, {"causal": True, "level": 0.5}, {}),
    (nl.forecast, {"horizon_s": 0.2, "level": 0.5}, {"horizon_s": 0.1}),
    (nl.bits_per_spike, {"forward_s": 0.2, "shots": 5, "seed": 1}, {"neurons": [0, 1], "shots": 3}),
]


@pytest.mark.parametrize(
    ("function", "name", "value", "base"), [(one, k, v, base) for one, vs, base in OF_TRIALS for k, v in vs.items()]
)
def test_functions_of_trials(function, name, value, base):
    trials = mock_trials(n_neurons=6, n_trials=8)
    fit = nl.fit_trials(trials, rank=1, tau_s=0.1, hidden=0, max_iter=2)
    check(partial(function, fit, trials), base, name, value)
