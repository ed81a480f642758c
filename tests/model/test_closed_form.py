"""Laws of the closed forms' options: sketches, weights, shorter trials, instruments, generalized cross-validation."""

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.model.data import Samples, weights_of
from nwb_lint.model.network import Network, drives, forward
from nwb_lint.model.optimization import problem_of
from nwb_lint.model.regression import (
    closed_form,
    features,
    latent_pass,
    leading_eigenpairs,
    regression_errors,
    sketch_size,
)
from nwb_lint.model.scores import r_squared
from nwb_lint.model.tuning import SKETCH_NEURONS, SKETCH_SIZE

ALPHA, TAU_S = 0.2, 0.1


def arrays(known):
    u = known.activity["u"].values.astype(float)
    return known.activity["activity"].values.astype(float), drives(u, ALPHA, bias=False, initial=False)


def r2_of(prediction, known, held):
    return r_squared(known.x[held], prediction, known.x.mean(axis=(0, 1)))[0]


def same(one, other, atol=1e-8):
    np.testing.assert_allclose(one.j(), other.j(), atol=atol)
    np.testing.assert_allclose(one.w, other.w, atol=atol)


def test_a_sketch_of_full_size_is_the_gram_route(truth):
    x, q = arrays(truth(neurons=20, conditions=30, observation=0.5))
    options = {"rank": 1, "alpha": ALPHA, "ridges": (1e-3, 1.0)}
    whole, sketched = (closed_form(x, q, sketch=sketch, **options) for sketch in (None, 20))
    np.testing.assert_allclose(sketched.singular, whole.singular, rtol=1e-8, atol=1e-6)
    np.testing.assert_allclose(sketched.gcv, whole.gcv, rtol=1e-8)
    for one, other in zip(whole.networks, sketched.networks, strict=True):
        same(one, other)
    options = {"alpha": ALPHA, "ridges": (1e-2,)}
    same(*(latent_pass(whole.networks[0], x, q, sketch=k, **options).networks[0] for k in (None, 20)), atol=1e-6)


def test_a_small_sketch_predicts_as_well(truth):
    known = truth(neurons=300, conditions=60, rank=2, observation=0.5)
    x, q = arrays(known)
    held, scores = slice(45, 60), []
    for sketch in (None, 40):
        options = {"alpha": ALPHA, "ridges": (1e-2,), "sketch": sketch}
        first = closed_form(x[:45], q[:45], rank=2, **options).networks[0]
        second = latent_pass(first, x[:45], q[:45], **options).networks[0]
        scores.append(r2_of(forward(second, q[held], ALPHA)[0], known, held))
    assert scores[1] > 0.99
    assert scores[1] > scores[0] - 1e-3


def test_features_are_sketched_where_neurons_are_many_or_samples_few():
    many, some = SKETCH_NEURONS + 1, SKETCH_SIZE + 1
    sizes = [sketch_size(n, s) for n, s in ((many, 10**6), (some, some - 1), (some, some), (20, 5))]
    assert sizes == [SKETCH_SIZE, SKETCH_SIZE, None, None]


@pytest.mark.parametrize("stage", ["closed form", "latent pass"])
def test_weight_0_leaves_neurons_out_of_the_loss(truth, stage):
    """Their activity as targets says nothing: only their features count."""
    x, q = arrays(truth(rank=2, neurons=16, conditions=20, observation=0.5))
    weights = np.where(np.arange(16) < 12, 1.3, 0.0)
    options = {"alpha": ALPHA, "ridges": (1e-2,)}
    (found,) = closed_form(x, q, rank=2, weights=weights, **options).networks
    if stage == "closed form":  # by hand: the leading directions of the first 12 neurons' fitted values
        (full,) = closed_form(x, q, rank=None, **options).networks
        z = features(x, ALPHA, "tanh").reshape(-1, 16)
        d = q.reshape(-1, q.shape[2])
        rest = z - d @ np.linalg.lstsq(d, z, rcond=None)[0]
        fitted = rest @ full.m.T
        _, _, vt = np.linalg.svd(fitted[:, :12], full_matrices=False)
        latent = fitted[:, :12] @ vt[:2].T
        m = np.linalg.lstsq(latent, fitted, rcond=None)[0].T
        np.testing.assert_allclose(found.j(), m @ vt[:2] @ full.m[:12], atol=1e-9)
    else:
        changed = found._replace(m=found.m.copy())
        changed.m[12:] = 0  # how the others are read out must not enter kappa_hat
        one, other = (
            latent_pass(net, np.where(weights > 0, x, x + shift), q, weights=weights, **options).networks[0]
            for net, shift in ((found, 0.0), (found, 3.0))
        )
        np.testing.assert_allclose(one.n, other.n, atol=1e-9)
        np.testing.assert_allclose(one.m[:12], other.m[:12], atol=1e-9)


def test_equal_weights_are_none(truth):
    x, q = arrays(truth(rank=2, neurons=12, conditions=20))
    options = {"alpha": ALPHA, "ridges": (1e-2,)}
    plain, equal = (closed_form(x, q, rank=2, weights=w, **options).networks[0] for w in (None, np.full(12, 2.0)))
    same(plain, equal)
    same(*(latent_pass(plain, x, q, weights=w, **options).networks[0] for w in (None, np.full(12, 2.0))))
    errors = [regression_errors([plain], x, q, alpha=ALPHA, weights=w)[0] for w in (None, np.full(12, 2.0))]
    assert errors[1] == pytest.approx(2 * errors[0])


@pytest.mark.parametrize("loss", ["activity", "rate"])
def test_weight_0_in_every_loss_is_leaving_neurons_out(truth, loss):
    """Of free runs, of the gradient stage and of its gradient: the same network, 12 of 16 neurons in the data."""
    x, q = (a.astype(np.float32) for a in arrays(truth(rank=2, neurons=16, conditions=20, observation=0.5)))
    weights = np.where(np.arange(16) < 12, 1.0, 0.0).astype(np.float32)
    (network,) = closed_form(x, q, rank=2, alpha=ALPHA, ridges=(1e-2,)).networks
    few = Samples(x[..., :12], q, ALPHA, loss=loss)
    weighted = Samples(x, q, ALPHA, loss=loss, weights=weights)
    np.testing.assert_allclose(weighted.errors(network), few.errors(network), rtol=1e-5)
    one, other = (problem_of(s, "cpu").loss_and_gradient(*network) for s in (few, weighted))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rank", [1, None])
def test_a_nan_tail_is_a_shorter_trial(truth, rank):
    x, q = arrays(truth(neurons=12, conditions=20))
    tail = x.copy()
    tail[:, 25:] = np.nan
    options = {"alpha": ALPHA, "ridges": (1e-3,)}
    short, longer = (closed_form(y, d, rank=rank, **options) for y, d in ((x[:, :25], q[:, :25]), (tail, q)))
    same(short.networks[0], longer.networks[0])
    np.testing.assert_allclose(short.gcv, longer.gcv)
    if rank:
        start = short.networks[0]
        passed = [latent_pass(start, y, d, **options).networks[0] for y, d in ((x[:, :25], q[:, :25]), (tail, q))]
        same(*passed)
    ragged = np.concatenate([x[:10], tail[10:]])  # and a condition that is missing altogether
    missing = np.concatenate([ragged, np.full_like(x[:2], np.nan)])
    pairs = ((ragged, q), (missing, np.r_[q, 9 * q[:2]]))
    same(*(closed_form(y, d, rank=rank, **options).networks[0] for y, d in pairs))


def test_single_trials_of_different_length(truth):
    """Trials instead of means: the same inputs six times over, each with its own noise and end."""
    known = truth(conditions=25, neurons=30)
    rng = np.random.default_rng(5)
    trials = known.activity.isel(condition=np.repeat(np.arange(25), 6)).drop_vars("condition")
    trials = trials.assign_coords(condition=[f"t{k}" for k in range(150)])
    x = np.repeat(known.x, 6, axis=0)
    x += 1.0 * x.std() * rng.standard_normal(x.shape)
    for one, end in zip(x, rng.integers(20, 41, 150), strict=True):
        one[end:] = np.nan
    trials["activity"] = trials["activity"].dims, x.astype(np.float32)
    fit = nl.fit_lint(trials, rank=1, tau_s=TAU_S, test_conditions=np.arange(120, 150), max_iter=20)
    assert r2_of(fit["activity_pred"].values[120::6], known, slice(20, 25)) > 0.98


def test_a_mask_is_nan(truth):
    activity = truth(neurons=12, conditions=20).activity
    counts = np.random.default_rng(6).random(activity["activity"].shape) > 0.2
    holed = activity.assign(activity=activity["activity"].where(counts).astype(np.float32))
    masked = activity.assign(mask=(activity["activity"].dims, counts))
    one, two = (nl.fit_lint(a, rank=1, tau_s=TAU_S, method="regression", test_conditions=[1]) for a in (holed, masked))
    for name in ("m", "n", "r2"):
        np.testing.assert_array_equal(one[name], two[name])


def linear_network(*, sd, conditions=400, times=60, seed=7):
    """J (3, 3) of a linear network under random inputs, drives, and two halves with observation noise of their own."""
    rng = np.random.default_rng(seed)
    j, w = np.array([[0.6, -0.8, 0.2], [0.7, 0.3, -0.4], [-0.3, 0.5, 0.4]]), rng.standard_normal((3, 2))
    u = np.repeat(rng.standard_normal((conditions, times // 6, 2)), 6, axis=1)
    q = drives(u, ALPHA, bias=False, initial=False)
    x, _ = forward(Network(j, None, w), q, ALPHA, "linear")
    return j, q, x + sd * x.std() * rng.standard_normal((2, *x.shape))


@pytest.mark.parametrize("sd", [0.5, 1.0])
def test_instruments_take_the_noise_bias_away_that_no_ridge_can(sd):
    j, q, halves = linear_network(sd=sd)
    options = {"rank": None, "alpha": ALPHA, "nonlinearity": "linear"}
    plain = closed_form(halves.mean(axis=0), q, **options).networks
    aided = closed_form(halves.mean(axis=0), q, halves=halves, ridges=(1e-5,), **options).networks[0]
    off = [np.linalg.norm(net.m - j) / np.linalg.norm(j) for net in (aided, *plain)]
    assert off[0] < 0.5 * min(off[1:])  # against the ridge that suits plain regression best


def test_instruments_are_consistent():
    """With 16 times the data the error of the instruments falls about fourfold; that of plain regression is bias."""
    options = {"rank": None, "alpha": ALPHA, "nonlinearity": "linear", "ridges": (1e-9,)}
    off = []
    for conditions in (200, 3200):
        each = []
        for seed in range(4):
            j, q, halves = linear_network(sd=0.5, conditions=conditions, seed=seed)
            mean = halves.mean(axis=0)
            both = (closed_form(mean, q, halves=h, **options).networks[0].m - j for h in (halves, None))
            each.append([np.linalg.norm(error) for error in both])
        off.append(np.median(each, axis=0))
    (aided_few, plain_few), (aided_many, plain_many) = off
    assert aided_many < 0.5 * aided_few
    assert plain_many > 0.7 * plain_few
    assert aided_many < 0.2 * plain_many


def test_two_equal_halves_are_the_plain_closed_form(truth):
    x, q = arrays(truth(neurons=12, conditions=20))
    options = {"rank": 1, "alpha": ALPHA, "ridges": (1e-2,)}
    plain, halves = closed_form(x, q, **options), closed_form(x, q, halves=np.stack([x, x]), **options)
    same(plain.networks[0], halves.networks[0])


def test_gcv_is_the_textbook_one(truth):
    """Against the hat matrix of ridge regression on features rid of q, written out."""
    rng = np.random.default_rng(8)
    x, q = rng.standard_normal((6, 9, 5)), rng.standard_normal((6, 9, 2))
    weights = np.array([1.0, 0.0, 2.0, 0.5, 1.5])
    found = closed_form(x, q, rank=2, alpha=ALPHA, ridges=(0.1, 1.0), weights=weights).gcv
    z, d, y = features(x, ALPHA, "tanh").reshape(-1, 5), q.reshape(-1, 2), x.reshape(-1, 5)
    away = np.eye(54) - d @ np.linalg.pinv(d)
    z, y = away @ z, away @ y
    for ridge, value in zip((0.1, 1.0), found, strict=True):
        hat = z @ np.linalg.solve(z.T @ z + ridge * np.trace(z.T @ z) / 5 * np.eye(5), z.T)
        left = ((y - hat @ y) ** 2 * weights).sum()
        assert value == pytest.approx(left / 52 / (1 - np.trace(hat) / 52) ** 2, rel=1e-9)


def test_gcv_chooses_near_what_held_out_conditions_choose(truth):
    known = truth(neurons=40, conditions=60, private=0.05)
    fits = {}
    for by in ("held_out", "gcv"):
        options = {"ridge_by": by, "method": "regression", "test_conditions": np.arange(45, 60)}
        fits[by] = nl.fit_lint(known.activity, rank=1, tau_s=TAU_S, **options)
    scores = [r2_of(fit["activity_pred"].values[45:], known, slice(45, 60)) for fit in fits.values()]
    assert min(scores) > 0.995
    ridges = [np.log10(float(fit["stage_ridge"][0])) for fit in fits.values()]
    assert abs(ridges[0] - ridges[1]) <= 2


def test_precision_is_one_over_the_noise_variance(truth):
    known = truth(neurons=10, conditions=30, private=0.0)
    sd = np.linspace(0.2, 2.0, 10)
    rng = np.random.default_rng(9)
    halves = known.x + sd * rng.standard_normal((2, *known.x.shape))
    activity = known.activity.assign(
        activity_half=(("half", "condition", "time", "neuron"), halves.astype(np.float32)),
        n_trials_half=(("half", "condition", "neuron"), np.full((2, 30, 10), 4)),
    )
    train = np.arange(30) < 25
    weights = weights_of(activity, "precision", train)
    expected = sd**-2 / np.mean(sd**-2)
    np.testing.assert_allclose(weights, expected, rtol=0.2)
    activity["activity_half"].values[:, 25:] = 1e6  # held-out conditions have no say
    np.testing.assert_array_equal(weights_of(activity, "precision", train), weights)
    trials = known.activity.assign(n_trials=(("condition", "neuron"), np.tile(np.arange(1, 11), (30, 1))))
    np.testing.assert_allclose(weights_of(trials, "precision", train), np.arange(1, 11) / 5.5, rtol=1e-6)


def test_halves_in_a_whole_fit(truth):
    """Instruments that improve the fit are kept; otherwise the fit is the one without them."""
    known = truth(neurons=12, conditions=60)
    noise = 0.5 * known.x.std() * np.random.default_rng(7).standard_normal((2, *known.x.shape))
    halves = (known.x + noise).astype(np.float32)
    activity = known.activity.assign(
        activity=(known.activity["activity"].dims, halves.mean(axis=0)),
        activity_half=(("half", "condition", "time", "neuron"), halves),
        n_trials_half=(("half", "condition", "neuron"), np.full((2, 60, 12), 3)),
    )
    options = {"rank": 1, "tau_s": TAU_S, "method": "regression", "test_conditions": [0, 1, 2]}
    aided, plain = (nl.fit_lint(a, **options) for a in (activity, activity.drop_vars("activity_half")))
    assert "instruments" not in plain["stage"].values
    assert set(aided["stage"].values) <= {"closed form", "instruments", "latent pass"}
    if "instruments" not in aided["stage"].values:
        np.testing.assert_array_equal(aided["n"], plain["n"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": "equal"}, "weights is 'equal'"),
        ({"weights": np.ones(3)}, "shape (3,)"),
        ({"weights": -np.ones(10)}, "below 0"),
        ({"weights": np.zeros(10)}, "below 0"),
        ({"weights": ["a"] * 10}, "numbers"),
        ({"weights": "precision"}, "n_trials"),
        ({"ridge_by": "luck"}, "ridge_by is 'luck'"),
    ],
)
def test_errors_are_one_line(truth, options, words):
    with pytest.raises(ContractError) as caught:
        nl.fit_lint(truth(neurons=10, conditions=12).activity, rank=1, tau_s=TAU_S, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["falling", "alike", "nothing"])
@pytest.mark.parametrize(("size", "number"), [(6, 2), (200, 1), (200, 5), (200, 40), (5, 5), (3, 9)])
def test_the_leading_eigenvalues_are_those_of_the_whole_decomposition(size, number, kind):
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((size, size)))
    values = {"falling": 0.9 ** np.arange(size), "alike": np.ones(size), "nothing": np.zeros(size)}[kind]
    matrix = basis * values @ basis.T
    found, vectors = leading_eigenpairs(matrix, number)
    np.testing.assert_allclose(found, values[:number], atol=1e-12)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(min(size, number)), atol=1e-8)
    np.testing.assert_allclose(matrix @ vectors, vectors * found, atol=1e-10)
