"""Options of reports, comparisons of two fits, and figures."""

from __future__ import annotations

from typing import Literal

from nwb_lint.options.base import Options, option

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
