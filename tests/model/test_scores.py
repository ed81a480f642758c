"""R² and its ceiling against what they stand for."""

import numpy as np
import pytest

from nwb_lint.model.scores import ceiling, noise_power, r_squared, reference_of, squared_errors


def test_r2_is_its_formula_with_unseen_samples_left_out():
    rng = np.random.default_rng(0)
    y, guess = rng.standard_normal((2, 6, 8, 4))
    y[rng.random(y.shape) < 0.2] = np.nan
    reference = reference_of(y, np.arange(6) < 4)
    np.testing.assert_allclose(reference, np.nanmean(y[:4], axis=(0, 1)))
    total, each = r_squared(y, guess, reference)
    assert total == pytest.approx(1 - np.nansum((y - guess) ** 2) / np.nansum((y - reference) ** 2))
    error, power = (np.nansum(e**2, axis=(0, 1)) for e in (y - guess, y - reference))
    np.testing.assert_allclose(each, 1 - error / power)
    np.testing.assert_allclose(squared_errors(y, guess), np.nansum((y - guess) ** 2, axis=(1, 2)))
    assert r_squared(y, guess, reference, np.array([1, 4]))[0] == pytest.approx(
        r_squared(y[[1, 4]], guess[[1, 4]], reference)[0]
    )


def test_r2_of_the_data_is_1_and_of_the_reference_0():
    y = np.random.default_rng(1).standard_normal((5, 6, 3))
    reference = reference_of(y, np.ones(5, bool))
    assert r_squared(y, y, reference)[0] == 1
    assert r_squared(y, np.broadcast_to(reference, y.shape), reference)[0] == pytest.approx(0, abs=1e-12)


def test_a_diverged_prediction_is_no_good_score():
    y = np.random.default_rng(2).standard_normal((3, 4, 2))
    guess = y.copy()
    guess[1, 2, 0] = np.nan
    assert np.isnan(squared_errors(y, guess)[1])
    assert not r_squared(y, guess, np.zeros(2))[0] <= 1


def test_nothing_varies_nothing_is_explained():
    y = np.ones((3, 4, 2))
    assert np.isnan(r_squared(y, y, np.ones(2))[0])
    assert np.isnan(ceiling(y, noise_power(np.stack([y, y]), np.ones((2, 3, 2))), np.ones(2)))


@pytest.mark.parametrize("sd", [0.5, 2.0, 5.0])
def test_ceiling_is_the_r2_of_the_true_mean(sd):
    """Poisson-like trial numbers, different in every cell and half, some unseen; averaged over 20 recordings."""
    rng = np.random.default_rng(3)
    truth = np.cumsum(rng.standard_normal((12, 20, 15)), axis=1) / 3
    counts = rng.integers(1, 12, (2, 12, 15))
    counts[0, 3, :4] = 0
    tops, scores = [], []
    for _ in range(20):
        with np.errstate(divide="ignore", invalid="ignore"):
            noise = sd * rng.standard_normal((2, *truth.shape)) / np.sqrt(counts[:, :, None])
            halves = np.where(counts[:, :, None] > 0, truth + noise, np.nan)
        weights = np.where(counts[:, :, None] > 0, counts[:, :, None], 0)
        whole = np.nansum(halves * weights, axis=0) / weights.sum(axis=0)
        reference = reference_of(whole, np.ones(12, bool))
        tops.append(ceiling(whole, noise_power(halves, counts), reference))
        both = np.where(np.isfinite(halves).all(axis=0), whole, np.nan)
        scores.append(r_squared(both, truth, reference)[0])
    assert np.mean(tops) == pytest.approx(np.mean(scores), abs=0.01)
    assert np.mean(scores) < 0.999


@pytest.mark.parametrize("times", [5, 50_000, 150_000], ids=["one block", "two blocks", "a block each"])
def test_blocks_of_conditions_give_what_one_sum_gives(times):
    """With gaps in one of them, conditions in any order, and hidden neurons at the end of the prediction."""
    rng = np.random.default_rng(0)
    y, prediction = rng.standard_normal((9, times, 4)), rng.standard_normal((9, times, 6))
    y[2, 3:, 1] = np.nan
    chosen = np.array([7, 2, 3, 4, 0])
    reference = reference_of(y, np.isin(np.arange(9), chosen))
    np.testing.assert_allclose(reference, np.nanmean(y[chosen], axis=(0, 1)))
    total, each = r_squared(y, prediction, reference, chosen)
    error, power = ((y[chosen] - other) ** 2 for other in (prediction[chosen, :, :4], reference))
    np.testing.assert_allclose(each, 1 - np.nansum(error, axis=(0, 1)) / np.nansum(power, axis=(0, 1)))
    assert total == pytest.approx(1 - np.nansum(error) / np.nansum(power))


def test_of_no_conditions_there_is_no_r2():
    total, each = r_squared(np.zeros((0, 5, 4)), np.zeros((0, 5, 4)), np.zeros(4))
    assert np.isnan(total)
    assert np.isnan(each).all()
