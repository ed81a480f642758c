# %% [markdown]
# # A lab pipeline: recipes, Snakemake, clusters
#
# A lab has many sessions and one analysis. It should run again when a session is added,
# do nothing when nothing changed, and use a cluster if there is one. The command line
# is made for this. Below, `command(…)` runs a line as a terminal would.

# %%
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nwb_lint as nl
from nwb_lint.cli import main
from nwb_lint.tasks.demo import demo_session
from nwb_lint.workflow.demo import write_demo_session


def command(line):
    print("$", line)
    main(shlex.split(line)[1:], standalone_mode=False)


for k in (1, 2):  # two simulated sessions stand for yours
    if not Path(f"session_{k}.nwb").exists():
        write_demo_session(demo_session(n_units=40, seed=k), f"session_{k}.nwb")

# %% [markdown]
# ## One recipe for all sessions
#
# `nwb-lint init session_1.nwb > recipe.toml` writes a recipe with the columns of the
# file filled in. Edit it, and keep it with your code. A recipe is data: it never runs
# code, so that a recipe of somebody else is safe to use.

# %%
Path("recipe.toml").write_text(
    """\
sources = ["session_1.nwb"]

[read]
by = ["context", "motion", "color"]
align = "stimulus_time"
window_s = [-0.5, 0.8]
bin_s = 0.02
smooth_s = 0.04
where = "correct"

[prepare]
center = [-0.5, -0.42]
time_course = false

[[inputs]]
name = "motion"
column = "motion"
window_s = [0.0, 0.8]

[[inputs]]
name = "color"
column = "color"
window_s = [0.0, 0.8]

[[inputs]]
name = "context"
column = "context"
window_s = [-0.4, 0.8]

[fit]
tau_s = 0.1
method = "regression"

[select]
ranks = [1, 2]
folds = 4
""",
    encoding="utf-8",
)

# %% [markdown]
# Every field is described on the page *Options*. Flags override the recipe, and
# `--source` its files:

# %%
for k in (1, 2):
    command(
        f"nwb-lint fit recipe.toml --source session_{k}.nwb --out fit_{k}.nwb --no-plot"
    )

# %% [markdown]
# ## Nothing twice
#
# A fit remembers its recipe, the version of nwb_lint, and the checksums of its files.
# If all are the same, nothing is done. If one differs, the command stops and asks for
# `--force`, so that a result is never replaced by accident.

# %%
command("nwb-lint fit recipe.toml --source session_1.nwb --out fit_1.nwb --no-plot")

# %% [markdown]
# ## A table of all sessions

# %%
for k in (1, 2):
    fit = nl.read_fit(f"fit_{k}.nwb")
    held_out = float(fit["rank_r2"].sel(split="held_out").max())
    print(
        f"fit_{k}.nwb: rank {fit.sizes['rank']}, {fit.sizes['neuron']} units, held-out R² {held_out:.2f}"
    )

# %% [markdown]
# ## With Snakemake
#
# [Snakemake](https://snakemake.readthedocs.io) runs what is missing or older than its
# sources, side by side, on one machine or on a cluster. A `Snakefile` for all sessions
# of a folder (not run here, since it needs Snakemake):
#
# ```text
# SESSIONS = glob_wildcards("nwb/{session}.nwb").session
#
# rule all:
#     input: expand("fits/{session}.nwb", session=SESSIONS)
#
# rule fit:
#     input: recording="nwb/{session}.nwb", recipe="recipe.toml"
#     output: "fits/{session}.nwb"
#     threads: 1
#     shell: "nwb-lint fit {input.recipe} --source {input.recording} --out {output} --force --no-plot"
# ```
#
# `snakemake --cores 8` then fits all sessions. Exit statuses are what such programs
# need: 0 success, 1 failure with one line that says why, 2 wrong usage.
#
# ## Many fits of one session
#
# Choosing a rank with nine folds, baselines, and a bootstrap of 200 draws are hundreds
# of fits. They run side by side:
#
# ```text
# nwb-lint fit recipe.toml --workers 8 --cache-dir cache            # this machine
# nwb-lint fit recipe.toml --dask login01:8786 --cache-dir cache    # a Dask cluster that is already running
# ```
#
# `--cache-dir` keeps finished fits: a run that was stopped does only the rest.
#
# In Python, all functions that fit many times take `executor` and `cache_dir`. The
# results are the same whatever runs the fits:

# %%
times = {
    "align": "stimulus_time",
    "window_s": (-0.5, 0.8),
    "bin_s": 0.02,
    "smooth_s": 0.04,
}
recording = nl.read_conditions(
    "session_1.nwb", by=["context", "motion", "color"], where="correct", **times
)
inputs = [
    nl.Input(name, column=name, window_s=(0.0, 0.8)) for name in ("motion", "color")
]
inputs += [nl.Input("context", column="context", window_s=(-0.4, 0.8))]
activity = nl.prepare(recording, inputs=inputs, center=(-0.5, -0.42), time_course=False)
with ThreadPoolExecutor(2) as executor:
    table = nl.select_rank(
        activity,
        ranks=[1, 2],
        tau_s=0.1,
        folds=4,
        method="regression",
        executor=executor,
        cache_dir="cache",
    )
print(table["rank_r2"].to_pandas().round(2))

# %% [markdown]
# On SLURM, with [dask-jobqueue](https://jobqueue.dask.org) (one thread a process;
# workers need the same version of nwb_lint; not run here, since it needs a cluster):
#
# ```text
# from dask.distributed import Client
# from dask_jobqueue import SLURMCluster
#
# cluster = SLURMCluster(cores=8, processes=8, memory="32GB", walltime="02:00:00")
# cluster.scale(jobs=10)  # 80 workers as soon as the queue starts them
# table = nl.select_rank(activity, ranks=range(1, 6), tau_s=0.1, executor=Client(cluster), cache_dir="cache")
# ```
#
# With Dask, the fits of a worker that dies are repeated on another one. A plain pool of
# processes ends where a process dies, and `cache_dir` resumes it.
