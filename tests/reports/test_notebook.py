"""Jupyter shows what a Dataset of ours is above what xarray shows, and never less than xarray does."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint import plot
from nwb_lint.contract.checks import kind_of
from nwb_lint.contract.results import RESULTS
from nwb_lint.reports.notebook import FIGURES, summary
from nwb_lint.testing import mock_activity, mock_recording, mock_trials


@pytest.fixture(scope="module")
def fit():
    return nl.fit_lint(mock_activity(n_neurons=30), rank=2, tau_s=0.1, method="regression", test_size=2)


@pytest.fixture(scope="module")
def datasets(fit):
    activity = mock_activity(n_neurons=30)
    return {
        "recording": mock_recording(),
        "activity": activity,
        "trials": mock_trials(),
        "fit": fit,
        "fixed_points": nl.fixed_points(fit),
        "connectivity": nl.connectivity(fit),
        "latents": nl.latents(fit, activity),
        "rank_selection": nl.select_rank(activity, ranks=(1, 2), tau_s=0.1, folds=2, method="regression"),
        "inactivation": nl.predict_inactivation(fit, {"first": [0, 1]}, controls=2),
        "comparison": nl.compare(fit, fit),
    }


KINDS = [
    "recording", "activity", "trials", "fit", "fixed_points", "connectivity", "latents", "rank_selection",
    "inactivation", "comparison",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_summary_says_what_a_dataset_is_and_what_may_follow(kind, datasets):
    text = summary(datasets[kind])
    assert text.startswith(f"nwb_lint: {kind.replace('_', ' ')}\n")
    calls = re.findall(r"nl\.([\w.]+)\(", text.partition("\nnext: ")[2])
    assert calls
    for call in calls:
        owner, _, name = call.rpartition(".")
        assert callable(getattr(plot if owner == "plot" else nl, name))


def test_scores_under_their_ceilings_and_warnings(datasets):
    fit = datasets["fit"].assign_attrs(caution="The fit is poor. Do not interpret it.")
    text = summary(fit)
    for name in ("r2", "r2_ceiling"):
        for value in fit[name].values:
            assert f"{value:.3f}" in text
    assert "\nwarning: The fit is poor." in text
    assert "warning: This is a prediction" in summary(datasets["inactivation"])
    assert "Line attractor: 1 where" in summary(datasets["fixed_points"])


def test_a_dataset_survives_operations_and_others_have_no_summary(fit):
    assert summary(fit.isel(neuron=slice(0, 10)).copy()).startswith("nwb_lint: fit")
    assert summary(fit.drop_attrs()).startswith("nwb_lint: fit")
    others = [xr.Dataset(), xr.Dataset({"rate": ("time", [1.0])}), fit[["m"]], fit.isel(split=0), fit.mean()]
    for other in [*others, xr.Dataset(attrs={"kind": "fixed_points"}), xr.Dataset(attrs={"kind": np.ones(3)})]:
        assert summary(other) == ""
    assert kind_of(xr.Dataset({"count": (("trial", "time", "neuron"), np.ones((1, 1, 1)))})) == "trials"


def test_every_figure_of_a_kind_exists():
    assert FIGURES.keys() <= RESULTS.keys()
    for name in FIGURES.values():
        assert callable(getattr(plot, name))


SHOWN = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
import nwb_lint as nl
print(json.dumps(sorted({"xarray", "torch", "matplotlib", "h5py"} & set(sys.modules))))
import xarray as xr
from nwb_lint.reports import reading
from nwb_lint.testing import mock_fit
evil = "<script>alert(1)</script>" + chr(27) + "[2J"
fit = mock_fit().assign_attrs(caution=evil)
def show(dataset):
    found = shell.display_formatter.format(dataset)[0]
    print(json.dumps([found["text/html"], dataset._repr_html_(), found["text/plain"], repr(dataset)]))
show(fit)
show(xr.Dataset({"a": 1}))
reading.title_of = None  # a fault in the summary
show(fit)
"""


def test_ipython_shows_both_and_escapes_texts_of_files():
    done = subprocess.run([sys.executable, "-c", SHOWN], capture_output=True, text=True, check=True)
    heavy, fit, other, broken = map(json.loads, done.stdout.splitlines())
    assert heavy == []
    html, own_html, plain, own_plain = fit
    id_free = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")
    start, _, rest = html.partition("</pre>\n")
    assert id_free.sub("", rest) == id_free.sub("", own_html)
    assert "nwb_lint: fit" in start
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u001b[2J" in start
    assert "<script" not in start
    assert "\x1b" not in start
    assert plain.startswith("nwb_lint: fit\n")
    assert "\x1b" not in plain[: -len(own_plain)]
    assert plain.endswith(own_plain)
    for html, own_html, plain, own_plain in (other, broken):
        assert id_free.sub("", html) == id_free.sub("", own_html)
        assert plain == own_plain
