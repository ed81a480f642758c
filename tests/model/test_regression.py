"""Closed form and latent pass on arrays: teachers come back, order does not matter, chunks do not show."""

import numpy as np
import pytest

from nwb_lint.model.network import Network, drives, forward
from nwb_lint.model.regression import LOW_RANK, Sampling, closed_form, fill, latent_pass, regression_errors
from nwb_lint.model.scores import r_squared
from nwb_lint.model.tuning import MOMENT_CHUNK_NEURONS

ALPHA = 0.2


def arrays(truth):
    """x (float64) and drives of a `Truth`."""
    u = truth.activity["u"].values
    return truth.activity["activity"].values.astype(float), drives(u.astype(float), ALPHA, bias=False, initial=False)


def r2_of(network, q, truth, held=slice(None)):
    x, _ = forward(network, q[held], ALPHA)
    return r_squared(truth.x[held], x, truth.x.mean(axis=(0, 1)))[0]


@pytest.mark.parametrize("rank", [1, 2])
def test_closed_form_finds_the_network(truth, rank):
    known = truth(rank=rank, conditions=80)
    x, q = arrays(known)
    networks, singular, _ = closed_form(x[:60], q[:60], rank=rank, alpha=ALPHA, ridges=(1e-5, 1e-3))
    assert r2_of(networks[0], q, known, slice(60, 80)) > 0.999
    found = known._replace(m=networks[0].m, n=networks[0].n, w=networks[0].w).effective()  # raw n is not determined
    assert np.corrcoef(found.ravel(), known.effective().ravel())[0, 1] > 0.99
    assert singular[rank - 1] > 3 * singular[rank]  # the gap shows the rank


def test_without_noise_the_fit_is_exact_on_states_visited(truth):
    known = truth(private=0.0)
    _, q = arrays(known)
    networks, *_ = closed_form(known.x, q, rank=1, alpha=ALPHA, ridges=(1e-9,))
    assert r2_of(networks[0], q, known) > 1 - 1e-6


def test_every_ridge_answers_in_the_order_asked(truth):
    x, q = arrays(truth(conditions=12, neurons=12))
    ridges = (1e-3, 1e-1, 10.0)
    together, *_ = closed_form(x, q, rank=1, alpha=ALPHA, ridges=ridges)
    size = [np.linalg.norm(net.j()) for net in together]
    assert size == sorted(size, reverse=True)
    for net, ridge in zip(together, ridges, strict=True):
        alone, *_ = closed_form(x, q, rank=1, alpha=ALPHA, ridges=(ridge,))
        np.testing.assert_allclose(alone[0].j(), net.j(), atol=1e-10)
    after = latent_pass(together[0], x, q, alpha=ALPHA, ridges=ridges).networks
    sends = [np.linalg.norm(net.n) for net in after]
    assert sends == sorted(sends, reverse=True)


@pytest.mark.parametrize("rank", [1, None])
def test_order_of_neurons_and_conditions(truth, rank):
    x, q = arrays(truth(neurons=20, conditions=20))
    rng = np.random.default_rng(1)
    neurons, conditions = rng.permutation(20), rng.permutation(20)
    (straight,), *_ = closed_form(x, q, rank=rank, alpha=ALPHA, ridges=(1e-3,))
    (other,), *_ = closed_form(x[conditions][..., neurons], q[conditions], rank=rank, alpha=ALPHA, ridges=(1e-3,))
    np.testing.assert_allclose(other.j(), straight.j()[np.ix_(neurons, neurons)], atol=1e-9)
    np.testing.assert_allclose(other.w, straight.w[neurons], atol=1e-9)
    if rank:
        (again,) = latent_pass(straight, x, q, alpha=ALPHA, ridges=(1e-2,)).networks
        turned = Network(*(part[neurons] for part in straight))
        (permuted,) = latent_pass(
            turned, x[conditions][..., neurons], q[conditions], alpha=ALPHA, ridges=(1e-2,)
        ).networks
        np.testing.assert_allclose(permuted.j(), again.j()[np.ix_(neurons, neurons)], atol=1e-9)


def test_chunks_do_not_show(truth):
    x, q = arrays(truth(neurons=15, conditions=20))
    x, q = x[:, 10:], q  # ten steps of burn-in
    options, three = {"alpha": ALPHA, "ridges": (1e-3,)}, 3 * q.shape[1] * MOMENT_CHUNK_NEURONS
    whole, *_ = closed_form(x, q, rank=1, **options)
    passed = latent_pass(whole[0], x, q, **options).networks
    parts, *_ = closed_form(x, q, rank=1, chunk_values=three, **options)
    np.testing.assert_allclose(parts[0].j(), whole[0].j(), atol=1e-9)
    parts = latent_pass(whole[0], x, q, chunk_values=three, **options).networks
    np.testing.assert_allclose(parts[0].j(), passed[0].j(), atol=1e-9)


@pytest.mark.parametrize("samples", [1, 50 * 400, 99 * 400, 100 * 400, 10**7])
def test_samples_are_taken_apart_only_where_they_abound(samples):
    assert Sampling().stride(samples, 400, ALPHA) == (
        2 if samples >= 100 * 400 else 1
    )  # never beyond half of the filter's 5 steps


@pytest.mark.parametrize(("samples", "step"), [(1, 1), (9999, 1), (20_000, 2), (39_999, 3), (40_000, 4), (10**7, 4)])
@pytest.mark.parametrize("neurons", [1, 40, 500])
def test_of_few_neurons_as_many_samples_are_taken_as_cost_nothing(samples, step, neurons):
    assert LOW_RANK.stride(samples, neurons, ALPHA) == step


def test_taking_samples_apart_costs_nothing_where_they_abound(truth):
    known = truth(rank=1, conditions=400, neurons=20)  # 400 x 40 samples of 20 neurons
    x, q = arrays(known)
    found = []
    for fewest in (1, x.size):
        sampling = LOW_RANK._replace(min_samples=fewest)
        networks, *_ = closed_form(x[:300], q[:300], rank=1, alpha=ALPHA, ridges=(1e-3,), sampling=sampling)
        found.append(networks[0])
    few, all_of_them = (r2_of(network, q, known, slice(300, 400)) for network in found)
    assert not np.array_equal(found[0].n, found[1].n)
    assert few > 0.999
    assert few > all_of_them - 1e-4


def test_regression_is_the_textbook_one():
    """rank=None against the normal equations, written out: ridge on features, none on drives."""
    rng = np.random.default_rng(2)
    x, q = rng.standard_normal((6, 9, 5)), rng.standard_normal((6, 9, 2))
    (net,), *_ = closed_form(x, q, rank=None, alpha=ALPHA, ridges=(0.1,))
    z = np.zeros_like(x)
    for t in range(8):
        z[:, t + 1] = (1 - ALPHA) * z[:, t] + ALPHA * np.tanh(x[:, t])
    z, d, y = z.reshape(-1, 5), q.reshape(-1, 2), x.reshape(-1, 5)
    rest = z - d @ np.linalg.lstsq(d, z, rcond=None)[0]
    penalty = 0.1 * np.trace(rest.T @ rest) / 5
    design = np.hstack([z, d])
    normal = design.T @ design + np.diag([penalty] * 5 + [0] * 2)
    b = np.linalg.solve(normal, design.T @ y)
    np.testing.assert_allclose(net.j(), b[:5].T, atol=1e-10)
    np.testing.assert_allclose(net.w, b[5:].T, atol=1e-10)


@pytest.mark.parametrize("rank", [2, None])
def test_regression_errors_are_those_of_the_plain_formula(truth, rank):
    known = truth(rank=2, neurons=12, conditions=9, times=15)
    x, q = arrays(known)
    x = x.copy()
    networks, *_ = closed_form(x, q, rank=rank, alpha=ALPHA, ridges=(1e-3, 1.0))
    z = np.zeros_like(x)
    for t in range(14):
        z[:, t + 1] = (1 - ALPHA) * z[:, t] + ALPHA * np.tanh(x[:, t])
    plain = [((x - z @ one.j().T - q @ one.w.T) ** 2).sum() for one in networks]
    np.testing.assert_allclose(regression_errors(networks, x, q, alpha=ALPHA), plain, rtol=1e-6)
    x[3, -1, 5] = np.nan  # the last sample feeds no other: its square goes, nothing else
    left = (known.activity["activity"].values - z @ networks[0].j().T - q @ networks[0].w.T)[3, -1, 5] ** 2
    np.testing.assert_allclose(regression_errors(networks[:1], x, q, alpha=ALPHA), plain[0] - left, rtol=1e-6)


def test_latent_pass_takes_the_noise_bias_away(truth):
    known = truth(observation=1.0, conditions=120)
    x, q = arrays(known)
    (first,), *_ = closed_form(x[:100], q[:100], rank=1, alpha=ALPHA, ridges=(1e-3,))
    (second,) = latent_pass(first, x[:100], q[:100], alpha=ALPHA, ridges=(1e-2,)).networks
    before, after = (r2_of(net, q, known, slice(100, 120)) for net in (first, second))
    assert after > before
    assert after > 0.97


def test_latent_pass_keeps_what_hidden_units_receive(truth):
    known = truth(neurons=20)
    x, q = arrays(known)
    start = Network(known.m, known.n, known.w)
    (net,) = latent_pass(start, x[..., :15], q, alpha=ALPHA, ridges=(1e-3,)).networks
    np.testing.assert_array_equal(net.m[15:], known.m[15:])
    assert r2_of(net, q, known) > 0.99


def test_fill_touches_only_what_is_missing(truth):
    known = truth(neurons=12, conditions=12)
    x, q = arrays(known)
    hole = np.random.default_rng(3).random(x.shape) < 0.2
    holed = np.where(hole, np.nan, x)
    assert fill(x, None, q, ALPHA, "tanh") is x
    by_mean = fill(holed, None, q, ALPHA, "tanh")
    np.testing.assert_array_equal(by_mean[~hole], x[~hole])
    np.testing.assert_allclose(by_mean[hole], np.broadcast_to(np.nanmean(holed, axis=(0, 1)), x.shape)[hole])
    by_model = fill(holed, Network(known.m, known.n, known.w), q, ALPHA, "tanh")
    np.testing.assert_allclose(by_model[hole], known.x[hole], atol=1e-9)
