"""What Jupyter and IPython show of our Datasets: a summary, and below it what xarray shows of every Dataset.

The Datasets are plain ones of xarray, so that the summary is given to IPython, which looks for it by their class.
Nothing heavy is imported before a summary is made.
"""

from __future__ import annotations

import sys
import warnings
from html import escape
from typing import TYPE_CHECKING, Any

from nwb_lint.errors import printable

if TYPE_CHECKING:
    import xarray as xr

    from nwb_lint.reports.items import Item

# The function of `nwb_lint.plot` that draws each kind of result.
FIGURES = {
    "flow_field": "flow", "axes": "angles", "latents": "latents_over_time", "connectivity": "overlaps",
    "weight_statistics": "weight_histograms", "populations": "loadings", "inactivation": "inactivation_bars",
    "readout": "readout_weights", "scores": "condition_scores", "rank_selection": "scores", "baselines": "scores",
    "ensemble": "ensemble_agreement", "tau_comparison": "tau_comparison", "link_comparison": "link_comparison",
    "input_comparison": "input_comparison",
    "readout_comparison": "readout_comparison", "decoding": "decoded_behavior",
    "inferred_inputs": "inferred_inputs",
    "drift_comparison": "drift_comparison", "session_alignment": "session_changes",
    "bootstrap": "intervals", "audit": "rank_audit",
    "currents": "currents", "area_selection": "area_scores",
    "dynamics_comparison": "dynamics_distances",
}  # fmt: skip

_NEXT = {
    "recording": "nl.prepare(recording, inputs=[nl.Input(...)])",
    "trials": "nl.prepare(trials, inputs=[nl.Input(...)]), nl.fit_trials(trials, rank=1, tau_s=0.1)",
    "activity": "nl.select_rank(activity, ranks=(1, 2), tau_s=0.1), nl.fit_lint(activity, rank=1, tau_s=0.1)",
    "comparison": "nl.report(fit)",
    "fit": 'nl.report(fit), nl.plot.summary(fit), nl.fixed_points(fit), nl.write_fit(fit, "fit.nwb")',
}


def register() -> None:
    """Show summaries in the IPython that runs, where one runs."""
    shell = sys.modules["IPython"].get_ipython()
    if shell is not None:
        formatters = shell.display_formatter.formatters
        formatters["text/html"].for_type_by_name("xarray.core.dataset", "Dataset", _as_html)
        formatters["text/plain"].for_type_by_name("xarray.core.dataset", "Dataset", _as_plain)


def _as_html(dataset: xr.Dataset) -> str:
    text, shown = summary(dataset), dataset._repr_html_()
    return f'<pre style="white-space: pre-wrap">{escape(text)}</pre>\n{shown}' if text else shown


def _as_plain(dataset: xr.Dataset, printer: Any, cycle: bool) -> None:
    text = summary(dataset)
    printer.text(f"{text}\n\n{dataset!r}" if text else repr(dataset))


def summary(dataset: xr.Dataset) -> str:
    """What a Dataset of ours is, its scores under their ceilings, its warnings, and the calls that may follow.

    Parameters
    ----------
    dataset : xarray.Dataset
        Any Dataset.

    Returns
    -------
    str
        Empty for a Dataset that is none of ours, and for one of which too much is left out.

    Examples
    --------
    >>> from nwb_lint.testing import mock_fit
    >>> print(summary(mock_fit()).splitlines()[0])
    nwb_lint: fit
    """
    from nwb_lint.contract.checks import kind_of
    from nwb_lint.reports.items import as_text

    try:
        if (kind := kind_of(dataset)) is None:
            return ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            items = _items(dataset, kind)
        text = as_text([f"nwb_lint: {kind.replace('_', ' ')}", *items])
        return printable(f"{text}\n\nnext: {_next(kind)}")
    except Exception:  # names of variables can be those of others, and parts can be missing
        return ""


def _items(dataset: xr.Dataset, kind: str) -> list[Item]:
    """The summary of a Dataset of a kind, in the words of a report."""
    from nwb_lint.reports import reading

    if kind in ("recording", "trials", "activity"):
        return reading.of_size(dataset)
    cautions = [f"warning: {dataset.attrs[name]}" for name in ("caution", "fit_caution") if name in dataset.attrs]
    if kind == "fit":
        from nwb_lint.reports.scores import of_fit, verdict

        cautions += [f"warning: {path}: {what}" for path, what in reading.file_warnings(dataset)]
        title = f"{reading.title_of(dataset)}. {reading.sentence_of(dataset)}"
        return [title, of_fit(dataset)[0], verdict(dataset), *cautions]
    tables = [one for one in _tables(dataset, kind) if not str(one).startswith("caution: ")]
    return [*tables, *cautions]


def _tables(result: xr.Dataset, kind: str) -> list[Item]:
    """The tables of a result; nothing for a kind that only a picture shows."""
    from nwb_lint.reports import analyses, scores

    if kind == "comparison":
        from nwb_lint.reports.comparison import of_comparison

        return of_comparison(result)
    explained = analyses.EXPLAINED if kind in ("fixed_points", "limit_cycles") else []
    return [*(scores.of_table(result) or analyses.of_analysis(result)), *explained]


def _next(kind: str) -> str:
    """Calls that may follow."""
    if kind in _NEXT:
        return _NEXT[kind]
    drawn = f"nl.plot.{FIGURES[kind]}(result), " if kind in FIGURES else ""
    return f'{drawn}nl.report(fit, {{"{kind}": result}}), nl.write_result(result, "fit.nwb")'
