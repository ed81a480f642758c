"""Table of what reading costs: seconds, memory and requests, beside other readers in the same run.

`python benchmarks/read.py [tensor] [http] [sessions] [scale] [--quick] [--folder FOLDER]`; all four by default. The
files are made in a temporary folder (2.6 GB at full size). The peers pynapple and elephant (which takes minutes) are no
dependencies: `pip install pynapple elephant` in the same environment; without them their rows say so. A loop over pynwb
is always run.

tensor    500 units, 2e7 spikes, 1000 trials → 72 conditions × 240 bins of 5 ms, smoothed by 50 ms
http      units and trials, and the spikes of 20 of 500 units, of a 1 GB file from a server on this machine
sessions  100 files of one unit each in one pseudo-population
scale     1e8 spikes in 2000 units

Seconds are of runs in a process of their own, after a small file was read there, so that neither imports nor
just-in-time compilers are counted; of ours and pynapple the median of three processes each, in turn, of three runs each
(a process keeps the pace of the memory it was given: pynapple's differ twofold); CPU seconds say more where other work
is about. Memory is what the peak of that process (VmHWM of Linux) grows by in the first of its runs. Agreement is the
largest difference in rate over the largest rate. Exit status 1 where a bound is missed.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd

from nwb_lint import read_conditions
from nwb_lint.errors import NWBError
from nwb_lint.nwb.extension.write_session import write_session

MB = 1e6
CLOCK_HZ = 30_000
BY = ["motion", "color", "context"]
WINDOW_S, BIN_S, SMOOTH_S = (-0.2, 1.0), 0.005, 0.05
READ: dict[str, Any] = {
    "by": BY, "align": "cue_time", "window_s": WINDOW_S, "bin_s": BIN_S, "smooth_s": SMOOTH_S,
}  # fmt: skip
HEADER = ("task", "reader", "seconds", "CPU s", "ratio", "agreement", "peak MB", "bound", "holds")


class Size(NamedTuple):
    """How large a file is."""

    n_units: int
    n_spikes: int
    n_trials: int


SIZES = {
    "tensor": (Size(500, 20_000_000, 1000), Size(50, 1_000_000, 288)),
    "http": (Size(500, 125_000_000, 1000), Size(500, 5_000_000, 288)),
    "scale": (Size(2000, 100_000_000, 1000), Size(500, 5_000_000, 288)),
}
N_SESSIONS = (100, 10)
ROUNDS = 3


def make_file(path: Path, size: Size, *, seed: int = 0) -> Path:
    """A session of Poisson units on a clock of 30 kHz; cues lie between its ticks, so that no reader can round a
    spike across the edge of a bin."""
    rng = np.random.default_rng(seed)
    end, n = 3.6 * size.n_trials, np.arange(size.n_trials)
    start = np.round(1 + 3.6 * n, 3)
    trials = pd.DataFrame(
        {
            "start_time": start,
            "stop_time": start + 2.5,
            "cue_time": start + 0.5 + 0.5 / CLOCK_HZ,
            "motion": n % 6 - 2.5,
            "color": n // 6 % 6 - 2.5,
            "context": np.array(["color", "motion"])[n // 36 % 2],
        }
    )
    write_session(path, [np.array([1.0, 2.0])] * size.n_units, trials, session_id=path.stem)
    per_unit = size.n_spikes // size.n_units
    with h5py.File(path, "r+") as file:
        units = file["units"]
        kept = {name: dict(units[name].attrs) for name in ("spike_times", "spike_times_index")}
        del units["spike_times"], units["spike_times_index"]
        times = units.create_dataset("spike_times", (per_unit * size.n_units,), "f8")
        for unit in range(size.n_units):
            ticks = np.sort(rng.integers(0, int(end * CLOCK_HZ), per_unit))
            times[unit * per_unit : (unit + 1) * per_unit] = ticks / CLOCK_HZ
        index = units.create_dataset("spike_times_index", data=per_unit * np.arange(1, size.n_units + 1))
        times.attrs.update(kept["spike_times"])
        index.attrs.update(kept["spike_times_index"] | {"target": times.ref})
    return path


def ours(path: str) -> np.ndarray:
    """Rates (condition, time, neuron) by `read_conditions`."""
    return read_conditions(path, **READ)["rate"].values


def pynapple(path: str) -> np.ndarray:
    """The same by pynapple: load_file, build_tensor, mean per condition; smoothed by scipy."""
    import pynapple as nap

    data = nap.load_file(path)
    trials = data["trials"].as_dataframe()
    cue = trials["cue_time"].to_numpy()
    tensor = nap.build_tensor(data["units"], nap.IntervalSet(cue + WINDOW_S[0], cue + WINDOW_S[1]), bin_size=BIN_S)
    codes = trials.groupby(BY).ngroup().to_numpy()
    means = np.stack([tensor[:, codes == code].mean(axis=1) for code in range(codes.max() + 1)])
    return smoothed(means.transpose(0, 2, 1) / BIN_S)


def pynwb(path: str) -> np.ndarray:
    """The same as people write it: a loop over the units of a pynwb file, np.histogram for every trial."""
    from pynwb import NWBHDF5IO

    with NWBHDF5IO(path, "r") as io:
        file = io.read()
        trials = file.trials.to_dataframe()
        codes = trials.groupby(BY).ngroup().to_numpy()
        cue = trials["cue_time"].to_numpy()
        n_bins = round((WINDOW_S[1] - WINDOW_S[0]) / BIN_S)
        edges = WINDOW_S[0] + BIN_S * np.arange(n_bins + 1)
        sums = np.zeros((codes.max() + 1, n_bins, len(file.units)))
        for unit in range(len(file.units)):
            times = file.units["spike_times"][unit]
            ends = np.searchsorted(times, np.stack([cue + edges[0], cue + edges[-1]], axis=1))
            for code, at, (low, high) in zip(codes, cue, ends, strict=True):
                sums[code, :, unit] += np.histogram(times[low:high] - at, edges)[0]
    return smoothed(sums / (np.bincount(codes)[:, None, None] * BIN_S))


def elephant(path: str) -> np.ndarray:
    """The same by elephant: neo spike trains cut to each trial's window, binned, summed per condition."""
    import neo
    import quantities as pq
    from elephant.conversion import BinnedSpikeTrain
    from pynwb import NWBHDF5IO

    with NWBHDF5IO(path, "r") as io:
        file = io.read()
        trials = file.trials.to_dataframe()
        end = (trials["stop_time"].max() + WINDOW_S[1] + 1) * pq.s
        spikes = [file.units["spike_times"][unit] for unit in range(len(file.units))]
    trains = [neo.SpikeTrain(times, units="s", t_stop=end) for times in spikes]
    codes = trials.groupby(BY).ngroup().to_numpy()
    n_bins = round((WINDOW_S[1] - WINDOW_S[0]) / BIN_S)
    sums = np.zeros((codes.max() + 1, n_bins, len(trains)))
    for code, cue in zip(codes, trials["cue_time"], strict=True):
        start, stop = (cue + WINDOW_S[0]) * pq.s, (cue + WINDOW_S[1]) * pq.s
        cut = [train.time_slice(start, stop) for train in trains]
        binned = BinnedSpikeTrain(cut, bin_size=BIN_S * pq.s, t_start=start, n_bins=n_bins)
        sums[code] += binned.to_array().T
    return smoothed(sums / (np.bincount(codes)[:, None, None] * BIN_S))


def smoothed(rate: np.ndarray) -> np.ndarray:
    """Gaussian smoothing along time that does not fade at the ends."""
    from scipy.ndimage import gaussian_filter1d

    sd = SMOOTH_S / BIN_S
    ends = gaussian_filter1d(np.ones(rate.shape[1]), sd, mode="constant")
    return gaussian_filter1d(rate, sd, axis=1, mode="constant") / ends[:, None]


READERS: dict[str, Callable[[str], np.ndarray]] = {
    "ours": ours, "pynapple": pynapple, "elephant": elephant, "pynwb": pynwb,
}  # fmt: skip


def measure(reader: str, path: str, small: str, repeats: int, out: str) -> dict[str, float]:
    """Run a reader in this process: median seconds of several, and growth of the peak memory in the first."""
    READERS[reader](small)
    before = resident("VmRSS", reset=True)
    seconds, cpu, peak = [], [], 0.0
    for k in range(repeats):
        start, busy = perf_counter(), process_time()
        rate = READERS[reader](path)
        seconds.append(perf_counter() - start)
        cpu.append(process_time() - busy)
        if not k:
            peak = resident("VmHWM") - before
    if out:
        np.save(out, rate)
    return {"seconds": float(np.median(seconds)), "cpu": float(np.median(cpu)), "peak": peak}


def resident(what: str, *, reset: bool = False) -> float:
    """Resident memory of this process now (VmRSS) or at its peak (VmHWM), bytes; NaN where there is no /proc.

    Not ru_maxrss: a new process inherits that of the one that started it.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in status.read_text().splitlines() if line.startswith(what))
    return 1024 * float(line.split()[1])


def in_process(reader: str, path: Path, small: Path, repeats: int, out: Path | None = None) -> dict[str, float] | str:
    """`measure` in a process of its own; the last line of its complaint where it fails."""
    command = [sys.executable, __file__, "--measure", reader, str(path), str(small), str(repeats), str(out or "")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    return json.loads(done.stdout.splitlines()[-1])


def in_turn(readers: tuple[str, ...], path: Path, small: Path, folder: Path) -> list[dict[str, float] | str]:
    """`in_process` of each reader, `ROUNDS` times in turn: the median, or a complaint."""
    rounds = [
        [in_process(reader, path, small, 3, folder / f"{reader}.npy") for reader in readers] for _ in range(ROUNDS)
    ]
    found: list[dict[str, float] | str] = []
    for of_reader in zip(*rounds, strict=True):
        failed = [one for one in of_reader if isinstance(one, str)]
        found.append(failed[0] if failed else pd.DataFrame(of_reader).median().to_dict())
    return found


def row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def cells(found: dict[str, float], ratio: str = "", agreement: str = "") -> list[str]:
    """What was measured, as cells of the table."""
    return [f"{found['seconds']:.3f}", f"{found['cpu']:.3f}", ratio, agreement, f"{found['peak'] / MB:.0f}"]


MISSED: list[str] = []


def verdict(holds: bool, text: str, *, judged: bool = True) -> str:
    """Whether a bound holds; bounds of full size are not judged on small files."""
    if not judged:
        return "–"
    MISSED.extend([] if holds else [text])
    return "yes" if holds else "NO"


def tensor(folder: Path, quick: bool) -> None:
    """Ours against pynapple, elephant and a loop over pynwb."""
    size = SIZES["tensor"][quick]
    path, small = make_file(folder / "tensor.nwb", size), make_file(folder / "small.nwb", Size(3, 3000, 72))
    mine, napped = in_turn(("ours", "pynapple"), path, small, folder)
    if isinstance(mine, str):
        row("tensor", "ours", mine, "", "", "", "", "", verdict(False, "tensor"))
        return
    rate = np.load(folder / "ours.npy")
    bound = (8 * size.n_spikes + 2 * rate.nbytes) / MB
    held = verdict(mine["peak"] / MB < bound, "memory of tensor", judged=not quick)
    row("tensor", "ours", *cells(mine), f"{bound:.0f} MB", held)
    for peer, least in (("pynapple", 30), ("elephant", 1), ("pynwb", 1)):
        theirs = napped if peer == "pynapple" else in_process(peer, path, small, 1, folder / f"{peer}.npy")
        if isinstance(theirs, str):
            row("tensor", peer, theirs, "", "", "", "", "", "not run")
            continue
        apart = float(np.abs(np.load(folder / f"{peer}.npy") - rate).max() / rate.max())
        ratio = theirs["seconds"] / mine["seconds"]
        held = verdict(apart < 1e-5 and (quick or ratio >= least), f"tensor against {peer}")
        row("tensor", peer, *cells(theirs, f"{ratio:.0f}", f"{apart:.1e}"), f"ratio {least}, 1e-5", held)


def scale(folder: Path, quick: bool) -> None:
    """Memory where the spikes are many."""
    path = make_file(folder / "scale.nwb", SIZES["scale"][quick])
    mine = in_process("ours", path, make_file(folder / "small.nwb", Size(3, 3000, 72)), 1)
    if isinstance(mine, str):
        row("scale", "ours", mine, "", "", "", "", "", verdict(False, "scale"))
    else:
        held = verdict(mine["peak"] < 2e9, "memory of scale")
        row("scale", "ours", *cells(mine), "2000 MB", held)
    path.unlink()


def sessions(folder: Path, quick: bool) -> None:
    """Seconds a file where there are many."""
    first, n = make_file(folder / "session.nwb", Size(1, 15_000, 2000)), N_SESSIONS[quick]
    many = folder / "sessions"
    many.mkdir()
    for k in range(n):
        shutil.copy(first, many / f"{k:03d}.nwb")
    read_conditions(first, **READ)
    start = perf_counter()
    found = read_conditions(str(many / "*.nwb"), **READ)
    seconds = perf_counter() - start
    held = verdict(found.sizes["neuron"] == n and seconds / n < 0.1, "sessions")
    row(f"sessions ({n})", "ours", f"{seconds:.2f}", "", "", "", "", f"0.1 s a file: {seconds / n:.3f}", held)


class Ranges(http.server.BaseHTTPRequestHandler):
    """Serves one file by ranges of bytes, and counts requests and bytes."""

    protocol_version = "HTTP/1.1"
    path_on_disk: Path
    requests = 0
    sent = 0

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        type(self).requests += 1
        size = self.path_on_disk.stat().st_size
        wanted = self.headers.get("Range")
        first, last = 0, size - 1
        if wanted:
            low, _, high = wanted.removeprefix("bytes=").partition("-")
            first, last = (size - int(high), size - 1) if not low else (int(low), min(int(high or last), last))
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if body:
            with self.path_on_disk.open("rb") as stream:
                stream.seek(first)
                left = last - first + 1
                while left > 0:
                    part = stream.read(min(left, 1 << 20))
                    self.wfile.write(part)
                    type(self).sent += len(part)
                    left -= len(part)

    def log_message(self, *_: Any) -> None:
        pass


def streaming(folder: Path, quick: bool) -> None:
    """Requests and bytes for index, trials and 20 units: adjacent ones, and scattered ones, which lie one by one."""
    size = SIZES["http"][quick]
    Ranges.path_on_disk = make_file(folder / "x.nwb", size)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    spikes = 20 * 8 * (size.n_spikes // size.n_units)
    scattered = np.random.default_rng(1).choice(size.n_units, 20, replace=False).tolist()
    for what, units, most in (("20 adjacent", list(range(9, 29)), 10), ("20 scattered", scattered, 10 + 20)):
        os.environ["NWB_LINT_CACHE"] = str(folder / f"cache of {what}")
        Ranges.requests = Ranges.sent = 0
        bound = f"{most} requests, 1 MB beyond"
        try:
            start = perf_counter()
            read_conditions(f"http://127.0.0.1:{server.server_address[1]}/x.nwb", units=units, **READ)
            seconds, beyond = perf_counter() - start, Ranges.sent - spikes
            held = verdict(Ranges.requests <= most and beyond <= MB, f"http, {what}")
            figures = f"{bound}: {Ranges.requests}, {beyond / MB:.2f}"
            row(f"http, {what}", "ours", f"{seconds:.2f}", "", "", "", "", figures, held)
        except NWBError as error:
            row(f"http, {what}", "ours", f"not read: {error}", "", "", "", "", bound, verdict(False, f"http, {what}"))
    server.shutdown()
    server.server_close()
    Ranges.path_on_disk.unlink()


TASKS = {"tensor": tensor, "http": streaming, "sessions": sessions, "scale": scale}


def main() -> int:
    """Print the table; 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description="What reading costs, beside other readers.")
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="small files: whether it runs, not how fast")
    parser.add_argument("--folder", type=Path, help="where the files are made; a temporary folder by default")
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        reader, path, small, repeats, out = options.measure
        print(json.dumps(measure(reader, path, small, int(repeats), out)))
        return 0
    unknown = set(options.tasks) - set(TASKS)
    if unknown:
        parser.error(f"there is no task {', '.join(sorted(unknown))}; there are {', '.join(TASKS)}")
    row(*HEADER)
    row(*["---"] * len(HEADER))
    for task in options.tasks or TASKS:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            TASKS[task](Path(folder), options.quick)
    if MISSED:
        print(f"missed: {', '.join(MISSED)}", file=sys.stderr)
    return 1 if MISSED else 0


if __name__ == "__main__":
    sys.exit(main())
