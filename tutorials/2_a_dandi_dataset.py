# %% [markdown]
# # A dataset from DANDI
#
# The [DANDI archive](https://dandiarchive.org) has thousands of recordings in NWB.
# nwb_lint reads them by their address. Only the tables and the spikes of the chosen
# units are fetched, not the whole file.
#
# This tutorial reads a session of dandiset 000009 (Guo et al., Nature 2017): mice
# remember during a delay whether to lick left or right. The file has 0.6 MB.
#
# *The output on this page comes from a small simulated session with the same columns,
# since these pages are made without a network connection. With a connection, the same
# code reads the real session.*

# %%
import nwb_lint as nl
from nwb_lint import plot
from nwb_lint.cli import main

session = "dandi://000009/0.220126.1903/sub-anm00239123/sub-anm00239123_ses-20170627T093549_ecephys+ogen.nwb"

# %% [markdown]
# An address has the dandiset, its version, and the path of the file:
# `dandi://000009/0.220126.1903/sub-…/….nwb`. `dandi://000009/draft/…` is the draft, and
# a `*` stands for any text. A published version never changes, so a fit to it can be
# repeated. The address of a page of the archive works too:
# [all forms](../howto/files.md).
#
# ## What does the file hold?
#
# In a terminal: `nwb-lint inspect ADDRESS`. Here the same from Python:

# %%
main(["inspect", session], standalone_mode=False)

# %% [markdown]
# ## Conditions, and what to leave out
#
# - `by`: lick left or right, and whether the answer was correct.
# - `align`: the go cue. It has no time in trials that ended early; these trials are
#   dropped and counted.
# - `where`: trials with light are left out. In them a part of the brain was silenced,
#   so they are another experiment.
# - `infer_obs=True`: a unit that was lost during the session has no spikes after its
#   last one. The file does not say when it was lost, and without this option its
#   silence would count as a rate of 0 Hz.

# %%
recording = nl.read_conditions(
    session,
    by=["type", "response"],
    align="cue_start_time",
    window_s=(-1.0, 1.0),
    bin_s=0.02,
    smooth_s=0.05,
    where="type in ('lick left', 'lick right') and response in ('correct', 'incorrect') and photo_stim_power == 0",
    infer_obs=True,
    halves=True,
)
print(recording["n_trials"].to_pandas())

# %% [markdown]
# Look at the numbers of trials before anything else. A mean over three trials is mostly
# noise.
#
# ## Inputs and fit
#
# The mouse felt the instruction before this window begins, so its input is on from the
# first bin. The go cue is a short pulse. `burn_in_s` lets the network run on its inputs
# before the first bin, so that it need not start at rest.

# %%
inputs = [
    nl.Input("instruction", column="type", window_s=(-1.2, 1.0)),
    nl.Input("go cue", window_s=(0.0, 0.1)),
]
activity = nl.prepare(
    recording, inputs=inputs, n_components=4, time_course=False, burn_in_s=0.2
)
fit = nl.fit_lint(activity, rank=1, tau_s=0.1, test_size=0)
print("R²", fit["r2"].values.round(2), "of at most", fit["r2_ceiling"].values.round(2))
plot.latents_over_time(fit, activity, color_by="type", style_by="response")

# %% [markdown]
# Four units and four conditions, as in the real session, show that every step works on
# a real file. They are too few to hold conditions out (`test_size=0`) and too few for a
# mechanism.
#
# ## Where the fit came from
#
# A fit remembers dandiset, version, path and checksum of its recordings. `write_fit`
# stores them.

# %%
for name in ("dandiset", "version", "asset_path", "digest"):
    print(f"{name}: {fit[f'file_{name}'].values[0]}")

# %% [markdown]
# ## Private and embargoed dandisets
#
# The token is found as the `dandi` command finds it: in the variable `DANDI_API_KEY`,
# or in the keyring after `dandi upload` was used once. It is sent to the archive only,
# over https, and never written into a file. Another archive is chosen by `DANDI_INSTANCE`, or in
# the address: `dandi://ember-dandi/000128/…`.
#
# What was fetched once is kept on disk (`NWB_LINT_CACHE`, at most `NWB_LINT_CACHE_GB`,
# default 10). `download=True` keeps the whole file, for work without a connection.
