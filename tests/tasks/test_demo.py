"""The demo session: the network solves its task, the session looks like a recording."""

from __future__ import annotations

import numpy as np
import pytest

from nwb_lint.errors import ContractError
from nwb_lint.model.network import Network, drives, forward
from nwb_lint.tasks.demo import COHERENCES, CUE_LEAD_S, DT_S, TAU_S, context_network, demo_session


@pytest.fixture(scope="module")
def session():
    return demo_session(seed=0)


@pytest.mark.parametrize("seed", range(4))
def test_the_noiseless_network_solves_the_task_in_both_contexts(seed):
    m, n, weights = context_network(seed=seed)
    grid = np.array([(c, a, b) for c in (0, 1) for a in COHERENCES for b in COHERENCES])
    u = np.zeros((len(grid), 70, 4))
    u[:, 20:60, :2] = grid[:, None, 1:]
    u[np.arange(len(grid)), :, 2 + grid[:, 0].astype(int)] = 1
    x, kappa = forward(Network(m, n, weights), drives(u, DT_S / TAU_S, bias=False, initial=False), DT_S / TAU_S)
    wanted = np.sign(np.where(grid[:, 0] == 0, grid[:, 1], grid[:, 2]))
    right = np.sign(kappa[:, -1, 0]) == wanted
    assert right[grid[:, 0] == 0].mean() >= 0.95
    assert right[grid[:, 0] == 1].mean() >= 0.95
    assert np.abs(x).max() < 10


def test_connectivity_is_rank_one_and_both_contexts_matter(session):
    truth = session.truth
    assert truth.m.shape == truth.n.shape == (200, 1)
    assert truth.input_weights.shape == (200, 4)
    assert np.linalg.matrix_rank(truth.m @ truth.n.T) == 1
    cued = truth.input_weights[:, 2:] != 0
    assert (cued.sum(axis=1) == 1).all()
    assert cued.sum(axis=0).tolist() == [100, 100]


def test_trials_vary_and_cover_every_condition(session):
    trials = session.trials
    assert len(trials) == 600
    counts = trials.groupby(["context", "motion", "color"]).size()
    assert len(counts) == 32
    assert set(counts) == {18, 19}
    assert trials.loc[trials.correct].groupby(["context", "motion", "color"]).size().min() >= 4
    length = trials.stop_time - trials.start_time
    assert length.std() > 0.1
    assert (trials.stop_time - trials.stimulus_time).min() >= 0.8
    np.testing.assert_allclose(trials.stimulus_time - trials.cue_time, CUE_LEAD_S)
    assert (trials.start_time.to_numpy()[1:] > trials.stop_time.to_numpy()[:-1]).all()


def test_errors_exist_are_right_by_definition_and_fall_with_coherence(session):
    trials = session.trials
    assert 0.05 <= 1 - trials.correct.mean() <= 0.20
    relevant = np.where(trials.context == "motion", trials.motion, trials.color)
    np.testing.assert_array_equal(trials.correct, trials.choice == np.sign(relevant))
    strong = np.abs(relevant) > 0.3
    assert trials.correct[strong].mean() > trials.correct[~strong].mean() + 0.05
    assert set(trials.choice) == {-1, 1}


def test_the_choice_is_the_sign_of_the_latent_at_the_end(session):
    last = [row[np.isfinite(row)][-1] for row in session.kappa]
    np.testing.assert_array_equal(np.sign(last), session.trials.choice)


def test_rates_lie_in_the_range_of_real_units_and_spread(session):
    seconds = session.trials.stop_time.max() - session.trials.start_time.min()
    rates = np.array([len(times) / seconds for times in session.spike_times])
    assert rates.min() >= 1
    assert rates.max() <= 60
    assert np.quantile(rates, 0.9) / np.quantile(rates, 0.1) > 3
    assert all((np.diff(times) >= 0).all() for times in session.spike_times)
    assert min(times[0] for times in session.spike_times) >= session.trials.start_time.min()


def test_spikes_follow_the_latent(session):
    """Each unit's count over the last 0.3 s before the response correlates with kappa as m says."""
    ends = session.trials.stop_time.to_numpy()
    window = np.stack([ends - 0.3, ends], axis=1)
    counts = np.array([np.diff(np.searchsorted(times, window), axis=1)[:, 0] for times in session.spike_times])
    kappa = np.array([row[np.isfinite(row)][-1] for row in session.kappa])
    slope = np.array([np.cov(c, kappa)[0, 1] for c in counts]) / session.truth.gain
    assert np.corrcoef(slope, session.truth.m[:, 0])[0, 1] > 0.9


def test_same_seed_same_session_other_seed_another():
    one, two, other = (demo_session(seed=s, n_units=20, n_trials=40) for s in (3, 3, 4))
    assert one.trials.equals(two.trials)
    assert all((a == b).all() for a, b in zip(one.spike_times, two.spike_times, strict=True))
    assert not one.trials.equals(other.trials)
    assert not np.allclose(one.truth.m, other.truth.m)


@pytest.mark.parametrize(
    ("options", "found"), [({"n_units": 21}, "21"), ({"n_units": 10}, "10"), ({"n_trials": 0}, "0")]
)
def test_impossible_sizes_are_refused(options, found):
    with pytest.raises(ContractError, match=rf"n_(units|trials) is {found}\."):
        demo_session(**options)
