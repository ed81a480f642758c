"""Predicted and recorded photoinhibition in DANDI:000009 (Guo et al. 2017), and what four units can show of it.

    python examples/alm000009_photoinhibition.py            streams the file from DANDI (0.6 MB)
    python examples/alm000009_photoinhibition.py FILE.nwb   reads a local copy

In 63 of 412 trials, light silenced the left ALM (anterior lateral motor cortex) during the delay, from 1.3 s before the
go cue to the cue. The four recorded units are in the thalamus, so no silenced neuron was recorded. The unobserved units
of the fit represent all that was not recorded, ALM included. The data do not show which of these units are in ALM.
Random halves of them show how much the prediction depends on this.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np

import nwb_lint as nl

FILE = "dandi://000009/0.220126.1903/sub-anm00239123/sub-anm00239123_ses-20170627T093549_ecephys+ogen.nwb"
DELAY_S = (-1.3, 0.0)
TRIALS = "type in ('lick left', 'lick right') and response in ('correct', 'incorrect', 'early lick')"


def read(path: str, where: str, by: list[str]):
    """Rates around the go cue, without units that have no trial in some condition."""
    return nl.read_conditions(
        path,
        by=by,
        align="cue_start_time",
        window_s=(-2.0, 0.6),
        bin_s=0.02,
        smooth_s=0.05,
        where=where,
        infer_obs=True,
    )


def in_delay(rate, time) -> np.ndarray:
    """Mean over the delay: (condition, neuron), Hz."""
    inside = (time >= DELAY_S[0]) & (time < DELAY_S[1])
    return np.asarray(rate)[:, inside].mean(axis=1)


def main(path: str) -> None:
    """Fit trials without light, silence the fit's unobserved units in the delay, compare with the trials with light."""
    control = read(path, f"{TRIALS} and photo_stim_power == 0", ["type"])
    light = read(path, f"{TRIALS} and photo_stim_power > 0", ["type"])
    print(
        f"units with trials of both types: {control.sizes['neuron']} without light, {light.sizes['neuron']} with light"
    )
    print(control["n_trials"].to_pandas().to_string())
    print(light["n_trials"].to_pandas().to_string())
    inputs = [nl.Input("instruction", column="type", window_s=(-2.0, -1.3)), nl.Input("go cue", window_s=(0.0, 0.1))]
    activity = nl.prepare(control, inputs=inputs, n_components=None, time_course=False, burn_in_s=0.2)
    fit = nl.fit_lint(activity, rank=1, tau_s=0.1, hidden=60, test_size=0, seed=0)
    print(f"\nrank 1, 60 unobserved units, R² in training {float(fit['r2'].sel(split='train')):.3f}")

    seen = [str(n) for n in light["neuron"].values]
    before = in_delay(control["rate"].sel(neuron=seen), control["time"].values)
    recorded = in_delay(light["rate"].sel(neuron=seen), light["time"].values) - before
    unobserved = np.flatnonzero(~fit["recorded"].values)
    rng = np.random.default_rng(0)
    groups = {"all unobserved": unobserved}
    groups |= {f"half {k}": rng.permutation(unobserved)[: len(unobserved) // 2] for k in range(20)}
    found = nl.predict_inactivation(fit, groups, window_s=DELAY_S, controls=0)
    predicted = found["rate_change"].sel(neuron=seen)

    print("\nchange of the mean rate in the delay, Hz")
    print(
        f"  {'trials':12s} {'unit':>6s} {'without light':>14s} {'recorded':>9s} {'predicted':>10s}   5–95 % over halves"
    )
    for k, condition in enumerate(control["type"].values):
        for j, unit in enumerate(seen):
            low, high = np.quantile(predicted[1:, k, j], [0.05, 0.95])
            row = f"{before[k, j]:14.2f} {recorded[k, j]:9.2f} {float(predicted[0, k, j]):10.2f}"
            print(f"  {condition:12s} {unit:>6s} {row}   {low:.2f} to {high:.2f}")
    same = np.sign(recorded) == np.sign(predicted[0].values)
    print(
        f"\nThe sign agrees in {int(same.sum())} of {same.size} comparisons; {len(seen)} units have trials with light."
    )
    print(
        "None of these units was silenced. The comparison can refute a fit and cannot support it. It shows that every\n"
        "step from the file to the prediction works. A test needs recordings of the silenced population."
    )
    print(f"caution: {found.attrs['caution']}")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit("usage: python examples/alm000009_photoinhibition.py [FILE.nwb]")
    warnings.simplefilter("default", UserWarning)
    main(sys.argv[1] if len(sys.argv) == 2 else FILE)
