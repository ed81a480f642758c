"""Options of reports, comparisons of two fits, and figures."""

from __future__ import annotations

from typing import Literal

from nwb_lint.options.base import Options, Window, option

FigureStyle = Literal["screen", "print", "talk"]


class ReportOptions(Options):
    """Options of `report`."""

    analyze: bool = option(True, "Compute dynamics and populations that no result holds.", kept=False)
    interactive: bool = option(
        False,
        "Some figures can be zoomed and turned; the page has at least 4.8 MB more. Needs the extra 'interactive'.",
        kept=False,
    )


class CompareOptions(Options):
    """Options of `compare`."""

    dsa: bool = option(
        False, "Compare how the latents run, by dynamical similarity analysis (package DSA).", kept=False
    )


class FigureOptions(Options):
    """Options of every function of `plot`."""

    style: FigureStyle = option("screen", "Sizes of text and lines: for a screen, a journal, or a talk.", kept=False)


class FigureSelections(Options):
    """What a function of `plot` draws of its Dataset; each function has some of these arguments."""

    rank: int = option(1, "Number of the latent or input, counted from 1.", kept=False, ge=1)
    trial: int = option(0, "Number of the trial, counted from 0.", kept=False, ge=0)
    level: float = option(0.9, "Probability of the intervals.", kept=False, gt=0, lt=1)
    most: int = option(20, "Largest number of values.", kept=False, ge=1)
    bins: int = option(24, "Number of bins.", kept=False, ge=1)
    axes: tuple[str, ...] = option((), "Give a list of the names of two axes.", kept=False)
    names: tuple[str, ...] | None = option(None, "Give a list of the names of inputs.", kept=False)
    groups: tuple[str, ...] | None = option(None, "Give a list of the names of groups.", kept=False)
    column: str = option("", "Name of a column of the conditions.", kept=False)
    by: str | None = option(None, "Name of a column.", kept=False)
    color_by: str | None = option(None, "Name of a column of the conditions.", kept=False)
    style_by: str | None = option(None, "Name of a column of the conditions.", kept=False)
    panel_by: str | None = option("auto", "Name of a column of the conditions.", kept=False)
    input_name: str | None = option(None, "Name of an input.", kept=False)
    area: str | None = option(None, "Name of an area.", kept=False)
    x: str | None = option(None, "Name of a vector.", kept=False)
    y: str | None = option(None, "Name of a vector.", kept=False)
    quantity: str = option("accuracy", "Name of a quantity.", kept=False)
    kind: str = option("choice", "Kind of the curve.", kept=False)
    window_s: Window | None = option(None, "Start and end of the window, s.", kept=False)
