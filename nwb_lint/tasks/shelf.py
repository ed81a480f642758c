"""A folder of networks that others published, as NWB files: `make_shelf`.

The files of the networks are not part of this package. `PUBLISHED` says what is known of them: where they are from, and
the step, the time constant and the nonlinearity, which the files themselves do not say.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from nwb_lint.errors import ContractError, NWBError, NWBLintError, one_line
from nwb_lint.nwb.extension.write import write_fit
from nwb_lint.tasks.convert import arrays_in, from_network

_SUFFIXES = (".pt", ".pth", ".pkl", ".ckpt", ".npz")
_NO_NETWORKS = ("*_params.pkl", "*_state_dict_enc.pkl", "*_sampler.pkl")  # beside the networks of smc_rnns
_FITTED = "published_fit_"  # before the names of a second network in an npz file: the fit to the first one


class Published(NamedTuple):
    """What is known of files whose names match one of the patterns, and are in none of the files themselves."""

    names: tuple[str, ...]
    what: str
    address: str
    reference: str
    options: dict[str, Any]
    subject: dict[str, str] | None = None


class Placed(NamedTuple):
    """One file of the folder: its NWB file, or why there is none."""

    source: str
    path: Path | None
    what: str
    address: str
    sizes: str
    reason: str


_INFERENCE = "https://github.com/adrian-valente/lowrank_inference"
_POPULATIONS = "https://github.com/adrian-valente/populations_paper_code"
_SMC = "https://github.com/mackelab/smc_rnns"
_VALENTE = "Valente, Pillow & Ostojic, NeurIPS 2022"
_DUBREUIL = "Dubreuil, Valente, Beiran, Mastrogiuseppe & Ostojic, Nature Neuroscience 2022"
_PALS = "Pals, Sagtekin, Pei, Gloeckler & Macke, NeurIPS 2024"
_TASK = {"dt_s": 0.02, "alpha": 0.2}  # deltaT and alpha of their training scripts
_MONKEY = {"dt_s": 0.005, "alpha": 0.2}  # bin_width and alpha of their fits to the monkeys
_SMC_TASK = {"dt_s": 0.01, "nonlinearity": "relu"}  # of *_params.pkl beside the networks


def _monkey(name: str) -> dict[str, str]:
    return {"subject_id": f"monkey {name}", "species": "Macaca mulatta"}


PUBLISHED = (
    Published(("mante_monkeyA_subspace_*.pt",), "fit to monkey A", _INFERENCE, _VALENTE, _MONKEY, _monkey("A")),
    Published(("mante_monkeyF_subspace_*.pt",), "fit to monkey F", _INFERENCE, _VALENTE, _MONKEY, _monkey("F")),
    Published(
        ("rdm_rank1_512.pt", "romo_rank2_512.pt", "mante_rank1_512.pt", "dms_rank2_512.pt"),
        "trained network", _INFERENCE, _VALENTE, _TASK,
    ),
    Published(
        ("*_fitlr_512.pt", "romo_fit_lr.pt", "*_matched_r?.pt"),
        "fit to a trained network", _INFERENCE, _VALENTE, _TASK,
    ),
    Published(("*_fr_1024_*.pt",), "trained network of full rank", _INFERENCE, _VALENTE, _TASK),
    Published(("*_fr_fig1.pt",), "trained network of full rank", _POPULATIONS, _DUBREUIL, _TASK),
    Published(
        ("*_lr_fig?.pt", "*_rank?_4096.pt", "*_rank?_500.pt", "mante_rank1_all-4096-6.pt", "dms_retrained_2pop.pt",
         "mante_train_ctx_new_epoch2-4096.pt"),
        "trained network", _POPULATIONS, _DUBREUIL, _TASK,
    ),
    Published(("*_rnn_state_dict.pkl", "*_rnn_*_state_dict.pkl"), "trained network", _SMC, _PALS,
              _SMC_TASK | {"alpha": 0.1}),
    Published(
        ("SW20_*_state_dict_rnn.pkl", "Sine_*_state_dict_rnn.pkl", "*_student_*_state_dict_rnn.pkl",
         "reach_vae_*_state_dict_rnn.pkl"),
        "fit to a trained network", _SMC, _PALS, _SMC_TASK,
    ),
    Published(
        ("EEG_*_state_dict_rnn.pkl",), "fit to the EEG of one person", _SMC, _PALS,
        {"dt_s": 1 / 160, "nonlinearity": "clipped_relu"}, {"subject_id": "S001", "species": "Homo sapiens"},
    ),
    Published(
        ("hc2rank3_*", "hc11rank4e2_*", "_CNN_causal_PLRNN_*_state_dict_rnn.pkl", "mc_maze_*_state_dict_rnn.pkl"),
        "fit to recorded spikes", _SMC, _PALS, {"nonlinearity": "clipped_relu"},  # their bins are in no file
    ),
    Published(("rdm.npz", "dm.npz", "wm.npz", "cdm.npz", "dms.npz"), "trained network", _INFERENCE, _VALENTE, _TASK),
)  # fmt: skip


def make_shelf(folder: str | Path, out: str | Path, **options: Any) -> list[Placed]:
    """Write every network in a folder to an NWB file of its own, with its source.

    Parameters
    ----------
    folder : path
        Files of weights, in any folders below it, such as copies of the authors' repositories.
    out : path
        The folder for the NWB files. Files that exist are kept, and count as an error.
    **options
        Arguments of `from_network` for files that `PUBLISHED` does not know. Of these, ``dt_s`` is also taken for known
        networks whose step it does not say.

    Returns
    -------
    list of Placed
        One entry for each network, and for each file that holds none.

    Raises
    ------
    NWBError
        If the folder holds no file of weights.
    """
    folder, out = Path(folder), Path(out)
    files = sorted(one for one in folder.rglob("*") if one.suffix in _SUFFIXES and one.is_file())
    files = [one for one in files if not any(fnmatch(one.name, pattern) for pattern in _NO_NETWORKS)]
    if not files:
        raise NWBError(f"{folder} holds no files of weights ({', '.join(_SUFFIXES)}). Pass a folder with networks.")
    out.mkdir(parents=True, exist_ok=True)
    return [placed for file in files for placed in _placed(file, file.relative_to(folder), out, options)]


def published_as(file: Path) -> Published | None:
    """What is known of the network in a file of this name; None if nothing is."""
    return next((one for one in PUBLISHED if any(fnmatch(file.name, pattern) for pattern in one.names)), None)


def _placed(file: Path, name: Path, out: Path, options: dict[str, Any]) -> Iterator[Placed]:
    """The networks of one file."""
    known = published_as(file)
    what, address = (known.what, known.address) if known is not None else ("network", "")
    given = options
    if known is not None:  # what holds for other files would change this network; its step may be in no file
        given = {name: options[name] for name in ("dt_s",) if name in options} | known.options
    for suffix, network in _networks(file).items():
        what = "fit to a trained network" if suffix else what
        try:
            fit = _with_source(from_network(network, **given), file, name, known)
            path = _write(fit, out / f"{'-'.join(name.with_suffix('').parts)}{suffix}.nwb", known)
        except NWBLintError as error:
            yield Placed(str(name), None, what, address, "", one_line(error))
            continue
        sizes = f"{fit.sizes['neuron']} neurons, " + (
            f"rank {fit.sizes['rank']}" if "rank" in fit.sizes else "full rank"
        )
        yield Placed(str(name), path, what, address, sizes, "")


def _networks(file: Path) -> dict[str, Any]:
    """The networks in a file by what their name ends with: of an npz file, also the fit to the first one."""
    if file.suffix != ".npz":
        return {"": file}
    try:
        fitted = {name.removeprefix(_FITTED): one for name, one in arrays_in(file).items() if name.startswith(_FITTED)}
    except ContractError:
        return {"": file}  # from_network says what is wrong
    return {"": file, "-fit": fitted} if fitted else {"": file}


def _with_source(fit: xr.Dataset, file: Path, name: Path, known: Published | None) -> xr.Dataset:
    """The fit with the file that it is from, and who published it."""
    source = {"source_file": name.as_posix(), "source_sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    if known is not None:
        source |= {"source_address": known.address, "reference": known.reference, "network": known.what}
    return fit.assign_attrs(source)


def _write(fit: xr.Dataset, path: Path, known: Published | None) -> Path:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*DANDI needs it")  # nothing about a subject is invented
        return write_fit(fit, path, source=(), subject=None if known is None else known.subject)
