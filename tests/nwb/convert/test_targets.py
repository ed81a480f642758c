"""What is given to other packages holds the same values, and can be turned back."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.errors import ContractError, NWBError
from nwb_lint.testing import mock_activity, mock_fit, mock_recording, mock_trials

SUBJECT = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}


@pytest.fixture(scope="module")
def nap():
    return pytest.importorskip("pynapple", reason="pynapple is not installed (extra pynapple)", exc_type=ImportError)


@pytest.mark.parametrize("make", [mock_fit, mock_recording, mock_trials], ids=["fit", "recording", "trials"])
def test_tables_hold_every_value_and_label(make):
    dataset = make()
    tables = nl.to_pandas(dataset)
    for name, variable in dataset.data_vars.items():
        table = tables["_".join(variable.dims)]
        back = table.set_index(list(variable.dims))[name].to_xarray().transpose(*variable.dims)
        for dim in variable.dims:
            if dim in dataset.coords:
                back = back.sel({dim: dataset[dim].values})
        np.testing.assert_array_equal(back, variable)
        for coord in variable.coords:
            assert coord in table.columns
    assert sum(len(table.columns) > 0 for table in tables.values()) == len(
        {one.dims for one in dataset.data_vars.values()}
    )


def test_single_values_and_arrays_become_tables():
    one = xr.Dataset({"score": ((), 0.5), "x": ("neuron", [1.0, 2.0])}, {"split": "all"})
    tables = nl.to_pandas(one)
    assert tables[""]["score"].tolist() == [0.5]
    assert tables["neuron"]["x"].tolist() == [1.0, 2.0]
    recording, key = mock_recording(), "condition_time_neuron"
    pd.testing.assert_frame_equal(nl.to_pandas(recording["rate"])[key], nl.to_pandas(recording[["rate"]])[key])
    with pytest.raises(ContractError, match="dataset is a dict"):
        nl.to_pandas({"x": np.zeros(3)})


def test_a_column_becomes_a_table():
    recording = mock_recording()
    table = nl.to_pandas(recording["stimulus"])["condition"]
    assert table["stimulus"].tolist() == recording["stimulus"].values.tolist()
    assert nl.to_pandas(recording["neuron"])["neuron"]["value"].tolist() == recording["neuron"].values.tolist()


def test_a_file_is_read_as_one_tree(tmp_path):
    fit = mock_fit()
    results = {"latents": nl.latents(fit, mock_activity()), "fixed points": nl.fixed_points(fit, n_starts=10)}
    path = nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT, results=results)
    tree = nl.read(path)
    assert set(tree.children) == {"fit", *results}
    xr.testing.assert_identical(tree["fit"].to_dataset(), nl.read_fit(path))
    for name, result in results.items():
        xr.testing.assert_identical(tree[name].to_dataset(), result)
    np.testing.assert_array_equal(nl.simulate(tree["fit"].to_dataset())["activity"], nl.simulate(fit)["activity"])
    assert tree.identical(nl.to_datatree(nl.read_fit(path), nl.read_results(path)))
    with pytest.raises(NWBError, match="no fit named"):
        nl.read(path, "other")


def test_a_tree_needs_a_fit_and_its_results():
    fit = mock_fit()
    with pytest.raises(ContractError, match="ndarray; it needs to be an xarray"):
        nl.to_datatree(np.zeros(3))
    with pytest.raises(ContractError, match="results is a list"):
        nl.to_datatree(fit, [fit])
    with pytest.raises(ContractError, match="called 'fit'"):
        nl.to_datatree(fit, {"fit": nl.connectivity(fit)})
    with pytest.raises(ContractError, match="result is of kind"):
        nl.to_datatree(fit, {"rates": mock_recording()})


@pytest.mark.parametrize(
    ("make", "variable", "last"),
    [
        (mock_fit, None, "rank"),
        (lambda: nl.latents(mock_fit(), mock_activity()), "latent_data", "rank"),
        (mock_fit, "activity_pred", "neuron"),
        (mock_recording, None, "neuron"),
        (mock_trials, None, "neuron"),
        (lambda: mock_recording()["rate"], None, "neuron"),
    ],
    ids=["fit", "latents", "activity of a fit", "recording", "trials", "array"],
)
def test_a_tsdframe_has_every_sample_with_its_labels(nap, make, variable, last):
    dataset = make()
    frame = nl.to_pynapple(dataset, variable)
    name = variable or ("latent" if last == "rank" else "count" if "trial" in dataset.dims else "rate")
    values = dataset if isinstance(dataset, xr.DataArray) else dataset[name]
    row = "trial" if "trial" in values.dims else "condition"
    assert isinstance(frame, nap.TsdFrame)
    np.testing.assert_array_equal(frame.t, values["time"])
    k = values.sizes[last]
    for column in (0, 1, k * values.sizes[row] - 1):
        expected = values.isel({row: column // k, last: column % k})
        np.testing.assert_array_equal(frame.d[:, column], expected)
        assert frame.metadata[row].iloc[column] == expected[row].item() if row in values.coords else True
        name = next(c for c in values.coords if values[c].dims == (row,) and c != row)
        assert frame.metadata[name].iloc[column] == values[name].values[column // k]
    tensor = nl.to_pynapple(dataset, variable, tensor=True)
    np.testing.assert_array_equal(tensor.d, values.transpose("time", row, last))


def timed():
    """Trials every 2 s, not in the order of time, aligned to a column."""
    trials = mock_trials()
    start = 2.0 * np.random.default_rng(0).permutation(trials.sizes["trial"])
    return trials.assign_coords(start_time=("trial", start)).assign_attrs(align="start_time")


def test_trials_are_put_on_the_clock_of_the_session(nap):
    trials = timed()
    frame = nl.to_pynapple(trials, clock="session")
    assert frame.shape == (trials.sizes["trial"] * trials.sizes["time"], trials.sizes["neuron"])
    assert (np.diff(frame.t) > 0).all()
    assert frame.columns.tolist() == trials["neuron"].values.tolist()
    for k, start in enumerate(trials["start_time"].values):
        part = frame.restrict(nap.IntervalSet(start, start + 0.8))
        np.testing.assert_array_equal(part.d, trials["count"].values[k])
    support = frame.time_support
    assert len(support) == trials.sizes["trial"]
    order = np.argsort(trials["start_time"].values)
    assert support.metadata["choice"].tolist() == trials["choice"].values[order].tolist()


def test_posterior_latents_are_put_on_the_clock_of_the_session(nap):
    trials = timed()
    fit = nl.fit_trials(trials, rank=1, tau_s=0.1, hidden=0, max_iter=2)
    frame = nl.to_pynapple(fit, clock="session")
    first = int(np.argmin(trials["start_time"].values))
    np.testing.assert_array_equal(frame.d[: trials.sizes["time"]], fit["latent"].values[first])


def test_bins_come_back_from_pynapple(nap):
    """Counts of pynapple in the same bins are ours."""
    rng = np.random.default_rng(0)
    spikes = nap.TsGroup({k: nap.Ts(np.sort(rng.uniform(0, 20, 400))) for k in range(3)})
    epochs = nap.IntervalSet(2.0 * np.arange(10), 2.0 * np.arange(10) + 1)
    trials = nl.from_pynapple(spikes, epochs, align="start_time", window_s=(0, 1), bin_s=0.1)
    frame = nl.to_pynapple(trials, clock="session")
    np.testing.assert_array_equal(frame.d, spikes.count(0.1, epochs).d)
    np.testing.assert_allclose(frame.t, spikes.count(0.1, epochs).t, atol=1e-9)


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynapple", None)
    with pytest.raises(ContractError, match=r"pip install 'nwb_lint\[pynapple\]'"):
        nl.to_pynapple(mock_recording())


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (mock_recording, {"variable": "x"}, "has no x.*rate"),
        (mock_recording, {"variable": "n_trials"}, "n_trials has dims"),
        (mock_recording, {"clock": "ms"}, "clock is 'ms'"),
        (mock_recording, {"clock": "session"}, "not known"),
        (lambda: timed().assign_attrs(align="x"), {"clock": "session"}, "not known.*'x'"),
        (lambda: timed().assign_coords(start_time=("trial", 0.1 * np.arange(24))), {"clock": "session"}, "overlap"),
        (timed, {"clock": "session", "tensor": True}, "tensor"),
    ],
)
def test_what_pynapple_cannot_hold_is_refused(nap, make, options, words):
    with pytest.raises(ContractError, match=words):
        nl.to_pynapple(make(), **options)
