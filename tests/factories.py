"""Random Datasets that keep the contract, for tests: arrays of any values, labels and attributes of every
kind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import xarray as xr

from nwb_lint.contract.datasets import FIT
from nwb_lint.contract.results import RESULTS
from nwb_lint.nwb.extension import schema


def random_fit(
    seed: int = 0,
    *,
    n_neurons: int = 6,
    n_conditions: int = 4,
    n_bins: int = 5,
    n_inputs: int = 2,
    rank: int = 2,
    n_files: int = 2,
    hidden: bool = False,
    full_rank: bool = False,
    burn_in: bool = True,
    offset_over_time: bool = True,
    optional: bool = True,
    trials: bool = False,
    text_dtype: str = "U",
    folder: str = "/nowhere/",
) -> xr.Dataset:
    """A fit of random numbers; ``optional=False`` keeps only what the contract requires, ``n_files=0`` names
    none, ``folder`` is that of the files, ``trials=True`` adds what fits of single trials have."""
    rng = np.random.default_rng(seed)
    sizes = {
        "neuron": n_neurons, "neuron_from": n_neurons, "rank": rank, "input": n_inputs,
        "condition": n_conditions,
        "time": n_bins, "burn_in": 3, "split": 2, "stage": 3, "singular": 4, "rank_tried": 3, "pc": 2,
    }  # fmt: skip

    def draw(*dims: str, dtype: str = "float64") -> tuple[tuple[str, ...], np.ndarray]:
        return dims, rng.normal(size=[sizes[dim] for dim in dims]).astype(dtype)

    data = {
        "input_weights": draw("neuron", "input"),
        "bias": draw("neuron"),
        "initial_activation": draw("neuron"),
        "u": draw("condition", "time", "input", dtype="float32"),
        "activity_pred": draw("condition", "time", "neuron", dtype="float32"),
        "filtered_input": draw("condition", "time", "input", dtype="float32"),
        "r2": draw("split"),
        "r2_ceiling": (("split",), np.array([0.9, np.nan])),
        "r2_neuron": draw("split", "neuron"),
        "r2_median": draw("split"),
    }
    if full_rank:
        data["J"] = draw("neuron", "neuron_from")
    else:
        data |= {"m": draw("neuron", "rank"), "n": draw("neuron", "rank")}
        data["latent"] = draw("condition", "time", "rank", dtype="float32")
    if burn_in:
        data["u_burn_in"] = draw("condition", "burn_in", "input", dtype="float32")
    if optional:
        data |= {
            "offset": draw("time", "neuron") if offset_over_time else draw("neuron"),
            "scale": draw("neuron"),
            "component": draw("pc", "neuron"),
            "stage_r2": draw("stage", "split"),
            "stage_ridge": (("stage",), np.array([1e-3, 1e-2, np.nan])),
            "singular_value": draw("singular"),
            "rank_r2": draw("rank_tried", "split"),
            "rank_r2_sem": draw("rank_tried", "split"),
            "rank_r2_ceiling": draw("split"),
            "rank_deficit": draw("rank_tried"),
            "rank_deficit_sem": draw("rank_tried"),
        }
    coords, attrs = _coords(rng, sizes, n_files, folder, hidden, burn_in, optional, text_dtype), _attrs(seed, hidden)
    if trials:
        sizes |= {"rank_from": rank, "group": 2, "iteration": 5, "basis": 2}
        sizes |= {"readout": 2, "readout_term": 1 + rank, "readout_term_from": 1 + rank}
        sizes |= dict.fromkeys(("coefficient", "coefficient_from"), 1 + n_inputs + 3 * rank)
        names = [name for name, var in FIT.items() if name not in data and {"rank_from", "group"} & set(var.dims)]
        names += [
            "m_drift",
            "drift_basis",
            "observation_cov",
            "log_rate",
            "evidence",
            "bits_per_spike",
            "rank_bits",
            "rank_bits_sem",
            "behavior",
            "behavior_pred",
            *(name for name in FIT if name.startswith("readout_")),
        ]
        data |= {name: draw(*FIT[name].dims, dtype=FIT[name].dtype) for name in names}
        coords |= {
            "readout": ("readout", np.array(["choice", "spéed"])),
            "readout_kind": ("readout", np.array(["choice", "number"])),
            "readout_once": ("readout", np.array([True, False])),
            "readout_definition": ("readout", np.array(["a", "b"])),
            "readout_negative": ("readout", np.array(["left", ""])),
            "readout_positive": ("readout", np.array(["réchts", ""])),
        }
        coords["initial_level"] = "group", np.array(["left", "réchts"])
        coords |= {name: ("rank", np.array([f"{name} {k}" for k in range(rank)])) for name in ("to_area", "from_area")}
        data["input_reached"] = ("neuron", "input"), rng.random((sizes["neuron"], sizes["input"])) < 0.5
        attrs |= {"observation": "poisson", "link": "exp", "noise": "full", "initial": "side", "ridge": 1e-3}
    fit = xr.Dataset(data, coords, attrs)
    fit["activity_pred"].attrs.update(units="1", long_name="activité prédite")
    if "offset" in fit:
        fit["offset"].attrs["units"] = "Hz"
    return fit


def _coords(rng, sizes, n_files, folder, hidden, burn_in, optional, text_dtype) -> dict:
    """Coordinates of every kind, in an order that is not the schema's."""
    n, k = sizes["neuron"], sizes["condition"]

    def text(values) -> np.ndarray:
        kind = {"U": None, "object": object, "string": np.dtypes.StringDType()}[text_dtype]
        return np.array(values, dtype=kind)

    files = [f"{folder}séance {i}.nwb" for i in range(n_files)]
    recorded = np.arange(n) < (n - 2 if hidden else n)
    source = [files[i % n_files] if n_files and recorded[i] else "" for i in range(n)]
    coords = {
        "neuron": text([f"s{i % max(n_files, 1)}:{i}" for i in range(n)]),
        "time": np.arange(sizes["time"]) * 0.005 - 0.1,
        "condition": text([f"context=motion, motion={i - 2}" for i in range(k)]),
        "input": ("input", text([f"in{i}" for i in range(sizes["input"])])),
        "split": text(["train", "held_out"]),
    }
    if burn_in:
        coords["burn_in"] = np.arange(-3, 0) * 0.005
    if not optional:
        return coords
    coords |= {
        "held_out": ("condition", rng.random(k) < 0.4),
        "motion": ("condition", np.arange(k) - 2.0),
        "context": ("condition", text(["", "motion", "couleur", "β"][:k] + ["x"] * (k - 4))),
        "id": ("condition", np.arange(k, dtype=np.int16)),
        "unit_id": ("neuron", np.where(recorded, np.arange(n) * 3 + 1, -1)),
        "session": ("neuron", text([f"s{i % max(n_files, 1)}" for i in range(n)])),
        "source": ("neuron", text(source)),
        "recorded": ("neuron", recorded),
        "area": ("neuron", text(["PFC", ""][: n % 2 + 1] * n)[:n]),
        "quality/index": ("neuron", rng.random(n).astype("float32")),
        "good": ("neuron", rng.random(n) < 0.5),
        "stage": text(["closed form", "latent pass", "gradient"]),
        "rank_tried": np.array([1, 2, 3]),
        "input_column": ("input", text(["motion"] * sizes["input"])),
        "input_equals": ("input", text([""] * sizes["input"])),
        "input_scale": ("input", np.ones(sizes["input"])),
        "input_start_s": ("input", np.full(sizes["input"], np.nan)),
        "input_stop_s": ("input", rng.random(sizes["input"])),
        "input_definition": ("input", text([f'name = "in{k}"' for k in range(sizes["input"])])),
    }
    if n_files:
        coords["file"] = text(files)
        for key in ("identifier", "object_id", "units_object_id", "session_id", "subject_id", "digest"):
            coords[f"file_{key}"] = ("file", text([f"{key} {i}" for i in range(n_files - 1)] + [""]))
    return coords


def _attrs(seed: int, hidden: bool) -> dict:
    """Attributes of every type that the contract allows."""
    return {
        "dt_s": 0.005, "tau_s": 0.05, "nonlinearity": "tanh", "gauge": "canonical", "method": "auto",
        "loss": "activity", "seed": seed, "hidden": 2 if hidden else 0, "bin_s": 0.005, "smooth_s": 0.0,
        "align": "dots_on_time", "window_s": [-0.1, 0.65], "where": "", "table": "trials",
        "by": ["context", "motion"],
        "n_trials_used": np.int64(812), "n_units_dropped": 0, "version_nwb_lint": "0.1.0",
        "recipe": '[fit]\nrank = 2\nlabel = "séance"\n' * 5, "fold": [3], "flag": True,
        "share": np.float32(0.25),
    }  # fmt: skip


def random_result(kind: str, fit: xr.Dataset, seed: int = 0) -> xr.Dataset:
    """A result of random numbers, with all that its table has, of the neurons and conditions of a fit."""
    rng = np.random.default_rng(seed)
    table = RESULTS[kind]
    dims = list(dict.fromkeys(dim for var in table.values() for dim in var.dims))
    sizes = {dim: fit.sizes[dim] if dim in fit.sizes else 3 + k for k, dim in enumerate(dims)}
    square = {"axis_other": "axis_name", "vector_other": "vector", "neuron_from": "neuron", "rank_from": "rank",
              "member_from": "member"}  # fmt: skip
    sizes |= {other: sizes[dim] for other, dim in square.items() if other in sizes}
    data = {}
    for name, var in table.items():
        shape = [sizes[dim] for dim in var.dims]
        values = np.asarray(rng.normal(size=shape))
        data[name] = (var.dims, np.full(shape, "stabil é") if var.dtype == "str" else (9 * values).astype(var.dtype))
    shared = {"neuron", "condition", "time"} & set(dims)
    coords = {name: coord for name, coord in fit.coords.items() if len(coord.dims) == 1 and coord.dims[0] in shared}
    coords |= {dim: fit[dim].variable for dim in ("input", "readout") if dim in dims and dim in fit.coords}
    for dim, field in schema.fields(schema.type_of(kind)).items():
        if field.dims == ((dim,),) and dim in sizes and dim not in fit.coords:
            names = np.array([f"{dim} {k}" for k in range(sizes[dim])])
            coords[dim] = names if field.dtype == "text" else np.arange(sizes[dim]).astype(field.dtype)
    attrs = {"kind": kind, "seed": seed, "tau_s": 0.1, "note": "é", "range": [0.0, 1.0]}
    return xr.Dataset(data, coords, attrs)


def assert_same(left: xr.Dataset, right: xr.Dataset) -> None:
    """Identical, and the same dtypes, order of coordinates, variables and dims, and types of attributes."""
    xr.testing.assert_identical(left, right)
    assert list(left.coords) == list(right.coords)
    assert list(left.data_vars) == list(right.data_vars)
    assert list(left.sizes) == list(right.sizes)
    assert list(left.indexes) == list(right.indexes)
    for name in left.variables:
        assert left[name].dtype == right[name].dtype, name
        assert_same_attrs(left[name].attrs, right[name].attrs)
    assert_same_attrs(left.attrs, right.attrs)


def assert_same_attrs(left: dict, right: dict) -> None:
    """The same types, also of what lists hold; values are for `xr.identical`."""
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert type(value) is type(right[key]), key
        if isinstance(value, list):
            assert [type(item) for item in value] == [type(item) for item in right[key]], key


_WITHOUT_US = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "nwb_lint":
            raise ImportError("nwb_lint is not installed here")
sys.meta_path.insert(0, Refuse())
import pynwb
{}
assert not any(name.startswith("nwb_lint") for name in sys.modules)
"""


def run_without_us(script: str, path: Path, folder: Path) -> list[str]:
    """Words that a script prints where nwb_lint is not installed; ``sys.argv[1]`` is the path, pynwb is imported."""
    command = [sys.executable, "-c", _WITHOUT_US.format(script), str(path)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
