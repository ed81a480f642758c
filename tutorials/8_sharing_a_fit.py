# %% [markdown]
# # Sharing a fit on DANDI
#
# A fitted network in an NWB file can be read by anybody with pynwb, without nwb_lint:
# the file carries the definition of its own types (`ndx-lowrank`). This tutorial writes
# such a file, looks at it with plain pynwb, checks it as DANDI does, and exports it for
# people without NWB.

# %%
import shlex
from pathlib import Path

import nwb_lint as nl
import pynwb
from nwb_lint.cli import main
from nwb_lint.tasks.demo import demo_session
from nwb_lint.workflow.demo import write_demo_session

session = Path("shared_session.nwb")
if not session.exists():
    write_demo_session(demo_session(n_units=40, seed=1), session)
times = {
    "align": "stimulus_time",
    "window_s": (-0.5, 0.8),
    "bin_s": 0.02,
    "smooth_s": 0.04,
}
recording = nl.read_conditions(
    session, by=["context", "motion", "color"], where="correct", **times
)
inputs = [
    nl.Input(name, column=name, window_s=(0.0, 0.8)) for name in ("motion", "color")
]
inputs += [nl.Input("context", column="context", window_s=(-0.4, 0.8))]
activity = nl.prepare(recording, inputs=inputs, center=(-0.5, -0.42), time_course=False)
fit = nl.fit_lint(activity, rank=1, tau_s=0.1, method="regression", test_size=0)

# %% [markdown]
# ## Write the fit, and results beside it
#
# Subject, session and experimenters are taken from the recording. DANDI needs the
# subject's id, species, sex and age; what the recording does not say, you add.
# `results` are analyses that were computed from this fit.

# %%
subject = {
    "subject_id": "mouse-12",
    "species": "Mus musculus",
    "sex": "F",
    "age": "P90D",
}
nl.write_fit(
    fit,
    "fit.nwb",
    subject=subject,
    results={"fixed_points": nl.fixed_points(fit)},
    overwrite=True,
)

# %% [markdown]
# By default this is a file of its own, which names its recording by path and SHA-256.
# With `nl.write_fit(fit, "whole.nwb", into=session)` it is a full copy of the recording
# with the fit inside. The recording itself is never changed.
#
# ## What others see: plain pynwb

# %%
with pynwb.NWBHDF5IO("fit.nwb", "r", load_namespaces=True) as io:
    content = io.read().processing["ecephys"].data_interfaces
    for name, part in content.items():
        print(f"{name}: {part.neurodata_type}")
    network = content["lowrank_fit"]
    print("m:", network.m.shape, " inputs:", list(network.input_name[:]))
    print(
        "latents:",
        network.latents.data.shape,
        "at",
        network.latents.timestamps[:2],
        "s",
    )
    print(
        network.conditions.to_dataframe()[["start_time", "stop_time", "condition"]][:2]
    )

# %% [markdown]
# Latents, inputs, predicted activity and rates are TimeSeries, and the conditions are
# TimeIntervals. So `pynapple.load_file("fit.nwb")` lists them, and neurosift draws them.
# Means over trials have no time of the session: their conditions stand one after another.
# The package `ndx-lowrank` has the classes for other software; it needs pynwb alone.
#
# And with nwb_lint, everything comes back unchanged:

# %%
again = nl.read_fit("fit.nwb")
assert again["activity_pred"].identical(fit["activity_pred"])
print(nl.read_result("fit.nwb", name="fixed_points")["stability"].values)
print("checksum of the content:", again.encoding["verified"])

# %% [markdown]
# ## To DANDI
#
# `--dry-run` validates the file with the validators of DANDI and says where it would
# go. Nothing is sent:

# %%
command = "nwb-lint publish fit.nwb --dandiset 000123 --dry-run"
print("$", command)
main(shlex.split(command)[1:], standalone_mode=False)

# %% [markdown]
# Without `--dry-run` the file is uploaded to the draft of the dandiset. The key is
# found as the `dandi` command finds it (`DANDI_API_KEY`, or the keyring). Try it on the
# sandbox of DANDI first: `--instance dandi-sandbox`.
#
# A second fit of the same subject and session needs `--description`, such as
# `--description rank2`. Absolute paths of your computer are not sent: a copy says the
# name of the file in their place, and a note names them. What the archive may answer,
# and what to do then: [The archive refuses my upload](../howto/files.md).
#
# ## For people without NWB
#
# netCDF is read by MATLAB (`ncread`), R, Julia and xarray:

# %%
command = "nwb-lint export fit.nwb -o fit.nc --force"
print("$", command)
main(shlex.split(command)[1:], standalone_mode=False)

# %% [markdown]
# `nwb-lint import fit.nc -o again.nwb` is the way back, without a loss.
#
# ## What to share beside the file
#
# A report on one page, `nwb-lint report fit.nwb`, is a good supplement: it needs no
# other file.
#
# The recipe (or the script), the version of nwb_lint (`nwb-lint --version`; the fit
# keeps it too), and the figures with the ceiling of every score.
