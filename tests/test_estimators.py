"""The estimators pass scikit-learn's own checks, and give what the functions of this package give."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_activity, mock_recording
from tests.factories import assert_same


class OneBin(nl.LowRankEncoder):
    """The encoder for rates that are the same in 10 bins, of which the last is predicted.

    The checks of scikit-learn pass one number for each sample. The encoder itself refuses them: dynamics need two bins
    or more.
    """

    def fit(self, X, y):
        if y is None:
            return super().fit(X, y)
        self.flat_y_ = np.asarray(y).ndim == 1
        return super().fit(X, self.repeated(y))

    def predict(self, X):
        last = super().predict(X)[:, -1]
        return last[:, 0] if self.flat_y_ else last

    def score(self, X, y):
        return super().score(X, self.repeated(y))

    @staticmethod
    def repeated(y):
        y = np.asarray(y)
        return np.repeat(y[:, None] if y.ndim > 1 else y[:, None, None], 10, axis=1)


def by_rounding(estimator):
    """Checks that fail for some orders of samples: the last digit of a run, float32, depends on the place of a row."""
    names = ("check_methods_sample_order_invariance", "check_methods_subset_invariance")
    return dict.fromkeys(names, "runs are equal up to rounding") if isinstance(estimator, OneBin) else {}


# All checks apply to the decoder, which takes the columns of a sample for the bins of one neuron, and to the encoder
# with 10 bins for each number. `check_array_api_input` is skipped by scikit-learn unless SCIPY_ARRAY_API is set: the
# fit computes with numpy and torch, and not with the array type of its input.
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [nl.LowRankDecoder(method="regression"), OneBin(method="regression", tau_s=0.02)],
    expected_failed_checks=by_rounding,
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


HOW = {"rank": 1, "dt_s": 0.02, "tau_s": 0.1, "method": "regression"}


@pytest.fixture(scope="module")
def data():
    """Inputs and rates of 16 conditions of a network of rank 1."""
    activity, recording = (make(n_conditions=16) for make in (mock_activity, mock_recording))
    return activity["u"].values.astype(float), recording["rate"].values.astype(float)


TRAIN, TEST = np.arange(0, 16, 2), np.arange(1, 16, 2)


def test_an_encoder_is_the_fit_of_the_same_conditions(data):
    u, rates = data
    encoder = nl.LowRankEncoder(**HOW).fit(u[TRAIN], rates[TRAIN])
    conditions = {"stimulus": np.arange(16.0)}
    recording = nl.from_arrays(rate=rates, time=0.02 * np.arange(rates.shape[1]), conditions=conditions)
    inputs = [nl.Input("input 0", column="stimulus")]
    activity = nl.prepare(recording, inputs=inputs, fit_on=TRAIN)
    activity = activity.assign(u=(activity["u"].dims, u.astype(np.float32)))
    fit = nl.fit_lint(activity, rank=1, tau_s=0.1, method="regression")
    for name in ("m", "n", "input_weights"):
        np.testing.assert_allclose(encoder.fit_[name], fit[name], rtol=1e-4, atol=1e-6)
    assert encoder.score(u[TEST], rates[TEST]) == pytest.approx(float(fit["r2"].sel(split="held_out")), abs=1e-4)
    predicted = nl.simulate(fit)["rate"].values
    np.testing.assert_allclose(encoder.predict(u), predicted, rtol=1e-3, atol=1e-3)


def test_the_order_and_number_of_samples_do_not_matter(data):
    u, rates = data
    encoder = nl.LowRankEncoder(**HOW).fit(u, rates)
    predicted, order = encoder.predict(u), np.random.default_rng(0).permutation(16)
    np.testing.assert_allclose(encoder.predict(u[order]), predicted[order], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(encoder.predict(u[:1]), predicted[:1], rtol=1e-5, atol=1e-5)


def test_two_dims_are_the_last_two_as_one(data):
    u, rates = data
    whole = nl.LowRankEncoder(**HOW).fit(u, rates)
    flat = nl.LowRankEncoder(n_neurons=rates.shape[2], **HOW).fit(u, rates.reshape(16, -1))
    np.testing.assert_array_equal(whole.predict(u).reshape(16, -1), flat.predict(u))
    assert flat.score(u, rates.reshape(16, -1)) == whole.score(u, rates)
    decoder = nl.LowRankDecoder(n_neurons=rates.shape[2], **HOW).fit(rates.reshape(16, -1), u)
    of_cube = nl.LowRankDecoder(**HOW).fit(rates, u)
    np.testing.assert_array_equal(decoder.transform(rates.reshape(16, -1)), of_cube.transform(rates))


def test_a_decoder_finds_the_latents_of_a_run(data):
    """The latents of predicted rates are those of the network that predicted them."""
    u, rates = data
    encoder = nl.LowRankEncoder(**HOW).fit(u, rates)
    decoder = nl.LowRankDecoder(**HOW).fit(rates, u)
    assert_same(decoder.fit_.drop_attrs(), encoder.fit_.drop_attrs())
    latent = nl.simulate(encoder.fit_)["latent"].values
    np.testing.assert_allclose(decoder.transform(encoder.predict(u)), latent.reshape(16, -1), atol=1e-3)
    assert decoder.score(rates, u) == pytest.approx(encoder.score(u, rates))
    assert decoder.score(rates) >= decoder.score(rates, u)


def test_amplitudes_are_inputs_that_do_not_change(data):
    _, rates = data
    level = np.linspace(-1, 1, 16)
    of_level = nl.LowRankDecoder(**HOW).fit(rates, level)
    of_course = nl.LowRankDecoder(**HOW).fit(rates, np.repeat(level[:, None, None], rates.shape[1], axis=1))
    assert_same(of_level.fit_, of_course.fit_)


@pytest.mark.parametrize("n_components", [None, 3])
def test_the_fit_can_be_analyzed_and_written(data, tmp_path, n_components):
    u, rates = data
    fit = nl.LowRankEncoder(n_components=n_components, time_course=True, **HOW).fit(u, rates).fit_
    subject = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
    assert_same(nl.read_fit(nl.write_fit(fit, tmp_path / "fit.nwb", subject=subject)), fit)
    assert nl.fixed_points(fit, n_starts=10).sizes["fixed_point"] > 0


def test_rank_is_chosen_by_a_grid_search(data):
    """A network of rank 2 needs rank 2."""
    rng = np.random.default_rng(0)
    amplitudes = rng.uniform(-1, 1, (18, 2))
    n = 30
    m, weights = rng.normal(size=(2, n, 2))
    true = 1.6 * m @ np.linalg.inv(m.T @ m / n)
    x, out = np.zeros((18, n)), []
    for _ in range(30):
        out.append(x)
        x = 0.8 * x + 0.2 * (np.tanh(x) @ true @ m.T / n + amplitudes @ weights.T)
    rates = 20 + 5 * np.stack(out, axis=1) + rng.normal(0, 0.5, (18, 30, n))
    encoder = nl.LowRankEncoder(time_course=False, **HOW)
    search = GridSearchCV(encoder, {"rank": [1, 2]}, cv=3).fit(amplitudes, rates)
    assert search.best_params_ == {"rank": 2}
    assert search.best_score_ > 0.8


def test_a_label_is_decoded_from_latents(data):
    """The sign of the stimulus, of which the weakest ones are near 0, beside labels that mean nothing."""
    u, rates = data
    side = np.where(u[:, -1, 0] > 0, "right", "left")
    latents = nl.LowRankDecoder(**HOW).fit(rates, side).transform(rates)
    assert np.abs(latents).max() < 100  # m and both input weights are parallel but for rounding
    pipeline = make_pipeline(nl.LowRankDecoder(**HOW), LogisticRegression())
    assert cross_val_score(pipeline, rates, side, cv=4).mean() > 0.8
    shuffled = [np.random.default_rng(seed).permutation(side) for seed in range(3)]
    assert np.mean([cross_val_score(pipeline, rates, one, cv=4).mean() for one in shuffled]) < 0.6


def test_columns_have_names(data):
    _, rates = data
    frame = nl.LowRankDecoder(**HOW).set_output(transform="pandas").fit_transform(rates)
    assert list(frame.columns[:2]) == ["latent0_bin0", "latent0_bin1"]
    assert frame.shape == (16, rates.shape[1])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda u, rates: nl.LowRankEncoder(**HOW).fit(u, rates[:, :1]), "single bin"),
        (lambda u, rates: nl.LowRankEncoder(**HOW).fit(u, rates[:5]), "16 and 5 samples"),
        (lambda u, rates: nl.LowRankEncoder(n_neurons=7, **HOW).fit(u, rates.reshape(16, -1)), "n_neurons=7"),
        (lambda u, rates: nl.LowRankEncoder(n_neurons=7, **HOW).fit(u, rates), "has 12 neurons"),
        (lambda u, rates: nl.LowRankEncoder(**HOW).fit(u, None), "requires y"),
        (lambda u, rates: nl.LowRankEncoder(**HOW).fit(u, rates).predict(u[:, :, [0, 0]]), "2 inputs. The fit"),
        (lambda u, rates: nl.LowRankDecoder(**HOW).fit(rates, u).transform(rates[:, :, 1:]), "11 neurons. The fit"),
        (lambda u, rates: nl.LowRankDecoder(**HOW | {"rank": 0}).fit(rates, u), "rank is 0"),
        (lambda u, rates: nl.LowRankEncoder(**HOW).fit(u[:, :30], rates), "there are 40 bins"),
        (lambda u, rates: nl.LowRankEncoder(**HOW).fit(u[..., None], rates), "The inputs have shape"),
        (lambda u, rates: nl.LowRankEncoder(**HOW).fit(u, rates).score(u, rates[:, :, 1:]), "11 neurons. The fit"),
        (lambda u, rates: nl.LowRankEncoder(fit_options={"rank": 2}, **HOW).fit(u, rates), "Pass it as rank="),
        (lambda u, rates: nl.LowRankEncoder(fit_options={"ranks": 2}, **HOW).fit(u, rates), "has ranks. It needs"),
        (lambda u, rates: nl.LowRankEncoder(fit_options=[2], **HOW).fit(u, rates), "fit_options is a list"),
    ],
)
def test_what_does_not_suit_is_named(data, call, words):
    with pytest.raises(ContractError, match=words):
        call(*data)
