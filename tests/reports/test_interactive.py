"""Interactive figures of a report hold the numbers of the printed ones, name what they show, and need no other file."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from click.testing import CliRunner

import nwb_lint as nl
from nwb_lint import cli, plot
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_activity, mock_fit
from tests.reports.test_report import Tags

pytest.importorskip("plotly")
interactive = pytest.importorskip("nwb_lint.plot.interactive")


@pytest.fixture(scope="module", params=[1, 2, 3])
def fit(request):
    return nl.fit_lint(mock_activity(n_neurons=30), rank=request.param, tau_s=0.1, method="regression")


@pytest.fixture(scope="module")
def made():
    return nl.report(mock_fit(n_neurons=30), interactive=True)


def test_runs_are_those_of_the_printed_figure(fit):
    printed = [line for line in plot.trajectories(fit, panel_by=None).lines if len(line.get_xdata()) > 1]
    runs = [trace for trace in interactive.trajectories(fit).data if trace.showlegend is False]
    for run, line, label in zip(runs, printed, fit["condition"].values.astype(str), strict=True):
        np.testing.assert_allclose(np.c_[run.x, run.y], line.get_xydata(), atol=1e-6)
        assert (run.line.color, run.name) == (line.get_color(), label)
        np.testing.assert_array_equal(run.customdata, fit["time"])
    if fit.sizes["rank"] == 3:
        np.testing.assert_allclose(runs[2].z, fit["latent"][2, :, 2], atol=1e-6)


def test_a_flow_has_its_field_its_points_and_the_runs_with_its_input(fit):
    label, rank = str(fit["condition"].values[1]), fit.sizes["rank"]
    field, points = nl.flow_field(fit, condition=label), nl.fixed_points(fit, condition=label)
    figure = interactive.flow(field, points, fit)
    assert [trace.name for trace in figure.data if trace.showlegend is False] == [label]
    marks = [trace for trace in figure.data if getattr(trace, "mode", "") == "markers"]
    assert sum(len(trace.x) for trace in marks) == points.sizes["fixed_point"]
    found = np.sort(np.concatenate([trace.x for trace in marks]))
    np.testing.assert_allclose(found, np.sort(points["kappa"].values[:, 0]))
    if rank == 1:
        np.testing.assert_allclose(figure.data[0].y, field["velocity"].values[:, 0])
    if rank == 2:
        at = np.unravel_index(np.argmax(figure.data[0].z), figure.data[0].z.shape)
        fastest = field["kappa"].values[int(field["speed"].values.argmax())]
        np.testing.assert_allclose([figure.data[0].x[at[1]], figure.data[0].y[at[0]]], fastest)
        low, high = np.reshape(field.attrs["extent"], (2, 2)).T
        lines = np.c_[figure.data[1].x, figure.data[1].y]
        assert ((lines >= low - 0.05 * (high - low)) | np.isnan(lines)).all()
    if rank == 3:
        arrows = figure.data[0]
        at = {
            tuple(point): velocity
            for point, velocity in zip(field["kappa"].values, field["velocity"].values, strict=True)
        }
        for point, arrow in zip(np.c_[arrows.x, arrows.y, arrows.z], np.c_[arrows.u, arrows.v, arrows.w], strict=True):
            np.testing.assert_array_equal(at[tuple(point)], arrow)
    other = interactive.flow(nl.flow_field(fit, input={"stimulus": 12.3}), None, fit)
    assert sum(trace.showlegend is False for trace in other.data) == fit.sizes["condition"]


def test_limit_cycles_are_closed():
    cycles = nl.limit_cycles(mock_fit())
    orbit = np.stack([np.cos(np.linspace(0, 5, 20)), np.sin(np.linspace(0, 5, 20))], axis=1)
    two = nl.fit_lint(mock_activity(), rank=2, tau_s=0.1, method="regression")
    cycles = cycles.assign(
        kappa=(("cycle", "phase", "rank"), np.stack([orbit, 2 * orbit])), stability=("cycle", ["stable", "unstable"]),
        period_s=("cycle", [0.5, 0.7]), supported=("cycle", [True, False]),
    ).assign_attrs(n_cycles=2)  # fmt: skip
    field = nl.flow_field(two, n_points=6)
    lines = {trace.name: trace for trace in interactive.flow(field, cycles=cycles).data if "cycle" in str(trace.name)}
    printed = {line.get_label(): line for line in plot.flow(field, cycles=cycles).lines if "cycle" in line.get_label()}
    assert list(lines) == list(printed) == ["stable cycle, 0.5 s", "unstable cycle, 0.7 s, not supported"]
    for name, line in lines.items():
        np.testing.assert_array_equal(np.c_[line.x, line.y], printed[name].get_xydata())
        assert line.line.color == printed[name].get_color()


def test_connectivity_is_that_of_the_printed_figures(fit):
    dots = plot.connectivity_vectors(fit).collections
    for trace, printed in zip(interactive.connectivity_vectors(fit).data, dots, strict=True):
        np.testing.assert_allclose(np.c_[trace.x, trace.y], printed.get_offsets())
        assert list(trace.text) == fit["neuron"].values.astype(str).tolist()
    image = interactive.effective_connectivity(fit).data[0]
    np.testing.assert_allclose(image.z, plot.effective_connectivity(fit).images[0].get_array(), rtol=1e-6)
    names = {name: k for k, name in enumerate(fit["neuron"].values.astype(str))}
    order = [names[name] for name in image.x]
    np.testing.assert_allclose(image.z, nl.connectivity(fit)["connectivity"].values[np.ix_(order, order)], rtol=1e-6)
    assert image.x == image.y


def test_names_of_many_neurons_take_little_of_the_page():
    fit = mock_fit(n_neurons=100)
    names = [f"{'a long name ' * 5}{k}" for k in range(100)]
    long = interactive.to_div(interactive.effective_connectivity(fit.assign_coords(neuron=names)), "long")
    assert len(long) - len(interactive.to_div(interactive.effective_connectivity(fit), "short")) < 4 * len(
        "".join(names)
    )


def test_an_interactive_page_needs_no_other_file_and_holds_its_program_once(made):
    page = made.html
    tags = Tags(page).tags
    addresses = [value for _, attrs in tags for key, value in attrs.items() if key in ("src", "href")]
    assert all(address.startswith(("#", "data:image/svg+xml;base64,")) for address in addresses)
    assert page.count(interactive.script()) == 1
    shown = [attrs["aria-label"] for tag, attrs in tags if tag == "div" and attrs.get("role") == "group"]
    assert len(shown) == page.count("Plotly.newPlot(") - interactive.script().count("Plotly.newPlot(")
    assert [sum(word in one for one in shown) for word in ("trajectories", "Flow", "effective n", "Effective")] == [
        1,
        4,
        1,
        1,
    ]
    inside = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(inside) == len(set(inside))
    assert page == nl.report(mock_fit(n_neurons=30), interactive=True).html
    assert page.count("<noscript>") - interactive.script().count("<noscript>") == len(shown)


def test_pages_and_texts_of_other_reports_stay_as_they_are(made):
    plain = nl.report(mock_fit(n_neurons=30))
    assert str(made) == str(plain)
    assert replace(made, interactive=False).html == plain.html
    assert "<script" not in plain.html


def test_texts_of_files_are_escaped_twice():
    """No name ends the script that holds it, and none is a mark of HTML that plotly obeys."""
    bad = "</script><script>alert(1)</script><img src=x onerror=alert(1)><a href='javascript:alert(1)'>\x1b"
    fit = mock_fit(n_neurons=30)
    names, labels = [bad, *fit["neuron"].values[1:]], [bad, *fit["condition"].values[1:]]
    column = ("condition", [bad] * len(labels))
    fit = fit.assign_coords({"input": [bad], "neuron": names, "condition": labels, bad: column}).assign_attrs(align=bad)
    page = nl.report(fit, interactive=True).html.replace(interactive.script(), "")
    assert "\x1b" not in page
    assert page.count("alert(1)") > 10
    for tag, attrs in Tags(page).tags:
        assert not [key for key in attrs if key.startswith("on")], tag
        assert "alert" not in attrs.get("src", "") + attrs.get("href", "")
    assert "<script>alert" not in page
    field = nl.flow_field(fit, condition=bad)
    figures = [
        interactive.trajectories(fit), interactive.flow(field, None, fit), interactive.connectivity_vectors(fit),
        interactive.effective_connectivity(fit),
    ]  # fmt: skip
    for figure in figures:
        found = [text for text in texts_of(figure.to_plotly_json()) if "alert" in text]
        assert found
        assert not [text for text in found if re.search("<(?!/?sub>|br>)", text)]


def texts_of(part):
    """All texts in a figure."""
    if isinstance(part, str):
        return [part]
    some = part.values() if isinstance(part, dict) else part if isinstance(part, (list, tuple, np.ndarray)) else []
    return [text for one in some for text in texts_of(one)]


def test_names_read_as_they_are_in_the_file():
    """Plotly shows ``&quot;`` as it is, and a dollar needs no backslash there."""
    name = """a $b$ "c" 'd'"""
    fit = mock_fit(n_neurons=30)
    fit = fit.assign_coords(condition=[name, *fit["condition"].values[1:]])
    figure = interactive.flow(nl.flow_field(fit, condition=name), None, fit)
    shown = [figure.layout.title.text, *(trace.name for trace in figure.data if trace.showlegend is False)]
    assert [unescape(text.removeprefix("Flow, input of ")) for text in shown] == [name, name]
    assert not re.search(r"&quot;|\\", "".join(shown))


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(ContractError, match=r"pip install 'nwb_lint\[interactive\]'"):
        nl.report(mock_fit(), interactive=True)
    nl.report(mock_fit(), analyze=False)


def test_an_interactive_page_from_the_command_line(tmp_path):
    subject = {"subject_id": "m", "species": "Mus musculus", "sex": "F", "age": "P90D"}
    fit = nl.write_fit(mock_fit(n_neurons=30), tmp_path / "fit.nwb", subject=subject)
    done = CliRunner().invoke(cli.app, ["report", str(fit), "--no-analyze", "--interactive"])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "fit.html").read_text(encoding="utf-8")
    assert page == nl.report(nl.read_fit(fit), analyze=False, interactive=True).html
    assert CliRunner().invoke(cli.app, ["show", str(fit), "--interactive"]).exit_code == 2
