"""The closed forms of several subsets of the conditions share their sums."""

from __future__ import annotations

import numpy as np
import pytest

from nwb_lint.model.network import drives, forward, random_network
from nwb_lint.model.regression import closed_form, closed_forms, common_parts

ALPHA, RIDGES = 0.2, (1e-3, 0.1)
SUBSETS = [np.array([0, 1, 2, 5, 6, 7, 8, 9]), np.array([1, 2, 3, 4, 5, 6, 9, 10, 11]), np.arange(12)]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    u = rng.standard_normal((12, 30, 2))
    q = drives(u, ALPHA, bias=False, initial=False)
    x, _ = forward(random_network(20, 2, 2, 0), q, ALPHA)
    return x + 0.1 * rng.standard_normal(x.shape), q


@pytest.mark.parametrize("how", [{"rank": 2}, {"rank": 1, "unseen_start": True}, {"rank": None, "prewhiten": True}])
def test_each_is_the_closed_form_of_its_conditions_alone(data, how):
    x, q = data
    found = closed_forms(x, q, SUBSETS, alpha=ALPHA, **how)
    for k, own in enumerate(SUBSETS):
        alone = closed_form(x[own], q[own], alpha=ALPHA, ridges=RIDGES, **how)
        together = found.solve(k, RIDGES)
        for one, other in zip(together.networks, alone.networks, strict=True):
            np.testing.assert_allclose(one.j(), other.j(), rtol=1e-6, atol=1e-8)
            np.testing.assert_allclose(one.w, other.w, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(together.gcv, alone.gcv, rtol=1e-6)


def test_halves_of_the_trials_are_shared_too(data):
    x, q = data
    halves = x + 0.1 * np.random.default_rng(1).standard_normal((2, *x.shape))
    found = closed_forms(x, q, SUBSETS, alpha=ALPHA, rank=2, halves=halves)
    for k, own in enumerate(SUBSETS):
        alone = closed_form(x[own], q[own], alpha=ALPHA, ridges=RIDGES, rank=2, halves=halves[:, own])
        np.testing.assert_allclose(found.solve(k, RIDGES).networks[1].j(), alone.networks[1].j(), rtol=1e-6, atol=1e-8)


def test_a_sketch_of_all_directions_loses_nothing_in_any_subset(data):
    x, q = data
    plain, sketched = (closed_forms(x, q, SUBSETS, alpha=ALPHA, rank=2, sketch=size) for size in (None, 20))
    for k in range(3):
        one, other = (found.solve(k, RIDGES).networks[0].j() for found in (plain, sketched))
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)


def test_conditions_outside_of_all_subsets_have_no_say(data):
    x, q = data
    other = x.copy()
    other[3:5] = 100
    for sketch in (None, 10):
        one, two = (closed_forms(y, q, SUBSETS[:1], alpha=ALPHA, rank=2, sketch=sketch) for y in (x, other))
        np.testing.assert_array_equal(one.solve(0, RIDGES).networks[0].j(), two.solve(0, RIDGES).networks[0].j())


def test_common_parts_are_disjoint_and_make_up_every_subset():
    rng = np.random.default_rng(0)
    for _ in range(20):
        subsets = [np.flatnonzero(rng.random(15) < 0.6) for _ in range(rng.integers(1, 5))]
        subsets = [one for one in subsets if len(one)]
        if not subsets:
            continue
        parts = common_parts(subsets)
        together = np.concatenate(parts)
        assert len(np.unique(together)) == len(together)
        np.testing.assert_array_equal(np.sort(together), np.unique(np.concatenate(subsets)))
        for one in subsets:
            assert all(np.isin(part, one).all() or not np.isin(part, one).any() for part in parts)
