"""A fit in plain words: what was read, what was assumed, how well it predicts, and what its dynamics are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from html import escape
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint import plot
from nwb_lint.analysis.connectivity import connectivity
from nwb_lint.analysis.dynamics import flow_field
from nwb_lint.analysis.fixedpoints import fixed_points
from nwb_lint.analysis.limitcycles import limit_cycles
from nwb_lint.analysis.populations import find_populations
from nwb_lint.contract.checks import check_fit, check_result
from nwb_lint.contract.columns import input_names
from nwb_lint.errors import ContractError
from nwb_lint.options.checks import validated
from nwb_lint.options.reports import ReportOptions
from nwb_lint.parallel.progress import progress_bar
from nwb_lint.reports import analyses, reading, scores
from nwb_lint.reports.items import Item, Picture, Section, as_text
from nwb_lint.reports.page import save_page, to_page

Results = Mapping[str, xr.Dataset]

_MOST_INPUTS = 4  # constant inputs whose flow is drawn
_MOST_DRAWN = 12  # inputs that are drawn over time
_MOST_LATENTS = 3
_LARGEST_IMAGE = 400  # neurons of a matrix that is drawn
_INTERACTIVE = {"trajectories", "flow", "connectivity_vectors", "effective_connectivity"}  # of plot.interactive


@dataclass(frozen=True)
class Report:
    """A report of a fit. It shows itself in Jupyter; `print` shows it as text; `save` writes it as one HTML page."""

    title: str
    sections: tuple[Section, ...]
    interactive: bool = False

    def __str__(self) -> str:
        texts = {section.title: as_text(section.items) for section in self.sections}
        parts = [f"{title}\n{'-' * len(title)}\n{text}" for title, text in texts.items() if text]
        return "\n\n\n".join([self.title, *parts])

    @cached_property
    def html(self) -> str:
        """The report as a page that needs no other file."""
        return to_page(self.title, self.sections, interactive=self.interactive)

    def _repr_html_(self) -> str:
        style = "width:100%;height:80vh;border:1px solid #8888"
        return f'<iframe title="{escape(self.title)}" srcdoc="{escape(self.html)}" style="{style}"></iframe>'

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the report as one HTML page.

        Parameters
        ----------
        path : str or os.PathLike
            File to write: ``.html``. A page that nwb_lint did not write is not replaced.

        Returns
        -------
        pathlib.Path
            The page.

        Raises
        ------
        ContractError
            If the ending is another one, the folder does not exist, or another file is there.

        Examples
        --------
        >>> from nwb_lint.testing import mock_fit
        >>> report(mock_fit(), analyze=False).save("fit.html").name
        'fit.html'
        """
        return save_page(self.html, path)


@validated(ReportOptions)
def report(
    fit: xr.Dataset,
    results: Results | None = None,
    *,
    analyze: bool = True,
    interactive: bool = False,
    progress: bool = False,
) -> Report:
    """Describe a fit on one page, for a lab meeting or a supplement.

    The page says what was read, what was assumed, how well the fit predicts and what its ceilings are, which dynamics
    it has and how far the data support them, its populations and predicted inactivations, all warnings, and how the fit
    can be repeated.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`, `fit_trials` or `read_fit`.
    results : mapping of str to xarray.Dataset or None, default=None
        Results of the fit by name: tables of `select_rank`, `baselines`, `ensemble`, `bootstrap`, `audit` or
        `compare_inputs`, `infer_inputs`, and results of analyses. `nwb_lint.read_results` reads those of a file.
    analyze : bool, default=True
        Compute what the results do not hold: fixed points, limit cycles and flow for up to four inputs, and
        populations. This takes some seconds.
    interactive : bool, default=False
        Trajectories, flow and connectivity can be zoomed and turned, and name the condition, neuron or fixed point
        under the pointer. The page still needs no other file, but has 4.8 MB more for the program plotly.js, and the
        numbers of these figures. This needs the extra: ``pip install 'nwb_lint[interactive]'``.
    progress : bool, default=False
        Show a progress bar.

    Returns
    -------
    Report
        Shows itself in Jupyter. ``print(report)`` prints it as text, ``report.save("fit.html")`` writes the page, and
        ``report.html`` is the page as a text.

    Raises
    ------
    ContractError
        If ``fit`` is not a fit, a result is none, or the extra of an interactive report is not installed.

    Examples
    --------
    >>> from nwb_lint.testing import mock_fit
    >>> text = str(report(mock_fit(), analyze=False))
    >>> "What was assumed" in text
    True
    """
    check_fit(fit)
    if interactive and find_spec("plotly") is None:
        raise ContractError("An interactive report needs plotly. It is an extra: pip install 'nwb_lint[interactive]'.")
    if results is not None and not isinstance(results, Mapping):
        raise ContractError(
            f"results is a {type(results).__name__}. It needs to be a dict of results by name. Write the page by "
            "report(fit).save(path)."
        )
    kept = dict(results or {})
    for one in kept.values():
        check_result(one)
    make: list[tuple[str, Callable[[xr.Dataset, Results, bool], list[Item]]]] = [
        ("In short", _summary),
        ("Warnings", lambda _, results, __: _warnings(fit, results)),
        ("What was read", lambda bare, *_: reading.of_data(bare)),
        ("What was assumed", lambda bare, *_: reading.of_assumptions(bare)),
        ("How well the fit predicts", _scores),
        ("Inputs", _inputs),
        ("Latents", _latents),
        ("Dynamics", _dynamics),
        ("Connectivity", _connectivity),
        ("Populations", _populations),
        ("Readout and inactivation", _inactivation),
        ("How to repeat it", lambda bare, *_: reading.of_origin(bare)),
    ]
    bare, sections = _without_caution(fit), []
    with progress_bar(progress, "report", unit="section", total=len(make)) as bar:
        for title, of in make:
            if items := of(bare, kept, analyze):
                sections.append(Section(title, items))
            bar.update()
    return Report(reading.title_of(fit), tuple(sections), interactive)


def _of_kind(results: Results, *kinds: str) -> list[xr.Dataset]:
    return [one for one in results.values() if one.attrs["kind"] in kinds]


def _picture(draw: Callable[..., Any], data: xr.Dataset, *more: xr.Dataset | None, shows: str, **how: Any) -> Picture:
    """A figure of some data."""
    name = getattr(draw, "__name__", "")

    def moving() -> Any:
        from nwb_lint.plot import interactive

        return getattr(interactive, name)(data, *more, **how)

    return Picture(lambda: draw(data, *more, **how).figure, shows, moving if name in _INTERACTIVE else None)


def _summary(fit: xr.Dataset, results: Results, _: bool) -> list[Item]:
    return [reading.sentence_of(fit), scores.verdict(fit)]


def _warnings(fit: xr.Dataset, results: Results) -> list[Item]:
    """Cautions of the fit and its results, what was warned of, files that gave less than they hold; each once."""
    found = [str(fit.attrs["caution"])] if "caution" in fit.attrs else []
    found += map(str, np.atleast_1d(fit.attrs.get("warnings", [])))
    found += [f"{path}: {what}" for path, what in reading.file_warnings(fit)]
    found += [f"{name}: {one.attrs['caution']}" for name, one in results.items() if "caution" in one.attrs]
    return list(dict.fromkeys(found)) or ["None."]


def _scores(fit: xr.Dataset, results: Results, _: bool) -> list[Item]:
    items: list[Item] = [*scores.of_fit(fit)]
    selected = _of_kind(results, "rank_selection")
    for table in selected or [fit]:
        items += scores.of_ranks(table)
    for table in [*selected, *_of_kind(results, "baselines")] or [fit]:
        items.append(
            _picture(plot.scores, table, shows="Scores of the models that were compared, with their ceilings.")
        )
    kinds = (
        "baselines", "ensemble", "bootstrap", "audit", "input_comparison", "readout_comparison", "decoding",
        "inferred_inputs",
    )  # fmt: skip
    for table in _of_kind(results, *kinds):
        items += scores.of_table(table)
    for table in _of_kind(results, "decoding"):
        items.append(_picture(plot.decoded_behavior, table, shows="Behavior decoded in held-out trials."))
    items += [
        _picture(plot.intervals, table, shows="Each quantity with its interval.")
        for table in _of_kind(results, "bootstrap")
        if "low" in table
    ]
    if "r2_neuron" in fit and "noise_cov" not in fit:
        items.append(_picture(plot.neuron_scores, fit, shows="R² of each neuron."))
    if "evidence" in fit:
        items.append(_picture(plot.evidence, fit, shows="Log evidence by iteration."))
    return items


def _inputs(fit: xr.Dataset, results: Results, _: bool) -> list[Item]:
    if not fit.sizes.get("input"):
        return []
    items = reading.of_inputs(fit)
    on: Any = fit["u"].transpose("condition", "time", "input").values.any(axis=(0, 1))
    shown = [name for name, varies in zip(input_names(fit), on, strict=True) if varies][:_MOST_DRAWN]
    return [*items, _picture(plot.inputs, fit, names=shown, shows="Inputs over time.")] if shown else items


def _latents(fit: xr.Dataset, results: Results, _: bool) -> list[Item]:
    if "m" not in fit:
        return ["The connectivity of this fit is not of low rank, so it has no latents."]
    trials = "noise_cov" in fit
    draw, which = (plot.trial_latents, "trials") if trials else (plot.latents_over_time, "conditions")
    items: list[Item] = [
        _picture(draw, fit, rank=rank, shows=f"Latent {rank} of all {which} over time.")
        for rank in range(1, 1 + min(fit.sizes["rank"], _MOST_LATENTS))
    ]
    if not trials and (fit.sizes["rank"] > 1 or fit.sizes["input"]):
        shows = "The conditions as trajectories of latents and inputs."
        items.append(_picture(plot.trajectories, fit, shows=shows))
    return items


def _dynamics(fit: xr.Dataset, results: Results, analyze: bool) -> list[Item]:
    """Fixed points and cycles, those of the results first, each with its flow."""
    if "m" not in fit:
        return []
    stored = _of_kind(results, "fixed_points")
    draws = next(iter(_of_kind(results, "bootstrap")), None)
    items: list[Item] = []
    for points in stored:
        items += analyses.of_analysis(points)
    for cycles in _of_kind(results, "limit_cycles"):
        items += analyses.of_analysis(cycles)
    for condition in _conditions_of_inputs(fit) if analyze and not stored else []:
        items += _at_input(fit, condition, draws)
    if items:
        items += analyses.EXPLAINED
    if items and draws is None:
        items.append(
            "No bootstrap of trials was made of this fit. Whether noise in the data could make or move these points is "
            "not known."
        )
    return items or ["Fixed points were not computed."]


def _at_input(fit: xr.Dataset, condition: str | None, draws: xr.Dataset | None) -> list[Item]:
    """Fixed points, cycles and flow while the last input of a condition is held; None: without input."""
    try:
        points = fixed_points(fit, condition=condition, bootstrap=draws)
    except ContractError as error:
        return [f"Fixed points{'' if condition is None else f', input of {condition}'}: {error}"]
    cycles = limit_cycles(fit, condition=condition)
    items = [*analyses.of_analysis(points), *analyses.of_analysis(cycles)]
    if fit.sizes["rank"] > _MOST_LATENTS:
        return items
    runs = fit if "latent" in fit else None
    shows = f"Flow of the latents, input of {condition}." if condition else "Flow of the latents without input."
    field = flow_field(fit, condition=condition)
    return [*items, _picture(plot.flow, field, points, runs, cycles=cycles, shows=shows)]


def _without_caution(fit: xr.Dataset) -> xr.Dataset:
    """The fit without its caution, which the report says once, and not for each analysis again."""
    bare = fit.copy(deep=False)
    bare.attrs = {name: value for name, value in fit.attrs.items() if name != "caution"}
    return bare


def _conditions_of_inputs(fit: xr.Dataset) -> list[str | None]:
    """Conditions whose inputs differ at the last sample, a few of them, from the first to the last."""
    if "u" not in fit.variables or not fit.sizes["input"]:
        return [None]
    last = fit["u"].transpose("condition", "time", "input").values[:, -1]
    _, first = np.unique(np.round(last, 6), axis=0, return_index=True)
    some = np.sort(first)[np.unique(np.linspace(0, len(first) - 1, _MOST_INPUTS).round().astype(int))]
    return [str(label) for label in fit["condition"].values[some]]


def _connectivity(fit: xr.Dataset, results: Results, _: bool) -> list[Item]:
    if "m" not in fit:
        return [
            _picture(plot.singular_values, fit, shows="The largest singular values of J."),
            analyses.of_weights(fit)[0],
        ]
    items = [*analyses.of_analysis(connectivity(fit)), *analyses.of_weights(fit)]
    items.append(_picture(plot.connectivity_vectors, fit, shows="m and the effective n of every neuron."))
    if fit.sizes["neuron"] <= _LARGEST_IMAGE:
        items.append(_picture(plot.effective_connectivity, fit, shows="Effective connectivity between all neurons."))
    return items


def _populations(fit: xr.Dataset, results: Results, analyze: bool) -> list[Item]:
    stored = _of_kind(results, "populations")
    if not stored and "m" in fit and analyze:
        try:
            stored = [find_populations(fit)]
        except ContractError as error:
            return [f"Populations were not looked for: {error}"]
    items: list[Item] = []
    for found in stored:
        items += analyses.of_analysis(found)
        items.append(_picture(plot.loadings, found, shows="Loadings of every neuron, colored by group."))
        if "stability" in found:
            items.append(_picture(plot.population_number, found, shows="Stability of each number of groups."))
    return items or ["Populations were not looked for."]


def _inactivation(fit: xr.Dataset, results: Results, _: bool) -> list[Item]:
    items: list[Item] = []
    for found in _of_kind(results, "readout", "inactivation"):
        items += analyses.of_analysis(found)
        if found.attrs["kind"] == "inactivation":
            quantity = "accuracy" if "accuracy" in found else "effect"
            bars = partial(plot.inactivation_bars, quantity=quantity)
            items.append(_picture(bars, found, shows=f"Predicted {quantity} for each group and for random groups."))
        else:
            items.append(_picture(plot.readout_weights, found, shows="Weights of the readout."))
    return items or ["No inactivation was predicted. `nwb-lint inactivate` or nwb_lint.predict_inactivation does it."]
