"""The documentation site: `python -m sphinx -W --keep-going -n -b html docs docs/_build/html`, without a network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nwb_lint

sys.path.insert(0, str(Path(__file__).parents[1]))  # docs/ and tests/, for what the pages are made with
from docs import pages

project = "nwb_lint"
copyright = "the nwb_lint developers"
version = release = nwb_lint.__version__

extensions = [
    "myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx_click", "sphinx_copybutton",
    "sphinx_design",
]  # fmt: skip
templates_path = ["_templates"]
exclude_patterns = ["_build", "_made", "*.py"]

html_theme = "furo"
pygments_style, pygments_dark_style = "a11y-light", "a11y-dark"
html_title = f"nwb_lint {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
smartquotes = False  # --flag stays --flag

default_role = "py:obj"  # names in single backticks in docstrings
autosummary_generate = True
autodoc_typehints = "none"  # the docstrings name the types
numpydoc_show_class_members = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

os.environ.pop("MPLBACKEND", None)


def setup(app) -> None:
    """Make the pages that come from code before Sphinx looks for pages."""
    app.connect("builder-inited", lambda app: pages.make(Path(app.srcdir)))
    app.connect("builder-inited", pages.start_archive)
    app.connect("source-read", pages.lead_into_the_site)
