"""The report of a fit: it says what the fit says, needs no other file, and shows no text of a file unescaped."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import nwb_lint as nl
from nwb_lint import cli
from nwb_lint.errors import ContractError
from nwb_lint.reports.items import Picture, Table, as_text
from nwb_lint.testing import mock_activity, mock_fit, mock_recording, mock_trials

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def fits():
    """A fit of every kind: of means, unconstrained, of single trials, without inputs."""
    activity = mock_activity(n_neurons=30)
    how = {"tau_s": 0.1, "method": "regression"}
    return {
        "means": nl.fit_lint(activity, rank=2, test_size=2, **how),
        "unconstrained": nl.fit_lint(activity, rank=None, **how),
        "trials": nl.fit_trials(mock_trials(), rank=1, tau_s=0.1, hidden=0, max_iter=2, test_size=4),
        "no inputs": nl.fit_trials(
            mock_trials().drop_dims("input", errors="ignore"), rank=2, tau_s=0.1, hidden=0, max_iter=2
        ),
    }


@pytest.fixture(scope="module")
def reports(fits):
    return {kind: nl.report(fit) for kind, fit in fits.items()}


def run(*args):
    return CliRunner().invoke(cli.app, [str(arg) for arg in args])


class Tags(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data + "\n"


KINDS = ["means", "unconstrained", "trials", "no inputs"]


@pytest.mark.parametrize("kind", KINDS)
def test_page_and_text_say_the_same(reports, kind):
    text, page = str(reports[kind]), Tags(reports[kind].html)
    words = set(re.findall(r"\d+\.\d{3}", text))
    assert words
    assert words <= set(re.findall(r"\d+\.\d{3}", page.text))
    for section in reports[kind].sections:
        assert section.title in page.text


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_needs_no_other_file(reports, kind):
    page = Tags(reports[kind].html)
    addresses = [value for _, attrs in page.tags for key, value in attrs.items() if key in ("src", "href")]
    assert all(address.startswith(("#", "data:image/svg+xml;base64,")) for address in addresses)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert all(attrs["alt"] for tag, attrs in page.tags if tag == "img")
    inside = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {address[1:] for address in addresses if address.startswith("#")} <= inside


def test_scores_are_those_of_the_fit(fits, reports):
    fit, text = fits["means"], str(reports["means"])
    for name in ("r2", "r2_ceiling", "r2_median"):
        for value in fit[name].values:
            assert np.isnan(value) or f"{value:.3f}" in text
    assert f"{float(fits['trials']['bits_per_spike'][1]):.3f} bits per spike" in str(reports["trials"])


def test_a_verdict_follows_the_score():
    fit = nl.fit_lint(mock_activity(), rank=1, tau_s=0.1, method="regression", test_size=2)
    words = {0.97: "as good as the data can tell", 0.8: "close to", 0.5: "not explained", 0.2: "Do not interpret"}
    for r2, phrase in words.items():
        scored = fit.assign(r2=("split", [1.0, r2]), r2_ceiling=("split", [1.0, 1.0]))
        assert phrase in str(nl.report(scored, analyze=False)), r2
    assert "no better than a constant" in str(nl.report(fit.assign(r2=("split", [1.0, -0.1])), analyze=False))
    assert "No condition was held out" in str(nl.report(mock_fit(), analyze=False))


def test_cautions_stand_first_and_results_are_shown():
    fit = mock_fit(n_neurons=30)
    silenced = nl.predict_inactivation(fit, {"first": [0, 1, 2]}, controls=3)
    points = nl.fixed_points(fit, input={"stimulus": 1.0})
    fit = fit.assign_attrs(caution="The fit is poor. Do not interpret it.")
    made = nl.report(fit, {"silenced": silenced, "rest": points}, analyze=False)
    titles = [section.title for section in made.sections]
    assert titles.index("Warnings") == 1
    text = str(made)
    assert "The fit is poor" in text
    assert str(silenced.attrs["caution"])[:40] in " ".join(text.split())
    assert f"{float(silenced['effect'][0]):.3f}" in text
    assert f"{float(points['kappa'][0, 0]):.3f}" in text
    assert "Fixed points were not computed" in str(nl.report(fit, analyze=False))


def test_texts_of_files_are_escaped():
    """A name that is a tag stays a text, and no control character passes."""
    bad = "<script>alert(1)</script>\x1b[2J$x_{$"
    fit = mock_fit(n_neurons=30)
    fit = fit.assign_coords(input=[bad]).assign_attrs(align=bad, recipe=bad, caution=bad)
    for page in (nl.report(fit).html, nl.report(fit)._repr_html_()):
        assert "<script" not in page
        assert "\x1b" not in page
    assert bad.split("\x1b")[0] in Tags(nl.report(fit).html).text


def test_a_page_replaces_pages_of_its_own_only(tmp_path):
    made = nl.report(mock_fit(), analyze=False)
    path = made.save(tmp_path / "fit.html")
    assert made.save(path).read_text() == made.html
    path.write_text("a page of somebody else")
    with pytest.raises(ContractError, match="did not"):
        made.save(path)
    with pytest.raises(ContractError, match=r"\.html"):
        made.save(tmp_path / "fit.pdf")
    with pytest.raises(ContractError, match="no such folder"):
        made.save(tmp_path / "none" / "fit.html")
    assert path.read_text() == "a page of somebody else"


def test_the_same_fit_gives_the_same_page():
    assert nl.report(mock_fit(), analyze=False).html == nl.report(mock_fit(), analyze=False).html


def test_what_is_no_fit_is_refused():
    with pytest.raises(ContractError):
        nl.report(mock_activity())
    with pytest.raises(ContractError, match=r"results is a str.*save"):
        nl.report(mock_fit(), "page.html")
    with pytest.raises(ContractError, match="kind"):
        nl.report(mock_fit(), {"x": mock_fit()})


def test_tables_cut_no_cell():
    path = "/data/" + "long" * 60 + ".nwb"
    assert path in as_text([Table("files", ["file", "units"], [[path, "3"], ["b", "120"]])])


def test_commands_write_show_and_compare(tmp_path):
    subject = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
    fit = nl.write_fit(mock_fit(n_neurons=30), tmp_path / "fit.nwb", subject=subject)
    nl.write_result(nl.fixed_points(nl.read_fit(fit)), fit, name="rest")
    done = run("report", fit, "--no-analyze")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "fit.html").read_text()
    assert page == nl.report(nl.read_fit(fit), nl.read_results(fit), analyze=False).html
    shown = run("show", fit, "--no-analyze")
    assert shown.stdout.strip() == str(nl.report(nl.read_fit(fit), nl.read_results(fit), analyze=False)).strip()
    assert "fixed points" in shown.stdout
    same = run("compare", fit, fit)
    assert same.exit_code == 0, same.output
    assert "All options are the same." in same.stdout
    assert run("report", fit, "-o", tmp_path / "fit.nwb").exit_code == 2
    assert run("report", tmp_path / "none.nwb").exit_code == 1


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: the page is not opened in a browser")
@pytest.mark.parametrize("interactive", [False, True])
def test_the_page_has_no_serious_fault_for_readers_with_disabilities(reports, tmp_path, interactive):
    """axe-core in headless Chromium: contrast, alternative texts, keyboard; at two widths, light and dark."""
    axe_core_python = pytest.importorskip("axe_core_python")
    axe = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    check = (
        "axe.run().then(found => { const out = document.createElement('pre'); out.id = 'axe';"
        "out.textContent = JSON.stringify({width: innerWidth, wide: document.body.scrollWidth, "
        "faults: found.violations.map(one => [one.id, one.impact, one.nodes.length])});"
        "document.body.replaceChildren(out); });"
    )
    if interactive:
        pytest.importorskip("plotly")
    before, end, after = replace(reports["means"], interactive=interactive).html.rpartition("</body>")
    page = f"{before}<script>{axe}\n{check}</script>{end}{after}"
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    for width, extra in ((1200, []), (500, ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"])):
        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", f"--window-size={width},900",
            f"--user-data-dir={tmp_path / str(width)}", *extra, "--virtual-time-budget=20000",
            "--dump-dom", path.as_uri(),
        ]  # fmt: skip
        dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        found = json.loads(re.search(r'<pre id="axe">(.*?)</pre>', dom, re.DOTALL)[1])
        assert not [one for one in found["faults"] if one[1] in ("serious", "critical")], found
        assert found["wide"] <= found["width"], "the page is wider than the window"


@pytest.mark.filterwarnings("ignore:Input late acts")  # the data know no such input
def test_a_report_says_how_inputs_were_made():
    recording = mock_recording()
    inputs = [
        nl.Input("stimulus", column="stimulus", window_s=(0, 0.4)),
        nl.Input("late", column="stimulus", window_s=[(0, 0.2), (0.2, 0.5)], weights=[1, 2], lag_s=0.1),
    ]
    activity = nl.prepare(recording, inputs=inputs)
    fit = nl.fit_lint(activity, rank=1, tau_s=0.1, method="regression", test_size=0)
    made = nl.report(fit, analyze=False)
    (items,) = [section.items for section in made.sections if section.title == "Inputs"]
    assert [row[0] for row in items[0].rows] == ["stimulus", "late"]
    assert [row[:1] for row in items[1].rows] == [["late"]]
    assert "lag_s = 0.1" in items[1].rows[0][1]
    assert isinstance(items[2], Picture)
    assert "weights = [1.0, 2.0]" in str(made)
