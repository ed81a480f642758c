"""Figures. Every function takes Datasets, and Axes to draw on, and returns the Axes.

Without ``ax`` a function makes a new figure, which is ``ax.figure``. `summary` and `session_summary` return a whole
Figure. ``style`` sets the sizes of text and lines, and ends with the figure. No function uses pyplot, so no global
state changes."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
