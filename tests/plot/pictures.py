"""Image comparison: a figure is drawn small and compared with the picture kept beside the tests.

``python -m pytest tests/plot`` with NWB_LINT_NEW_PICTURES=1 draws the kept ones anew: look at them before they go in.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave

BASELINE = Path(__file__).parent / "baseline"
DPI = 50
BLOCK = 4  # pixels: text that another font shifts by one stays in its block
MOST = 0.06  # ink that is elsewhere or another, as a share of all of it


def picture(drawn: Axes | Figure) -> np.ndarray:
    """What a figure looks like: (row, column, RGB) in 0–1."""
    figure = drawn if isinstance(drawn, Figure) else drawn.get_figure(root=True)
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Absolute difference of the means of blocks, relative to the ink (1 - brightness) of the fuller picture."""

    def blocks(image: np.ndarray) -> np.ndarray:
        rows, columns = (size // BLOCK for size in image.shape[:2])
        cut = image[: rows * BLOCK, : columns * BLOCK]
        return cut.reshape(rows, BLOCK, columns, BLOCK, 3).mean(axis=(1, 3))

    first, second = blocks(a), blocks(b)
    return float(np.abs(first - second).sum() / max((1 - first).sum(), (1 - second).sum(), 1e-9))


def texts(ax: Axes) -> list[str]:
    """What the legend below a figure says."""
    return [text.get_text() for legend in ax.get_figure(root=True).legends for text in legend.get_texts()]


def assert_looks_like(drawn: Axes | Figure, name: str, most: float = MOST) -> None:
    """The figure looks like ``baseline/<name>.png``; where it does not, the new one is kept for a look."""
    found, path = picture(drawn), BASELINE / f"{name}.png"
    if os.environ.get("NWB_LINT_NEW_PICTURES"):
        BASELINE.mkdir(exist_ok=True)
        imsave(path, found)
        return
    if not path.exists():
        pytest.fail(f"there is no {path}; draw it with NWB_LINT_NEW_PICTURES=1 and look at it.")
    kept = imread(path)[..., :3]
    assert found.shape == kept.shape, f"{name} is {found.shape[:2]} pixels, the kept one {kept.shape[:2]}"
    apart = difference(found, kept)
    if apart > most:
        failed = Path(tempfile.gettempdir()) / f"{name}-failed.png"
        imsave(failed, found)
        version = matplotlib.__version__
        pytest.fail(f"{name} is {apart:.3f} off the kept picture, more than {most} (matplotlib {version}): {failed}")
