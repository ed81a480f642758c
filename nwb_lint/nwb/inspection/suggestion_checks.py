"""A suggested call is tried as the readers would, so that none is suggested which reading refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py

from nwb_lint.errors import NWBError
from nwb_lint.nwb.inspection.units import SpikesFound
from nwb_lint.nwb.recording.binning import make_bins
from nwb_lint.nwb.recording.spike_time_checks import SpikeTimeChecks, check_rows_at_once
from nwb_lint.nwb.recording.time_axis import TimeAxis, make_trial_time_axis
from nwb_lint.nwb.recording.trials import choose_trials, parse_by
from nwb_lint.nwb.recording.units import valid_times
from nwb_lint.parallel.warnings import collect_warnings


def check_suggestion(file: h5py.File, path: Any, arguments: Mapping[str, Any], spikes: SpikesFound | None) -> None:
    """Choose the trials of a suggested call, and check their times and those of the spikes that were read before.

    Parameters
    ----------
    file : h5py.File
        An open NWB file.
    path : object
        Where the file is, for messages.
    arguments : mapping
        From `suggest_from`.
    spikes : SpikesFound or None
        From `read_spike_times`; None if they were not read.

    Raises
    ------
    NWBError
        If reading would refuse the file.
    """
    if spikes is not None and spikes.start_over:
        raise NWBError(spikes.start_over)
    with collect_warnings():  # reading the file gives them
        valid_times(file)
        how: dict[str, Any] = {name: arguments.get(name) for name in ("where", "align")}
        trials = choose_trials(file, path, table=arguments["table"], factors=parse_by(arguments["by"]), **how)
        bins = make_bins(arguments["window_s"], arguments["bin_s"])
        has_obs = spikes is not None and spikes.has_obs
        axis = make_trial_time_axis(trials, TimeAxis(bins, None, bool(arguments.get("infer_obs"))))
        check_rows_at_once(trials, axis)
        if spikes is not None and "series" not in arguments:
            checks = SpikeTimeChecks(trials, axis, has_obs)
            checks.add_ranges(spikes.labels, spikes.ends, spikes.observed, spikes.evidence)
            checks.finish()
