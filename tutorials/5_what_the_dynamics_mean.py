# %% [markdown]
# # What the dynamics mean: latents, flow, fixed points
#
# A network of low rank has few latents. Their change depends only on the latents
# themselves and on the inputs, so the dynamics can be drawn completely. This tutorial
# draws them, and asks which features would be there with other trials.

# %%
from pathlib import Path

import nwb_lint as nl
from nwb_lint import plot
from nwb_lint.tasks.demo import demo_session
from nwb_lint.workflow.demo import write_demo_session

session = Path("sixty_units.nwb")
if not session.exists():
    write_demo_session(demo_session(n_units=60, seed=1), session)

recording = nl.read_conditions(
    session,
    by=["context", "motion", "color"],
    align="stimulus_time",
    window_s=(-0.5, 0.8),
    bin_s=0.02,
    smooth_s=0.04,
    where="correct",
    halves=True,
    draws=30,  # resamples of the trials, for the question at the end; 200 for real data
)


def prepare(recording):
    inputs = [
        nl.Input("motion", column="motion", window_s=(0, 0.8)),
        nl.Input("color", column="color", window_s=(0, 0.8)),
        nl.Input("context", column="context", window_s=(-0.4, 0.8)),
    ]
    return nl.prepare(recording, inputs=inputs, center=(-0.5, -0.42), time_course=False)


activity = prepare(recording)
fit = nl.fit_lint(activity, rank=1, tau_s=0.1, test_size=0)

# %% [markdown]
# ## The latents
#
# The pale lines are the latent of the data, the others that of the network, which runs
# by itself on its inputs. Ask first: do they agree? Then: which conditions differ, and
# when do they part?

# %%
plot.latents_over_time(fit, activity)

# %% [markdown]
# ## The overlaps
#
# How the network works is in a few numbers: the overlaps of n, which reads from the
# neurons, with m, to which the recurrence writes, and with the weights of the inputs.
# An overlap n·m near 1 holds a value for long, above 1 there can be two stable states,
# and far below 1 the latent follows its input. An overlap n·I says how strongly an
# input drives the latent.

# %%
found = nl.connectivity(fit)
print("n·m:", found["overlap_m"].values.round(2))
print(found["overlap_input"].to_pandas().round(2).to_string())

# %% [markdown]
# ## The flow
#
# For a constant input, the change of the latent is a function of the latent. Where it
# is 0, there is a *fixed point*: stable if activity nearby returns to it, unstable if
# it moves away. The input here is that of condition 0.

# %%
field, points = nl.flow_field(fit, condition=0), nl.fixed_points(fit, condition=0)
print("input:", fit["condition"].values[0])
plot.flow(field, points, fit)

# %% [markdown]
# ## Would other trials show the same?
#
# Fits to noisy means often have attractors that the circuit does not have. `bootstrap`
# fits resampled trials, and estimates intervals from simulations of the network. With
# it, `fixed_points` says which points are *supported*: at most one standard deviation
# from what the trajectories visited, and present in at least 80 % of the fits to
# resampled trials.

# %%
resampled = nl.bootstrap(
    fit,
    recording,
    prepare=prepare,
    simulations=20,  # 100 for real data
)
for condition in (0, 15, 31):
    points = nl.fixed_points(fit, condition=condition, bootstrap=resampled)
    print(fit["condition"].values[condition])
    columns = [
        "stability",
        "supported",
        "share_draws",
        "near_marginal",
        "kappa",
        "kappa_low",
        "kappa_high",
    ]
    print(points[columns].isel(rank=0).to_dataframe().round(2).to_string(), "\n")

# %% [markdown]
# - Points that are not *supported* should not be reported.
# - *near_marginal*: in trials of this length, this point cannot be distinguished from a
#   point at which nothing moves, such as a point of a line attractor.
#
# The same simulations give intervals of 90 % for the overlaps, and a reason in their
# place where such intervals would not hold. `estimate` is that of the fit, which its
# ridge makes smaller or larger; `corrected` and the interval are without this bias.
# Where the two differ, report the interval.

# %%
table = resampled[["estimate", "corrected", "low", "high", "reason"]].to_dataframe()
table["reason"] = table["reason"].str.slice(0, 50)
print(table.round(2).to_string())

# %% [markdown]
# The more trials there are, the more of these have an interval. A number without an
# interval is not known from this recording, whatever the fit says.
#
# ## Oscillations
#
# `nl.limit_cycles` finds periodic orbits of networks of rank 2 or more, with their
# period and stability. Networks of rank 1 have none.

# %% [markdown]
# ## The same dynamics in another animal?
#
# Two animals have other neurons, and their latents have other coordinates. So
# `nl.compare_dynamics` compares how the networks run with the same inputs. Chance is
# measured within each animal: its conditions are split at random, both halves are
# fitted, and their distance is taken. Here the "animals" are two halves of the neurons
# of this session, and a network whose connectivity is far weaker.

# %%
systems = {
    "first half": activity.isel(neuron=slice(0, None, 2)),
    "second half": activity.isel(neuron=slice(1, None, 2)),
    "weaker": fit.assign(n=0.5 * fit["n"]),
}
compared = nl.compare_dynamics(
    systems, measure="prediction", rank=1, tau_s=0.1, method="regression", hidden=50
)
print(compared["distance"].to_pandas().round(3).to_string(), "\n")
print(compared["call"].to_pandas().to_string())
plot.dynamics_distances(compared)

# %% [markdown]
# - *different*: the distance is larger than 95 % of those between halves of an animal.
# - *alike*: it is not, and it is smaller than what a connectivity changed by half does.
# - *cannot tell*: it is neither; more conditions or trials are needed.
#
# `measure="dsa"`, the default, is dynamical similarity analysis, which needs the extra
# `dsa`. Both see the runs with these inputs only: mechanisms that lead to the same
# latents are called alike.
