"""Poisson spikes: counts, times, order."""

from __future__ import annotations

import numpy as np
import pytest

from nwb_lint.errors import ContractError
from nwb_lint.tasks.record import poisson_spikes


def test_counts_per_bin_are_poisson_of_the_rate():
    rng = np.random.default_rng(0)
    rate = np.tile(rng.uniform(0, 60, (1, 20, 3)), (4000, 1, 1))
    starts = np.arange(4000) * 1.0
    spikes = poisson_spikes(rate, 0.02, starts, seed=1)
    edges = starts[:, None] + np.arange(21) * 0.02
    counts = np.stack([np.diff(np.searchsorted(s, edges), axis=1) for s in spikes], axis=-1)
    expected = rate[0] * 0.02
    error = np.sqrt(expected / 4000)
    assert (np.abs(counts.mean(axis=0) - expected) <= 5 * error).all()
    np.testing.assert_allclose(counts.var(axis=0)[expected > 0.1] / expected[expected > 0.1], 1, atol=0.2)


def test_spikes_are_sorted_inside_bins_with_a_rate_and_uniform_there():
    rate = np.zeros((2, 10, 1))
    rate[0, 3], rate[1, 7] = 5e4, 5e4
    (times,) = poisson_spikes(rate, 0.02, np.array([10.0, 0.0]), seed=0)  # trials in any order
    assert (np.diff(times) >= 0).all()
    late, early = times[times > 5] - 10.06, times[times < 5] - 0.14
    for part in (late, early):
        assert part.min() >= -1e-9
        assert part.max() <= 0.02 + 1e-9
        assert len(part) == pytest.approx(1000, abs=160)
        np.testing.assert_allclose(np.quantile(part, [0.25, 0.5, 0.75]), [0.005, 0.01, 0.015], atol=0.0015)


def test_seeded_and_silent_where_the_rate_is_zero():
    rate = np.random.default_rng(0).uniform(1, 60, (5, 30, 4))
    rate[..., 2] = 0
    one, two = (poisson_spikes(rate, 0.02, np.arange(5.0), seed=7) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one, two, strict=True))
    assert len(one[2]) == 0
    assert len(one[1]) > 0


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_bad_rates_are_refused(bad):
    with pytest.raises(ContractError, match="negative"):
        poisson_spikes(np.full((1, 2, 3), bad), 0.02, np.zeros(1), seed=0)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ContractError, match=r"starts_s \(3,\)"):
        poisson_spikes(np.ones((2, 2, 3)), 0.02, np.zeros(3), seed=0)
