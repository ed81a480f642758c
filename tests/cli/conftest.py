"""A small session on disk and a recipe for it, made once."""

import numpy as np
import pytest

from nwb_lint.nwb.extension.write_session import write_session
from nwb_lint.tasks.demo import demo_session

RECIPE = """
sources = ["session.nwb"]
out = "fit.nwb"
[read]
by = ["context", {{ motion = "rank" }}]
align = "stimulus_time"
window_s = [-0.5, 0.8]
bin_s = 0.02
smooth_s = 0.04
where = "{where}"
[prepare]
center = [-0.5, -0.42]
time_course = false
n_components = {components}
[[inputs]]
name = "motion"
column = "motion"
window_s = [0.0, 0.8]
[[inputs]]
name = "context"
column = "context"
window_s = [-0.4, 0.8]
[fit]
test_size = 2
method = "regression"
[select]
ranks = [1, 2]
folds = 3
"""


@pytest.fixture(scope="session")
def session_file(tmp_path_factory):
    """A demo session of 20 units and 160 trials, with a column of times that are all NaN."""
    path = tmp_path_factory.mktemp("session") / "session.nwb"
    session = demo_session(seed=3, n_units=20, n_trials=160)
    trials = session.trials.assign(never_time=np.nan)
    write_session(path, session.spike_times, trials, session_id="small", subject=SUBJECT)
    return path


SUBJECT = {"subject_id": "simulated", "species": "Mus musculus", "sex": "U", "age": "P90D"}


@pytest.fixture
def recipe(session_file, tmp_path):
    """Write a recipe beside a link to the session; keywords change it."""
    (tmp_path / "session.nwb").symlink_to(session_file)

    def make(where="correct", components=8, **replacements):
        text = RECIPE.format(where=where, components=components)
        for old, new in replacements.items():
            name = old.replace("__", " ")
            assert name in text, name
            text = text.replace(name, new)
        path = tmp_path / "recipe.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return make
