"""Interactive versions of some figures, by plotly, for the page of a report.

Each function draws the same numbers as the one of the same name in `nwb_lint.plot`. Conditions, neurons and fixed
points say what they are under the pointer. plotly is an extra; without it this module cannot be imported.
"""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.figure_factory import create_streamline
from plotly.io import to_html
from plotly.offline import get_plotlyjs

from nwb_lint.analysis.connectivity import connectivity
from nwb_lint.contract.columns import input_names
from nwb_lint.errors import printable
from nwb_lint.plot.conditions import look_of
from nwb_lint.plot.dynamics import few_points, have_input, held_input_of
from nwb_lint.plot.style import COLORS, DARK, GRAY, time_label
from nwb_lint.prepare import condition_labels

Array = np.ndarray

_DASHES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}
_SYMBOLS = {"stable": "circle", "saddle": "diamond-open", "unstable": "circle-open", "marginal": "square"}
_HEIGHT_PX = 460
_CONFIG = {"displaylogo": False, "responsive": True, "displayModeBar": False}


def script() -> str:
    """The program that shows the figures; a page needs it once."""
    return str(get_plotlyjs())


def to_div(figure: go.Figure, name: str) -> str:
    """A figure as a part of a page. ``name`` is its id there."""
    how: dict[str, Any] = {"full_html": False, "include_plotlyjs": False, "default_height": f"{_HEIGHT_PX}px"}
    return str(to_html(figure, config=_CONFIG, div_id=name, **how))


def trajectories(fit: xr.Dataset) -> go.Figure:
    """The conditions as trajectories of up to three latents, or of a latent and the first input."""
    kappa = fit["latent"].transpose("condition", "time", "rank").values.astype(float)
    rank = kappa.shape[2]
    if rank > 1:
        runs, labels = kappa[..., :3], [_latent(k) for k in range(min(rank, 3))]
    else:
        inputs = fit["filtered_input"].transpose("condition", "time", "input").values
        runs = np.concatenate([inputs[..., :1], kappa], axis=2)
        labels = [f"filtered input v ({_text(input_names(fit)[0])})", _latent(0)]
    look = look_of(fit, None, None)
    traces = [_run(fit, k, run, look.colors[k], look.dashes[k]) for k, run in enumerate(runs)]
    return _figure([*traces, *_keys(look.handles, runs.shape[2])], "Trajectories", labels)


def flow(
    field: xr.Dataset,
    points: xr.Dataset | None = None,
    fit: xr.Dataset | None = None,
    *,
    cycles: xr.Dataset | None = None,
) -> go.Figure:
    """A flow field of rank 1, 2 or 3, with its fixed points, limit cycles and the runs with its own input."""
    rank = field.sizes["rank"]
    traces = list((_flow_of_one, _flow_of_two, _flow_of_three)[rank - 1](field))
    traces += [] if fit is None else _runs(fit, field)
    if cycles is not None and cycles.attrs["n_cycles"]:
        columns = (cycles[one].values for one in ("kappa", "stability", "supported", "period_s"))
        for orbit, stability, supported, period in zip(*columns, strict=True):
            name = f"{stability} cycle, {period:.2g} s" + ("" if supported else ", not supported")
            line: dict[str, Any] = {"color": "black" if supported else GRAY, "width": 3}
            line["dash"] = "solid" if stability == "stable" else "dash"
            traces.append(_scatter(np.concatenate([orbit, orbit[:1]]), mode="lines", line=line, name=name))
    traces += [] if points is None else _points(points, rank)
    labels = [_latent(k) for k in range(rank)] if rank > 1 else [_latent(0), "dκ<sub>1</sub>/dt (1/s)"]
    figure = _figure(traces, f"Flow, {_text(held_input_of(field))}", labels)
    low_high = np.reshape(field.attrs["extent"], (rank, 2)).tolist()
    if rank == 3:
        return figure.update_scenes({f"{axis}axis_range": ends for axis, ends in zip("xyz", low_high, strict=True)})
    return figure.update_layout({f"{axis}axis_range": ends for axis, ends in zip("xy", low_high, strict=False)})


def connectivity_vectors(fit: xr.Dataset) -> go.Figure:
    """The entries of m against those of the effective n; each dot says which neuron it is."""
    m, n = fit["m"].transpose("neuron", "rank").values, connectivity(fit)["n_effective"].values
    shows: dict[str, Any] = {
        "text": _texts(fit["neuron"].values),
        "hovertemplate": "%{text}<br>m %{x:.3g}<br>n %{y:.3g}",
    }
    traces = []
    for k in range(m.shape[1]):
        marker = {"size": 6, "opacity": 0.75, "color": COLORS[k % len(COLORS)]}
        traces.append(go.Scatter(x=m[:, k], y=n[:, k], mode="markers", marker=marker, name=f"rank {k + 1}", **shows))
    figure = _figure(traces, "Connectivity vectors", ["m of a neuron", "effective n of a neuron"])
    return figure.update_layout(showlegend=len(traces) > 1)


def effective_connectivity(fit: xr.Dataset) -> go.Figure:
    """The effective connectivity of a fit with a rank as an image; each cell names both of its neurons."""
    j, names = connectivity(fit)["connectivity"].values.astype(np.float32), _texts(fit["neuron"].values)
    order = np.argsort(fit["m"].values[:, 0], kind="stable")
    names = [names[k] for k in order]
    most = float(np.quantile(np.abs(j), 0.99))
    # names are values of the axes: texts for each cell would take most of the page
    image = go.Heatmap(
        x=names, y=names, z=j[np.ix_(order, order)],
        colorscale="PuOr", zmin=-most, zmax=most, colorbar={"title": "effective J"},
        hovertemplate="from %{x}<br>to %{y}<br>J %{z:.3g}<extra></extra>",
    )  # fmt: skip
    figure = _figure([image], "Effective connectivity", ["from neuron (sorted by m)", "to neuron (sorted by m)"])
    bare = {"type": "category", "showticklabels": False, "ticks": ""}
    return figure.update_xaxes(bare).update_yaxes(bare, autorange="reversed")


def _flow_of_one(field: xr.Dataset) -> list[Any]:
    line = np.stack([field["kappa"].values[:, 0], field["velocity"].values[:, 0]], axis=1)
    return [_scatter(line, mode="lines", line={"color": DARK, "width": 2.5}, name="flow")]


def _flow_of_two(field: xr.Dataset) -> list[Any]:
    """Streamlines over shades of the speed. They are made in a square, so that their arrows are not skewed."""
    size = int(field.attrs["n_points"])
    low, high = np.reshape(field.attrs["extent"], (2, 2)).T
    unit, wide = np.linspace(0, 1, size), high - low
    u, v = (field["velocity"].values[:, k].reshape(size, size).T / wide[k] for k in (0, 1))
    lines = create_streamline(unit, unit, u, v, density=0.9, arrow_scale=0.025).data[0]
    x, y = (low[k] + wide[k] * np.array(values, float) for k, values in enumerate((lines.x, lines.y)))
    speed = go.Heatmap(
        x=low[0] + wide[0] * unit, y=low[1] + wide[1] * unit, z=field["speed"].values.reshape(size, size).T,
        colorscale=[[0, "white"], [1, "#B0B0B0"]], colorbar={"title": "speed (1/s)"},
        hovertemplate="κ<sub>1</sub> %{x:.3g}<br>κ<sub>2</sub> %{y:.3g}<br>%{z:.3g} 1/s<extra>flow</extra>",
    )  # fmt: skip
    line = {"color": DARK, "width": 1}
    return [speed, go.Scatter(x=x, y=y, mode="lines", line=line, name="flow", hoverinfo="skip")]


def _flow_of_three(field: xr.Dataset) -> list[Any]:
    keep, _ = few_points(field)
    at, velocity = field["kappa"].values[keep], field["velocity"].values[keep]
    parts = dict(zip("xyzuvw", [*at.T, *velocity.T], strict=True))
    colors = [[0, "#DDDDDD"], [1, "#404040"]]
    return [
        go.Cone(
            **parts, colorscale=colors, sizemode="scaled", sizeref=0.8, colorbar={"title": "speed (1/s)"}, name="flow"
        )
    ]


def _runs(fit: xr.Dataset, field: xr.Dataset) -> list[Any]:
    """The conditions with the input of the field, or all of them in gray where there is none."""
    own, rank = have_input(fit, field), field.sizes["rank"]
    look, gray = look_of(fit, None, None), not own.any()
    kappa = fit["latent"].transpose("condition", "time", "rank").values.astype(float)
    if rank == 1:
        kappa = np.concatenate([kappa[:, :-1], np.diff(kappa, axis=1) / float(fit.attrs["dt_s"])], axis=2)
    some = range(len(kappa)) if gray else np.flatnonzero(own).tolist()
    return [_run(fit, k, kappa[k], GRAY if gray else look.colors[k], look.dashes[k]) for k in some]


def _points(points: xr.Dataset, rank: int) -> list[Any]:
    """Fixed points by their stability; each says where it is and which eigenvalues it has."""
    kappa, kinds = points["kappa"].values, points["stability"].values.astype(str)
    supported = points["supported"].values if "supported" in points else np.ones(len(kappa), bool)
    parts = (points["eigenvalue_real"].values, points["eigenvalue_imag"].values)
    values = [
        ", ".join(f"{a:.3g}{b:+.3g}i" if b else f"{a:.3g}" for a, b in zip(*one, strict=True))
        for one in zip(*parts, strict=True)
    ]
    place = np.c_[kappa, np.zeros(len(kappa))] if rank == 1 else kappa
    traces = []
    for kind in _SYMBOLS:
        for holds in (True, False):
            some = np.flatnonzero((kinds == kind) & (supported == holds))
            if len(some):
                name = kind if holds else f"{kind}, not supported"
                texts = [f"κ {', '.join(f'{x:.3g}' for x in kappa[k])}<br>eigenvalues {values[k]} 1/s" for k in some]
                marker = {"symbol": _SYMBOLS[kind], "size": 5 if rank == 3 else 10, "color": "black" if holds else GRAY}
                shows = {"text": texts, "hovertemplate": "%{text}", "name": name}
                traces.append(_scatter(place[some], mode="markers", marker=marker, **shows))
    return traces


def _run(fit: xr.Dataset, k: int, run: Array, color: str, dash: str) -> Any:
    """One condition as a line with a dot at its end; it says which one it is, and when."""
    name = _text(condition_labels(fit)[k])
    when: dict[str, Any] = {"customdata": fit["time"].values[: len(run)]}
    when["hovertemplate"] = f"{_text(time_label(fit))} %{{customdata:.3g}}"
    marker = {"size": [0] * (len(run) - 1) + [6], "color": color, "opacity": 1, "line": {"width": 0}}
    how: dict[str, Any] = {"line": {"color": color, "width": 2, "dash": _DASHES[dash]}, "marker": marker}
    how["opacity"] = 0.4 if color == GRAY else 1
    return _scatter(run, mode="lines+markers", name=name, showlegend=False, **when, **how)


def _scatter(at: Array, **how: Any) -> Any:
    """A line or dots in two or three dimensions."""
    kind = go.Scatter3d if at.shape[1] == 3 else go.Scatter
    return kind(**dict(zip("xyz", at.T, strict=False)), **how)


def _keys(handles: list[Any], dims: int) -> list[Any]:
    """The entries of a legend of matplotlib as empty lines."""
    return [
        _scatter(
            np.full((1, dims), np.nan), mode="lines", name=_text(one.get_label()),
            line={"color": one.get_color(), "dash": _DASHES[one.get_linestyle()], "width": 3},
        )
        for one in handles
    ]  # fmt: skip


def _figure(traces: list[Any], title: str, labels: list[str]) -> go.Figure:
    """A figure with titles and a legend below."""
    figure = go.Figure(traces)
    below: dict[str, Any] = {
        "orientation": "h",
        "yanchor": "top",
        "y": -0.18,
        "itemclick": False,
        "itemdoubleclick": False,
    }
    font = {"color": "#1c1e21", "size": 13}
    figure.update_layout(
        template="simple_white", title={"text": title, "x": 0.5}, legend=below, font=font, hovermode="closest",
        margin={"l": 60, "r": 20, "t": 50, "b": 40}, hoverlabel={"namelength": -1},
    )  # fmt: skip
    if len(labels) == 3:
        camera = {"eye": {"x": -1.5, "y": -1.9, "z": 1.1}}
        figure.update_layout(legend_y=0, scene={"aspectmode": "cube", "camera": camera})
        return figure.update_scenes(
            {f"{axis}axis_title_text": label for axis, label in zip("xyz", labels, strict=True)}
        )
    return figure.update_layout(xaxis_title_text=labels[0], yaxis_title_text=labels[1])


def _latent(k: int) -> str:
    return f"latent κ<sub>{k + 1}</sub>"


def _text(name: object) -> str:
    """A name from a file, or a label of matplotlib: no control character, and no mark of HTML.

    Plotly obeys some marks of HTML. It shows quotation marks as they are, and has no mathematics that a dollar starts.
    """
    return escape(printable(str(name)).replace(r"\$", "$"), quote=False)


def _texts(names: Array) -> list[str]:
    return [_text(name) for name in names]
