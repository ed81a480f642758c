"""Where a fit comes from: its data, its assumptions, and what is needed to repeat it."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nwb_lint.contract.columns import input_names
from nwb_lint.nwb.recording.dataset import format_reading
from nwb_lint.reports.items import Code, Item, Table

# Fields of an input that its column and window do not show.
_BEYOND = ("weights", "lag_s", "values", "start", "stop", "series", "events", "table", "product")


def title_of(fit: xr.Dataset) -> str:
    """What the fit is, and of which sessions."""
    sessions = list(dict.fromkeys(str(one) for one in np.atleast_1d(fit["session"].values))) if "session" in fit else []
    of = f" of {', '.join(sessions[:3])}{', …' * (len(sessions) > 3)}" if any(sessions) else ""
    rank = f"rank {fit.sizes['rank']}" if "rank" in fit.sizes and "m" in fit else "unconstrained"
    return f"{rank[0].upper()}{rank[1:]} recurrent network{of}"


def sentence_of(fit: xr.Dataset) -> str:
    """The size of the network and of its data, in one sentence."""
    hidden, trials = int(fit.attrs.get("hidden", 0)), "noise_cov" in fit
    what = f"{fit.sizes['condition']} {'single trials' if trials else 'conditions'}"
    held = int(fit["held_out"].sum()) if "held_out" in fit else 0
    units = f"{fit.sizes['neuron'] - hidden} units{f' and {hidden} hidden ones' if hidden else ''}"
    kind = "a stochastic low-rank network" if trials else "a low-rank network" if "m" in fit else "a network"
    if fit.attrs.get("method") == "converted":
        origin = fit.attrs.get("converted_from", "other software")
        return f"{kind[0].upper()}{kind[1:]} of {units}, converted from {origin}. It was not compared with a recording."
    return (
        f"{kind[0].upper()}{kind[1:]} was fitted to {units}, {fit.sizes['time']} time bins and {what}, "
        f"{held} of them held out."
    )


def of_size(dataset: xr.Dataset) -> list[Item]:
    """The size of a recording, of trials or of an activity, in one sentence, and how much of the files was used."""
    time = dataset["time"].values
    what = f"{dataset.sizes['trial']} trials" if "trial" in dataset.dims else f"{dataset.sizes['condition']} conditions"
    around = f" around {dataset.attrs['align']}" if "align" in dataset.attrs else ""
    inputs = f" Inputs: {', '.join(input_names(dataset)) or 'none'}." if "u" in dataset else ""
    held = f", {int(dataset['held_out'].sum())} of them held out" if "held_out" in dataset.coords else ""
    size = (
        f"{dataset.sizes['neuron']} units, {what}{held}, {len(time)} bins of {dataset.attrs['bin_s']:g} s from "
        f"{time[0]:g} to {time[-1]:g} s{around}.{inputs}"
    )
    return [size, *([format_reading(dataset)] if "n_trials_used" in dataset.attrs else [])]


def file_warnings(fit: xr.Dataset) -> list[tuple[str, str]]:
    """Files that gave less than they hold, and why."""
    columns = (fit.attrs.get("assets", []), fit.attrs.get("assets_warnings", []))
    return [(str(path), str(what)) for path, what in zip(*map(np.atleast_1d, columns), strict=False) if what]


def of_data(fit: xr.Dataset) -> list[Item]:
    """Trials and units used of all, the files, and how trials became samples."""
    attrs = fit.attrs
    items: list[Item] = [format_reading(fit)] if "n_trials_used" in attrs else []
    names = ("align", "window_s", "bin_s", "smooth_s", "where", "by", "table", "units_table", "center", "scale")
    words = {
        "align": "time 0", "window_s": "window, s", "bin_s": "bin, s", "smooth_s": "smoothing, s", "where": "trials",
        "by": "conditions", "table": "trial table", "units_table": "units table", "center": "subtracted",
        "scale": "scale",
    }  # fmt: skip
    rows = [[words[name], _words(attrs[name])] for name in names if name in attrs and _words(attrs[name])]
    if rows:
        items.append(Table("how the data were read", ["", ""], rows))
    return [*items, *_files(fit)] or ["The fit does not say which data it was fitted to."]


def _files(fit: xr.Dataset) -> list[Item]:
    if "file" not in fit.coords:
        return []
    paths = [str(path) for path in fit["file"].values]
    columns = {"subject": "file_subject_id", "session": "file_session_id", "SHA-256": "file_digest"}
    known = {head: [str(one) for one in fit[name].values] for head, name in columns.items() if name in fit.coords}
    rows = [[path, *(values[k] for values in known.values())] for k, path in enumerate(paths)]
    return [Table("files", ["file", *known], rows)]


def of_assumptions(fit: xr.Dataset) -> list[Item]:
    """The model, its fixed numbers, and its inputs."""
    attrs = fit.attrs
    rank = str(fit.sizes["rank"]) if "m" in fit else "none: J is free"
    names = {
        "time constant tau, s": "tau_s", "time step, s": "dt_s", "nonlinearity": "nonlinearity", "method": "method",
        "hidden units": "hidden", "start": "initial", "observation": "observation", "rate of an activation": "link",
        "process noise": "noise", "ridge": "ridge", "loss": "loss", "seed": "seed",
    }  # fmt: skip
    rows = [["rank", rank], *([head, _words(attrs[name])] for head, name in names.items() if name in attrs)]
    items: list[Item] = [
        "x[t+1] = (1 − α) x[t] + α (m nᵀ φ(x[t]) / N + I u[t]), with α = time step / tau. What follows holds for this "
        "model only: tau is assumed, and so are the inputs and their times.",
        Table("the model", ["", ""], rows),
    ]
    return items if fit.sizes.get("input") else [*items, "There are no inputs."]


def of_inputs(fit: xr.Dataset) -> list[Item]:
    """How each input was made."""
    columns = {"column": "input_column", "equals": "input_equals", "scale": "input_scale"}
    edges = [fit[name].values for name in ("input_start_s", "input_stop_s") if name in fit.coords]
    made = fit["input_definition"].values.tolist() if "input_definition" in fit.coords else [""] * fit.sizes["input"]
    table, further = [], []
    for k, (name, text) in enumerate(zip(input_names(fit), made, strict=True)):
        cells = [_words(fit[column].values[k]) if column in fit.coords else "" for column in columns.values()]
        window = _window(*(edge[k] for edge in edges))
        if any(f", {one} = " in text for one in _BEYOND):
            further.append([name, text])
            window = window.replace("always", "see below")
        table.append([name, *cells, window])
    items: list[Item] = [Table("inputs", ["input", *columns, "window, s"], table)]
    return [*items, Table("how they were made", ["input", "fields of a recipe"], further)] if further else items


def _window(*edges: float) -> str:
    return "always" if np.isnan(edges).any() else " to ".join(f"{edge:g}" for edge in edges)


def of_origin(fit: xr.Dataset) -> list[Item]:
    """Recipe, versions and fingerprint."""
    attrs = fit.attrs
    items: list[Item] = []
    if "recipe" in attrs:
        items += ["Save this text as recipe.toml and run: nwb-lint fit recipe.toml", Code(str(attrs["recipe"]))]
    else:
        items.append("The fit was made in Python, so there is no recipe. The options that it keeps are listed above.")
    rows = [[name.removeprefix("version_"), str(attrs[name])] for name in sorted(attrs) if name.startswith("version_")]
    if "fingerprint" in attrs:
        rows.append(["fingerprint of recipe and data", str(attrs["fingerprint"])])
    return [*items, Table("versions", ["", ""], rows)] if rows else items


def _words(value: object) -> str:
    """A value of an attribute as a text."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(_words(one) for one in value)
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)
