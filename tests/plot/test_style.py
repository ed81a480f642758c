"""The style of a figure sets its sizes and nothing else; many conditions have small Axes of their own."""

from __future__ import annotations

import inspect

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread

import nwb_lint as nl
from nwb_lint import plot
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_activity, mock_fit
from tests.plot.pictures import assert_looks_like, texts

DRAW = {
    "latents": lambda how: plot.latents_over_time(mock_fit(), mock_activity(), **how),
    "flow": lambda how: plot.flow(nl.flow_field(mock_fit()), nl.fixed_points(mock_fit()), mock_fit(), **how),
    "overlaps": lambda how: plot.overlaps(nl.connectivity(mock_fit()), **how),
    "summary": lambda how: plot.summary(mock_fit(), mock_activity(), **how),
}


def sizes(drawn):
    """Smallest and largest text, smallest and largest width of a line, and the width of the figure, once drawn."""
    figure = drawn if isinstance(drawn, Figure) else drawn.figure
    figure.draw_without_rendering()
    text = [one.get_size() for one in figure.findobj(matplotlib.text.Text) if one.get_text()]
    spines = [spine.get_linewidth() for ax in figure.axes for spine in (ax.spines["left"], ax.spines["bottom"])]
    lines = [line.get_linewidth() for ax in figure.axes for line in ax.lines] or spines
    return min(text), max(text), min(spines), max(spines), min(lines), max(lines), figure.get_figwidth()


@pytest.mark.parametrize("name", DRAW)
def test_text_and_lines_grow_from_print_to_talk(name):
    """Also those that matplotlib makes when the figure is drawn: the labels of ticks."""
    paper, screen, talk = (sizes(DRAW[name]({"style": style})) for style in ("print", "screen", "talk"))
    assert all(small < large for small, large in zip(paper[:-1], screen[:-1], strict=True))
    assert all(small < large for small, large in zip(screen[:-1], talk[:-1], strict=True))
    assert paper[0] == 7
    assert talk[0] == 12
    assert paper[-1] <= (7.1 if name == "summary" else 3.5)


def test_a_style_changes_nothing_but_sizes_and_ends_with_the_figure():
    before = dict(matplotlib.rcParams)
    talk, screen = (plot.latents_over_time(mock_fit(), style=style) for style in ("talk", "screen"))
    assert dict(matplotlib.rcParams) == before
    for one, other in zip(talk.lines, screen.lines, strict=True):
        np.testing.assert_array_equal(one.get_xydata(), other.get_xydata())
        assert (one.get_color(), one.get_linestyle()) == (other.get_color(), other.get_linestyle())
    assert texts(talk) == texts(screen)


@pytest.mark.parametrize("name", sorted(plot.__all__))
def test_every_figure_has_a_style(name):
    parameter = inspect.signature(getattr(plot, name)).parameters["style"]
    assert (parameter.default, parameter.kind) == ("screen", inspect.Parameter.KEYWORD_ONLY)


def test_an_unknown_style_is_refused():
    with pytest.raises(ContractError, match=r"style.*poster.*'screen' or 'print'"):
        plot.scores(mock_fit(), style="poster")


@pytest.mark.parametrize("name", ["latents_over_time_print", "latents_over_time_talk"])
def test_looks_as_it_did(name):
    assert_looks_like(DRAW["latents"]({"style": name.rpartition("_")[2]}), name)


@pytest.fixture(scope="module")
def many():
    """A fit of 24 conditions: 2 contexts, 4 strengths, 3 colors."""
    fit = mock_fit()
    fit = fit.isel(condition=np.arange(24) % fit.sizes["condition"])
    fit["latent"] = fit["latent"] * (1 + np.arange(24)[:, None, None] / 24).astype("f4")
    strength, color = np.tile(np.repeat([-0.5, -0.1, 0.1, 0.5], 3), 2), np.tile([1, 2, 3], 8)
    columns = {"context": np.repeat(["go", "stop"], 12), "strength": strength, "color": color}
    labels = [f"condition {k}" for k in range(24)]
    fit = fit.drop_vars([name for name in fit.coords if fit[name].dims == ("condition",)])
    fit = fit.assign_coords(condition=labels, **{name: ("condition", one) for name, one in columns.items()})
    return fit.assign_attrs(by=["strength", "context", "color"])


def runs(ax, fit):
    return [line for line in ax.lines if len(line.get_xdata()) == fit.sizes["time"]]


def test_more_than_twelve_conditions_have_a_panel_for_each_line_style(many):
    ax = plot.latents_over_time(many)
    panels = ax.figure.axes
    assert [one.get_title() for one in panels] == ["context go", "context stop"]
    for panel, context in zip(panels, ("go", "stop"), strict=True):
        own = many["latent"].values[many["context"].values == context, :, 0]
        np.testing.assert_array_equal([line.get_ydata() for line in runs(panel, many)], own)
        assert {line.get_linestyle() for line in runs(panel, many)} == {"-"}
    assert panels[0].get_ylim() == panels[1].get_ylim()
    assert ax is panels[0]
    assert len(ax.figure.legends[0].get_texts()) == 4
    assert_looks_like(ax.figure, "latents_over_time_panels")
    assert len(plot.latents_over_time(many, panel_by=None).figure.axes) == 1
    assert len(plot.trajectories(many.isel(condition=slice(12))).figure.axes) == 1
    assert plot.latents_over_time(many, ax=Figure().subplots()).get_title() == "Latent 1"  # a page has no room


@pytest.mark.parametrize(("column", "number"), [("color", 3), ("strength", 4), ("context", 2)])
def test_a_panel_for_each_value_of_a_column(many, column, number):
    """Every condition is in one panel, in the color that it has in all of them."""
    together = {tuple(line.get_ydata()): line for line in runs(plot.trajectories(many, panel_by=None), many)}
    panels = plot.trajectories(many, panel_by=column).figure.axes
    assert len(panels) == number
    found = {tuple(line.get_ydata()): to_hex(line.get_color()) for panel in panels for line in runs(panel, many)}
    assert found == {key: to_hex(line.get_color()) for key, line in together.items()}
    assert [panel.get_ylabel() != "" for panel in panels] == [k % (2 if number != 3 else 3) == 0 for k in range(number)]


def test_panels_that_cannot_be_made_are_refused(many):
    with pytest.raises(ContractError, match="layer"):
        plot.latents_over_time(many, panel_by="layer")
    with pytest.raises(ContractError, match=r"ax and panel_by.*new figure"):
        plot.trajectories(many, panel_by="color", ax=Figure().subplots())


def test_a_figure_of_the_command_line_has_a_style(tmp_path):
    from click.testing import CliRunner

    from nwb_lint import cli

    subject = {"subject_id": "m", "species": "Mus musculus", "sex": "F", "age": "P90D"}
    fit, widths = nl.write_fit(mock_fit(), tmp_path / "fit.nwb", subject=subject), {}
    for style in ("print", "talk"):
        path = tmp_path / f"{style}.png"
        done = CliRunner().invoke(cli.app, ["figure", str(fit), "-o", str(path), "--kind", "latents", "--style", style])
        assert done.exit_code == 0, done.output
        widths[style] = imread(path).shape[1]
    assert widths == {"print": 670, "talk": 960}
    assert CliRunner().invoke(cli.app, ["figure", str(fit), "-o", "x.png", "--style", "poster"]).exit_code == 2
