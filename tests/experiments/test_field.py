"""Benchmarks of dynamical systems: scores of free runs, data, fits, and networks found again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nwb_lint.errors import ContractError
from nwb_lint.experiments import frame
from nwb_lint.experiments.field import reconstruction, student_teacher
from nwb_lint.experiments.field.free_runs import binned_divergence, linear_run, smoothed_divergence, spectral_distance


def load_experiment(name):
    return student_teacher.EXPERIMENT if name == "student_teacher" else reconstruction.EXPERIMENTS[name]


def reproduce(name, out, **how):
    return frame.reproduce(name, out, experiment=load_experiment(name), **how)


@pytest.fixture(scope="module")
def clouds():
    rng = np.random.default_rng(0)
    return rng.standard_normal((3000, 2)), 1.2 * rng.standard_normal((3000, 2)) + 0.3


def test_the_divergence_of_bins_is_that_of_whole_histograms(clouds):
    true, found = clouds
    edge = [np.linspace(c.min() - 0.1 * c.std(ddof=1), c.max() + 0.1 * c.std(ddof=1), 31) for c in true.T]
    p, q = (np.histogramdd(one, edge)[0] + 1e-5 for one in (true, found))
    p, q = p / p.sum(), q / q.sum()
    assert binned_divergence(true, found) == pytest.approx((p * np.log(p / q)).sum())
    assert np.isnan(binned_divergence(true, found + 100))


@pytest.mark.parametrize("score", [binned_divergence, smoothed_divergence, spectral_distance])
def test_scores_are_0_for_the_same_data_and_grow_with_the_difference(score, clouds):
    true, found = clouds
    smooth = np.cumsum(found, axis=0)
    near, far = (found, found + 1) if score is not spectral_distance else (found, smooth)
    assert score(true, true) == pytest.approx(0, abs=1e-12)
    assert 0 < score(true, near) < score(true, far)


def test_spectra_do_not_depend_on_scale_and_order_of_the_arguments(clouds):
    true, found = clouds
    assert spectral_distance(true, 3 * found - 1) == pytest.approx(spectral_distance(found, true))


def test_the_linear_run_has_the_statistics_of_an_autoregression():
    rng = np.random.default_rng(0)
    y = np.zeros((4000, 3))
    for t in range(2, len(y)):
        y[t] = 1.6 * y[t - 1] - 0.8 * y[t - 2] + rng.standard_normal(3) * [1, 2, 3]
    mean, values = linear_run(y, 4000, 100, rng)
    np.testing.assert_allclose(mean, values, atol=1e-6)  # three components say all
    np.testing.assert_allclose(mean.std(axis=0), y.std(axis=0), rtol=0.15)
    assert spectral_distance(y, mean) < 0.1
    one, noisy = linear_run(y, 4000, 100, rng, n_components=1)
    assert np.linalg.matrix_rank(one - one.mean(axis=0), tol=1e-6) == 1
    np.testing.assert_allclose(noisy.std(axis=0), y.std(axis=0), rtol=0.2)


@pytest.mark.parametrize(
    ("name", "increments"),  # root mean square, of the data that Hess et al. and Brenner et al. stored
    [("lorenz63", (0.054, 0.073, 0.092)), ("bursting", (0.272, 0.425, 0.0492))],
)
def test_simulated_systems_are_those_of_the_authors(name, increments):
    recording = reconstruction.simulated(name, 10_000, 3)
    found = np.sqrt((np.diff(recording.test, axis=0) ** 2).mean(axis=0))
    np.testing.assert_allclose(found, increments, rtol=0.05)
    np.testing.assert_allclose(recording.test.std(axis=0), 1)
    assert not np.allclose(recording.test, recording.train, atol=1)


def test_pieces_hold_every_step_once():
    y = np.arange(21.0)[:, None] * [1, 2]
    rate = reconstruction.pieces(y, 0.1, 6)["rate"].values
    steps = np.concatenate([np.column_stack([one[:-1, 0], one[1:, 0]]) for one in rate])
    np.testing.assert_array_equal(steps, np.column_stack([y[:-1, 0], y[1:, 0]]))


def test_a_quick_run_of_a_chaotic_system(tmp_path):
    table = reproduce("lorenz63", tmp_path, quick=True).set_index("model")
    assert table.loc["ours", "d_h"] < 0.5 * table.loc["VAR(2)", "d_h"]
    assert table.loc["ours", "d_stsp"] < 0.7 * table.loc["VAR(2)", "d_stsp"]
    assert all(good for _, good in load_experiment("lorenz63").claims(table.reset_index()))
    assert len(load_experiment("lorenz63").compare(table.reset_index()))


def test_recordings_are_asked_for(tmp_path):
    for name in ("eeg", "ecg"):
        with pytest.raises(ContractError, match=f"{name} has no folder of data.*--data"):
            reproduce(name, tmp_path / "out", quick=True)
        with pytest.raises(ContractError, match=r"has no .*npy.*--data"):
            reproduce(name, tmp_path / "out", quick=True, data=tmp_path)
    np.save(tmp_path / "eeg.npy", np.array(["a", "b"]))
    with pytest.raises(ContractError, match="has the shape"):
        reproduce("eeg", tmp_path / "out", quick=True, data=tmp_path)


def test_two_recordings_of_a_heart(tmp_path):
    """A made-up pulse wave of varying period in place of the recordings."""
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        phase = np.cumsum(2 * np.pi * (0.002 + 0.0003 * np.sin(np.arange(12_050) / 700))) + 0.02 * np.cumsum(
            rng.standard_normal(12_050)
        )
        wave = np.exp(2 * np.cos(phase) - 2) + 0.3 * np.sin(2 * phase)
        embedded = np.column_stack([wave[k : k + 12_000] for k in (0, 10, 20, 35, 50)])
        np.save(tmp_path / f"ECG_pecuzal_5d_{part}.npy", embedded / embedded.std())
    table = reproduce("ecg", tmp_path / "out", quick=True, data=tmp_path)
    assert table["model"].tolist() == ["ours", "VAR(2)", "data"]
    assert np.isfinite(table["d_stsp"]).all()
    assert table["d_h"].between(0, 1).all()


def test_the_recording_of_the_field(tmp_path, shared_data):
    if not (shared_data / "eeg" / "eeg.npy").exists():
        pytest.skip("the EEG recording is not there")
    table = reproduce("eeg", tmp_path, quick=True, data=shared_data / "eeg").set_index("model")
    assert table.loc["ours", "d_h_smoothed"] < 0.3
    assert table.loc["ours", "d_stsp_smoothed"] < 4


def test_a_simulated_teacher_is_found_again(tmp_path):
    table = reproduce("student_teacher", tmp_path, quick=True)
    claims = load_experiment("student_teacher").claims(table)
    assert claims
    assert all(good for _, good in claims)
    own = table.set_index("model").loc["teacher"]
    assert own[["r2_step", "noise", "j", "j_eff"]].to_numpy(float) == pytest.approx(np.ones(4))
    with pytest.raises(ContractError, match=r"student_teacher has no folder of networks.*smc_rnns"):
        reproduce("student_teacher", tmp_path)
    with pytest.raises(ContractError, match="lacks data/student_teacher/osc_rnn"):
        reproduce("student_teacher", tmp_path, data=tmp_path)


def test_scores_of_a_network_do_not_depend_on_its_gauge():
    true = student_teacher.simulated_teacher()
    turn = np.array([[2.0, 1.0], [-0.5, 1.5]])
    other = true._replace(
        m=true.m @ np.linalg.inv(turn), n=true.n @ turn.T, noise=turn @ true.noise @ turn.T,
        start=true.start @ turn.T, spread=turn @ true.spread @ turn.T,
    )  # fmt: skip
    one, two = (student_teacher.scores(x, true, student_teacher.QUICK, (10, 60), 3) for x in (true, other))
    names = ["r2_step", "r2_latents", "noise", "j_eff", "j"]
    np.testing.assert_allclose([two[name] for name in names], [one[name] for name in names], rtol=1e-6)
    worse = student_teacher.scores(true._replace(n=0.5 * true.n), true, student_teacher.QUICK, (10, 60), 3)
    assert worse["r2_step"] < 0.9


def test_what_a_network_cannot_observe_is_no_error_of_its_step():
    """A level that its m cannot make up for is as large as the steps, and the steps are the same."""
    true = student_teacher.simulated_teacher()
    off = np.random.default_rng(5).standard_normal(len(true.level))
    off -= true.m @ np.linalg.pinv(true.m) @ off
    shifted = student_teacher.scores(true._replace(level=true.level + off), true, student_teacher.QUICK, (10, 60), 3)
    assert shifted["r2_step"] == pytest.approx(1)
    assert shifted["r2_latents"] < 0.5


def test_published_cells_have_sources_and_our_numbers():
    table = pd.DataFrame({
        "system": "eeg", "model": ["ours", "ours", "VAR(2)"], "seed": [0, 1, 0], "d_stsp": [2.0, 3.0, 9.0],
        "d_h": [0.1, 0.2, 0.4], "d_stsp_smoothed": [2.0, 2.2, 9.0], "d_h_smoothed": [0.1, 0.1, 0.4],
    })  # fmt: skip
    cells = load_experiment("eeg").compare(table)
    assert all("et al." in cell.what and cell.higher_is_better is False for cell in cells)
    assert {cell.ours for cell in cells} == {2.1, 0.1}  # those that are smoothed like the data
    assert all(good for _, good in load_experiment("eeg").claims(table))
