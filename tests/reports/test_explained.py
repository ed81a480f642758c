"""Every number that a table of a report or a command prints is explained where it is printed."""

from __future__ import annotations

import re

import pytest

import nwb_lint as nl
from nwb_lint.reports import analyses, scores
from nwb_lint.reports.comparison import of_comparison
from nwb_lint.reports.items import Table, as_text
from nwb_lint.testing import mock_activity, mock_fit, mock_recording, mock_trials

# What a table or a sentence says, and a word that its explanation has.
EXPLANATIONS = {
    r"R²|R2": "share of the variance", "ceiling": "true means would reach", "bits per spike": "mean rate",
    r"s\.e": "standard error", "sd": "standard deviation", "kurtosis": "Gaussian weights", "p": "how often",
    "Pearson": "1 is the same", "cosine": "1 is the same", "disparity": "0 is the same", "angles": "0 is the same",
    "spread": "relative to their mean", "corrected": "without the bias", "interval": "holds", "gain": "slope",
    "by chance": "95th percentile", "BIC": "lower", "effect": "root mean squares",
    "control": "random groups", "accuracy": "share of", "line attractor": "1 where", "slowest": "real part",
    "starts": "search", "distance": "standard deviations", "near marginal": "too short", "n ·|n·m": "drives",
    "Norm of n": "Far above 1", "evidence": "higher is better",
}  # fmt: skip


@pytest.fixture(scope="module")
def fit():
    return nl.fit_lint(mock_activity(n_neurons=30), rank=1, tau_s=0.1, method="regression", test_size=2)


def prepared(recording):
    return nl.prepare(recording, inputs=[nl.Input("stimulus", column="stimulus", window_s=(0, 1))])


@pytest.fixture(scope="module")
def printed(fit):
    """What commands print, by name."""
    activity, how = mock_activity(n_neurons=30), {"rank": 1, "tau_s": 0.1, "method": "regression"}
    trials = nl.fit_trials(mock_trials(), rank=1, tau_s=0.1, hidden=0, max_iter=2, test_size=4)
    readout = nl.fit_readout(activity.assign_coords(side=activity["stimulus"] > 0), "side", folds=2)
    points, recording = nl.fixed_points(fit), mock_recording(draws=3)
    resampled = nl.fit_lint(prepared(recording), **how)
    return {
        "fit": scores.of_fit(fit),
        "fit of trials": scores.of_fit(trials),
        "ranks": scores.of_table(nl.select_rank(activity, ranks=(1, 2), tau_s=0.1, folds=2, method="regression")),
        "baselines": scores.of_table(nl.baselines(activity, folds=2, **how)),
        "ensemble": scores.of_table(nl.ensemble(activity, members=2, **how)),
        "bootstrap": scores.of_table(nl.bootstrap(resampled, recording, prepare=prepared, simulations=3)),
        "fixed points": [*analyses.of_analysis(points), *analyses.EXPLAINED],
        "populations": analyses.of_analysis(nl.find_populations(fit, seed=0)),
        "connectivity": [*analyses.of_analysis(nl.connectivity(fit)), *analyses.of_weights(fit)],
        "readout": analyses.of_analysis(readout),
        "readout of numbers": analyses.of_analysis(nl.fit_readout(activity, "stimulus", folds=2)),
        "inactivation": analyses.of_analysis(nl.predict_inactivation(fit, {"a": [0, 1]}, controls=2, reference=fit)),
        "comparison": of_comparison(nl.compare(fit, fit)),
    }


def test_every_number_is_explained_where_it_is_printed(printed):
    seen = set()
    for name, items in printed.items():
        text = " ".join(as_text(items).split())
        said = " ".join([*(note for one in items if isinstance(one, Table) for note in one.notes), *map(str, items)])
        for what, explained in EXPLANATIONS.items():
            if re.search(rf"\b({what})\b" if what[0].isalpha() else what, text, re.IGNORECASE):
                assert explained.lower() in said.lower(), (name, what)
                seen.add(what)
    assert seen == EXPLANATIONS.keys()


def test_no_table_of_measures_lacks_a_note(printed):
    """Tables that only list options or files have texts, or names and values, and nothing to explain."""
    for name, items in printed.items():
        for one in items:
            if isinstance(one, Table) and one.title != "what was done differently" and "points" not in name:
                assert one.notes, (name, one.title)


def test_explanations_fit_a_terminal(printed):
    for items in printed.values():
        notes = as_text([Table("", [], [], one.notes) for one in items if isinstance(one, Table)])
        assert all(len(line) <= 110 for line in notes.splitlines())


def test_a_report_explains_too():
    text = " ".join(str(nl.report(mock_fit(), analyze=False)).split())
    assert "share of the variance" in text
    assert "true means would reach" in text
