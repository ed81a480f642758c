"""A fit runs again from itself alone, on other inputs, silenced, in any gauge."""

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.model.network import filter_input

TAU_S = 0.1

# the activity here is not that of a network
pytestmark = pytest.mark.filterwarnings("ignore:Input .* acts .* than its times say")


@pytest.fixture(scope="module")
def fitted():
    """A rank-2 fit with burn-in, bias, a learned start and preparation to undo."""
    rng = np.random.default_rng(0)
    side = np.linspace(-1, 1, 14)
    shape = np.stack([np.linspace(0, 1, 30), np.sin(np.linspace(0, 3, 30))], axis=1)
    rate = 20 + np.einsum("c,tk,kn->ctn", side, shape, 4 * rng.standard_normal((2, 18)))
    rate += 3 * rng.standard_normal(18) + 0.3 * rng.standard_normal(rate.shape)
    recording = xr.Dataset(
        {
            "rate": (("condition", "time", "neuron"), rate.astype(np.float32)),
            "n_trials": (("condition", "neuron"), np.full((14, 18), 5)),
        },
        coords={
            "condition": [f"side={s:g}" for s in side],
            "side": ("condition", side),
            "time": 0.02 * np.arange(30),
            "neuron": [f"n{k:02d}" for k in range(18)],
        },
        attrs={"bin_s": 0.02},
    )
    inputs = [nl.Input("side", column="side", window_s=(0.0, 0.4)), nl.Input("on", window_s=(-1.0, 1.0))]
    activity = nl.prepare(recording, inputs=inputs, n_components=None, burn_in_s=0.1)
    fit = nl.fit_lint(activity, rank=2, tau_s=TAU_S, bias=True, initial="learned", max_iter=30, test_conditions=[2, 9])
    return fit, recording, activity


def test_a_fit_runs_again_from_itself(fitted):
    fit, recording, activity = fitted
    run = nl.simulate(fit)
    np.testing.assert_array_equal(run["activity"], fit["activity_pred"])
    np.testing.assert_array_equal(run["filtered_input"], fit["filtered_input"])
    np.testing.assert_array_equal(nl.simulate(fit, activity)["activity"], fit["activity_pred"])
    undone = fit["activity_pred"].values * fit["scale"].values + fit["offset"].values
    np.testing.assert_allclose(run["rate"], undone, rtol=1e-5)
    error = np.sqrt(((run["rate"].values - recording["rate"].values) ** 2).mean())
    assert error < 0.5 * recording["rate"].values.std(axis=0).mean()


def test_fit_alone_is_the_recurrence(fitted, recurrence):
    fit, *_ = fitted
    u = np.concatenate([fit["u_burn_in"].values, fit["u"].values], axis=1)
    x = recurrence(
        *(fit[name].values for name in ("m", "n", "input_weights")),
        u,
        bias=fit["bias"].values,
        start=fit["initial_activation"].values,
    )
    np.testing.assert_allclose(fit["activity_pred"], x[:, 5:], atol=1e-4)


def test_silence(fitted):
    fit, *_ = fitted
    full, labels = fit["activity_pred"].values, fit["neuron"].values
    for nothing in ([], np.zeros(18, bool), None):
        np.testing.assert_array_equal(nl.simulate(fit, silence=nothing)["activity"], full)
    quiet = nl.simulate(fit, silence=labels)
    u = np.concatenate([fit["u_burn_in"].values, fit["u"].values], axis=1)
    decay = 0.8 ** np.arange(35)[:, None]
    driven = filter_input(u, 0.2) @ fit["input_weights"].values.T
    driven += (1 - decay) * fit["bias"].values + decay * fit["initial_activation"].values
    np.testing.assert_allclose(quiet["activity"], driven[:, 5:], atol=1e-5)
    assert not quiet["latent"].any()
    some = [
        nl.simulate(fit, silence=s)["activity"].values for s in ([1, 4], labels[[1, 4]], np.isin(range(18), [1, 4]))
    ]
    np.testing.assert_array_equal(some[0], some[1])
    np.testing.assert_array_equal(some[0], some[2])
    dead = fit.copy(deep=True)
    dead["n"].values[[1, 4]] = 0
    np.testing.assert_allclose(nl.simulate(dead)["activity"], some[0], atol=1e-5)
    assert np.abs(some[0] - full).max() > 1e-3


def by_hand(fit, *, factor=1.0, drive=0.0, first=0):
    """The recurrence with outputs multiplied and inputs added from step ``first`` on, one step after the other."""
    u = np.concatenate([fit["u_burn_in"].values, fit["u"].values], axis=1)
    j = fit["m"].values @ fit["n"].values.T / fit.sizes["neuron"]
    x = np.tile(fit["initial_activation"].values, (u.shape[0], u.shape[1], 1))
    for t in range(u.shape[1] - 1):
        on = t >= first
        r = np.tanh(x[:, t]) * (np.broadcast_to(factor, (u.shape[1], 18))[t] if on else 1)
        given = u[:, t] @ fit["input_weights"].values.T + fit["bias"].values
        given = given + (np.broadcast_to(drive, (u.shape[1], 18))[t] if on else 0)
        x[:, t + 1] = 0.8 * x[:, t] + 0.2 * (r @ j.T + given)
    return x[:, 5:]


def test_factors_and_drives(fitted):
    """Partial suppression, excitation and pulses are the recurrence with these numbers in it; silence is factor 0."""
    fit, *_ = fitted
    rng = np.random.default_rng(0)
    f, d = rng.uniform(0, 2, 18), rng.standard_normal(18)
    np.testing.assert_allclose(
        nl.simulate(fit, factor=f, drive=d)["activity"], by_hand(fit, factor=f, drive=d), atol=1e-4
    )
    pulse, push = np.ones((30, 18)), np.zeros((30, 18))
    pulse[10:14, [2, 5]], push[12:20, 3] = 0, 0.7
    padded = [np.pad(a, ((5, 0), (0, 0))) for a in (pulse, push)]
    run = nl.simulate(fit, factor=pulse, drive=push)["activity"]
    np.testing.assert_allclose(run, by_hand(fit, factor=padded[0], drive=padded[1], first=5), atol=1e-4)
    np.testing.assert_array_equal(run[:, :11], fit["activity_pred"][:, :11])  # a pulse does nothing before it begins
    some = np.isin(np.arange(18), [1, 4])
    silent = nl.simulate(fit, silence=some)["activity"]
    np.testing.assert_array_equal(nl.simulate(fit, factor=1.0 - some)["activity"], silent)
    both = nl.simulate(fit, silence=some, factor=f)["activity"]
    np.testing.assert_array_equal(nl.simulate(fit, factor=np.where(some, 0, f))["activity"], both)
    nothing = nl.simulate(fit, factor=np.ones((30, 18)), drive=np.zeros(18))["activity"]
    np.testing.assert_array_equal(nothing, fit["activity_pred"])


def test_other_inputs_and_starts(fitted):
    fit, _, activity = fitted
    pick = activity.isel(condition=[7, 0, 3])
    run = nl.simulate(fit, pick)
    np.testing.assert_allclose(run["activity"], fit["activity_pred"].values[[7, 0, 3]], atol=1e-6)
    assert list(run["condition"].values) == list(pick["condition"].values)
    longer = xr.DataArray(np.pad(fit["u"].values, ((0, 0), (0, 20), (0, 0)), "edge"), dims=fit["u"].dims)
    run = nl.simulate(fit, longer)
    assert run.sizes["time"] == 50
    assert "rate" not in run  # the time course that was taken out has no value there
    start = np.linspace(-1, 1, 18)
    before = fit.copy(deep=True)
    np.testing.assert_allclose(
        nl.simulate(fit, longer, initial=start)["activity"][:, 0], np.tile(start, (14, 1)), atol=1e-6
    )
    assert fit.identical(before)


def test_gauges_run_alike(fitted):
    fit, *_ = fitted
    mixing = np.array([[2.0, 0.3], [-0.5, 0.7]])
    turned = fit.copy(deep=True)
    turned["m"].values[:] = fit["m"].values @ mixing
    turned["n"].values[:] = fit["n"].values @ np.linalg.inv(mixing).T
    turned["latent"].values[:] = fit["latent"].values @ np.linalg.inv(mixing).T
    np.testing.assert_allclose(nl.simulate(turned)["activity"], fit["activity_pred"], atol=1e-5)
    back = nl.canonicalize(turned)
    for name in ("m", "n", "latent"):
        np.testing.assert_allclose(back[name], fit[name], atol=1e-4 * float(abs(fit[name]).max()))
    again = nl.canonicalize(back)
    for name in ("m", "n", "latent"):
        np.testing.assert_allclose(again[name], back[name], atol=1e-6 * float(abs(fit[name]).max()))


def test_permuted_neurons_run_permuted(fitted):
    fit, *_ = fitted
    order = np.random.default_rng(1).permutation(18)
    np.testing.assert_allclose(
        nl.simulate(fit.isel(neuron=order))["activity"], fit["activity_pred"].values[..., order], atol=1e-5
    )
    np.testing.assert_allclose(
        nl.simulate(fit.isel(condition=[3, 1]))["activity"], fit["activity_pred"].values[[3, 1]], atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"silence": ["nothing"]}, "neuron is called"),
        ({"silence": [18]}, "18"),
        ({"silence": np.ones(3, bool)}, "18 neurons"),
        ({"silence": np.zeros(3, bool)}, "18 neurons"),
        ({"silence": ["nothing"]}, "called 'nothing'"),
        ({"initial": np.zeros(3)}, "initial"),
        ({"factor": np.ones((18, 30))}, "factor has shape (18, 30)"),
        ({"drive": np.full(18, np.nan)}, "drive has shape (18,)"),
        ({"u": xr.Dataset()}, "inputs u"),
    ],
)
def test_errors_are_one_line(fitted, options, words):
    with pytest.raises(ContractError) as caught:
        nl.simulate(fitted[0], **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_inputs_without_dims_are_refused(fitted):
    with pytest.raises(ContractError, match=r"^u is a ndarray\. [^\n]*$"):
        nl.simulate(fitted[0], fitted[0]["u"].values)


def test_inputs_of_another_kind_are_refused(fitted):
    fit, *_ = fitted
    plain = xr.DataArray(fit["u"].values, dims=fit["u"].dims)
    for wrong in (plain.isel(input=[0]), plain.transpose("time", ...)):
        with pytest.raises(ContractError, match=r"^u has dims [^\n]*$"):
            nl.simulate(fit, wrong)
    with pytest.raises(ContractError, match=r"^[^\n]+$"):
        nl.simulate(fit.drop_vars("m"))


def test_the_fits_own_input_may_be_changed_and_given_back(fitted):
    """fit["u"] bears the name of its own dim, which xarray does not turn into a Dataset."""
    fit, *_ = fitted
    run = nl.simulate(fit, fit["u"] * 2)
    np.testing.assert_allclose(run["filtered_input"].values[:, 1], 0.4 * fit["u"].values[:, 0], rtol=1e-5)
