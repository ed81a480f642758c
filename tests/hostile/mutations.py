"""Ways to change a file: its bytes, its texts (JSON, TOML), and the objects of an HDF5 file or of a Zarr folder."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.nwb.corruption import TEXT

ODD_TEXTS = [
    "", " ",
    "\x00", "a\x00b", "\x1b[2J", "le\nft", "../../etc/passwd", "/", ".", "x" * 70_000, "\u202eabc", "\ud7ff", "é" * 9,
    "none", "nan", "NaN", "inf", "-1", "1e999", "1e400", "0", str(2**63), str(10**40), "true", "[]", "{}", "None",
]  # fmt: skip
ODD_NUMBERS = [
    0,
    -1,
    1,
    2**31,
    2**31 - 1,
    2**32,
    2**63 - 1,
    -(2**63),
    10**9,
    np.nan,
    np.inf,
    -np.inf,
    1e-300,
    1e308,
    0.5,
]
_WORD = re.compile(r'"[^"\n]*"|-?\d+\.?\d*(?:e-?\d+)?|[A-Za-z_]{3,}|[\[\]{},=:]')


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes with one to three places changed, as a bad disk, a cut transfer or a bad program would."""
    found = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at, n = _place(found, rng), int(rng.choice([1, 2, 4, 8, 16, 64, 512, 4096]))
        how = rng.integers(9)
        if how <= 1:
            found[at : at + n] = bytes(len(found[at : at + n]))
        elif how == 2:
            found[at : at + n] = b"\xff" * len(found[at : at + n])
        elif how == 3:
            found[at : at + n] = rng.bytes(len(found[at : at + n]))
        elif how == 4:
            found[at] ^= 1 << int(rng.integers(8))
        elif how == 5:
            source = _place(found, rng)
            part = found[source : source + n]
            found[at : at + len(part)] = part
        elif how == 6:
            found[at : at + 8] = int(rng.choice([0, 1, 8, 96, at, max(at - 8, 0), len(found), 2**31, 2**40])).to_bytes(
                8, "little"
            )
        elif how == 7:
            del found[at : at + n]
        else:
            del found[max(at, 1) :]
        if not found:
            return b""
    return bytes(found)


def damage_file(path: Path, rng: np.random.Generator) -> None:
    """`damage` of a file."""
    path.write_bytes(damage(path.read_bytes(), rng))


def _place(content: bytes | bytearray, rng: np.random.Generator) -> int:
    """A position: anywhere, or near one of the signatures that HDF5 begins its structures with."""
    if rng.random() < 0.5:
        return int(rng.integers(len(content)))
    marks = [b"TREE", b"HEAP", b"GCOL", b"SNOD", b"OHDR", b"OCHK", b"FRHP", b"BTHD", b"\x89HDF"]
    mark = marks[rng.integers(len(marks))]
    places = [found.start() for found in re.finditer(re.escape(mark), bytes(content))]
    if not places:
        return int(rng.integers(len(content)))
    return min(int(rng.choice(places)) + int(rng.integers(80)), len(content) - 1)


def edit_text(text: str, rng: np.random.Generator) -> str:
    """A text with one to three words, numbers or signs replaced, doubled or left out, or cut somewhere."""
    for _ in range(rng.integers(1, 4)):
        found = list(_WORD.finditer(text))
        if not found:
            return text
        one = found[rng.integers(len(found))]
        how, word = rng.integers(7), one[0]
        if how == 0:
            new = ""
        elif how == 1:
            new = word * 2
        elif how == 2:
            new = found[rng.integers(len(found))][0]
        elif how == 3:
            new = str(rng.choice([repr(n).removeprefix("np.float64(").rstrip(")") for n in ODD_NUMBERS]))
        elif how == 4:
            quote = '"' if word.startswith('"') or rng.random() < 0.3 else ""
            new = quote + ODD_TEXTS[rng.integers(len(ODD_TEXTS))] + quote
        elif how == 5:
            new = str(rng.choice(["[]", "{}", "null", "[[1, 2], [3]]", '"none"', "true", "[" * 3000]))
        else:
            return text[: one.start()]
        text = text[: one.start()] + new + text[one.end() :]
    return text


def edit_objects(path: Path, rng: np.random.Generator) -> None:
    """One or two objects or attributes of an HDF5 file removed, replaced, linked elsewhere or into a circle."""
    with h5py.File(path, "r+") as file:
        for _ in range(rng.integers(1, 3)):
            names: list[str] = []
            file.visit(names.append)
            name = names[rng.integers(len(names))]
            try:
                _edit(file, name, names, rng)
            except (KeyError, ValueError, TypeError, OSError, RuntimeError, OverflowError):
                continue


def _edit(file: h5py.File, name: str, names: list[str], rng: np.random.Generator) -> None:
    item, how = file[name], rng.integers(12)
    if how <= 2 and len(item.attrs):
        key = list(item.attrs)[rng.integers(len(item.attrs))]
        if how == 0:
            del item.attrs[key]
        else:
            item.attrs[key] = _odd_value(file, rng)
    elif how == 3:
        del file[name]
    elif how == 4:
        parent, _, _ = name.rpartition("/")
        file[name + "_loop" if rng.random() < 0.5 else f"{name}/loop"] = file[parent or "/"]
    elif how == 5:
        attributes = dict(item.attrs)
        del file[name]
        file.create_group(name).attrs.update(attributes)
    elif how == 6:
        other = names[rng.integers(len(names))]
        del file[name]
        file[name] = (rng.choice([0, 1]) and h5py.SoftLink("/" + other)) or file[other]
    elif how == 7 and isinstance(item, h5py.Dataset):
        attributes = dict(item.attrs)
        del file[name]
        file.create_dataset(name, shape=(2**40,), chunks=(1024,), dtype=item.dtype).attrs.update(attributes)
    elif isinstance(item, h5py.Dataset):
        attributes = dict(item.attrs)
        values = _changed(item, how, rng)
        del file[name]
        file.create_dataset(name, data=values).attrs.update(attributes)
    else:
        odd = ODD_TEXTS[rng.integers(len(ODD_TEXTS))].replace("\x00", "").replace("/", "").replace("\ud7ff", "?")
        file.move(name, f"{name.rpartition('/')[0]}/{odd or 'x'}")


def _changed(item: h5py.Dataset, how: int, rng: np.random.Generator) -> Any:
    values = item[()]
    if how == 8 or not isinstance(values, np.ndarray) or not values.size:
        return _odd_value(item.file, rng)
    if how == 9:
        return values[:-1] if rng.random() < 0.5 else np.concatenate([values, values[-1:]])
    if how == 10:
        return values.T if values.ndim > 1 else values[None]
    if values.dtype.kind in "iuf":
        values = values.astype(float)
        values.ravel()[rng.integers(values.size)] = ODD_NUMBERS[rng.integers(len(ODD_NUMBERS))]
    elif values.dtype.kind == "O":
        values.ravel()[rng.integers(values.size)] = ODD_TEXTS[rng.integers(len(ODD_TEXTS))].replace("\x00", "?")
    return values


def _odd_value(file: h5py.File, rng: np.random.Generator) -> Any:
    values: list[Any] = [
        ODD_NUMBERS[rng.integers(len(ODD_NUMBERS))], h5py.Empty("f8"), np.zeros((2, 0)), 1j,
        np.zeros(2, [("a", "i4")]), np.array([h5py.Reference()], h5py.ref_dtype), file.ref, np.void(b"12345678"),
        np.array(["a", "b"], TEXT), np.array([b"\xff\xfe"]), np.arange(6.0).reshape(2, 3),
        ODD_TEXTS[rng.integers(len(ODD_TEXTS))].replace("\x00", "?"),
    ]  # fmt: skip
    return values[rng.integers(len(values))]


def edit_files(path: Path, rng: np.random.Generator) -> None:
    """One or two files of a Zarr folder changed as texts or as bytes, or removed."""
    files = sorted(one for one in path.rglob("*") if one.is_file())
    texts = [one for one in files if one.name.startswith(".z")]
    for _ in range(rng.integers(1, 3)):
        if rng.random() < 0.6:
            one = path / ".zmetadata" if rng.random() < 0.2 else texts[rng.integers(len(texts))]
            if one.exists():
                text = edit_text(one.read_text(encoding="utf-8", errors="replace"), rng)
                one.write_text(text, encoding="utf-8", errors="replace")
        else:
            one = files[rng.integers(len(files))]
            if rng.random() < 0.1:
                one.unlink(missing_ok=True)
            elif one.exists() and one.stat().st_size:
                damage_file(one, rng)


_ODD_JSON: list[Any] = [
    None, [], {}, "", "none", "\x1b[2J", "a\x00b", "../../etc", True, -1, 0, 1, 2**31, 2**63, 10**40, 0.5, 1e308,
    float("nan"), [0], [-1], [2**40], [2**62, 2**62], ["a", 1, None], [[1, 2], [3]], {"id": "none"}, {"id": "pickle"},
    [{"id": "pickle"}], [{"id": "vlen-utf8"}], [{"id": "json2"}], {"id": "blosc", "cname": "zstd", "clevel": 99},
    {"id": "zlib", "level": 1}, "|O", "<f8", ">i8", "|S9", "<U40", "|V8", [["a", "<i4"], ["b", "<f8"]], "F", "M8[ns]",
    {"zarr_dtype": "object", "value": {"source": ".", "path": "/"}},
    {"zarr_dtype": "object", "value": {"source": "../other", "path": "/units"}},
    {"zarr_dtype": "object", "value": {"source": ".", "path": 7}}, {"zarr_dtype": "object", "value": None},
]  # fmt: skip


def edit_store(path: Path, rng: np.random.Generator) -> None:
    """One or two groups, arrays, attributes or chunks of a Zarr folder removed, replaced, or linked elsewhere."""
    for _ in range(rng.integers(1, 3)):
        items = sorted(one.parent for one in path.rglob(".z*") if one.name in (".zarray", ".zgroup"))
        if items:
            _edit_item(path, items[rng.integers(len(items))], items, rng)


def _edit_item(root: Path, item: Path, items: list[Path], rng: np.random.Generator) -> None:
    how, other = rng.integers(11), items[rng.integers(len(items))]
    chunks = sorted(one for one in item.iterdir() if one.is_file() and not one.name.startswith("."))
    if how <= 1:
        _edit_json(item / (".zarray" if (item / ".zarray").exists() else ".zattrs"), rng)
    elif how == 2:
        _edit_json(item / ".zattrs", rng)
    elif how == 3 and item != root:
        shutil.rmtree(item)
    elif how == 4:
        (item / str(rng.choice([".zarray", ".zgroup", ".zattrs"]))).unlink(missing_ok=True)
    elif how == 5 and not other.is_relative_to(item) and not item.is_relative_to(other):
        shutil.rmtree(item)
        shutil.copytree(other, item)
    elif how == 6:
        source = str(rng.choice([".", "..", "/etc", "http://127.0.0.1:1/a"]))
        target = str(rng.choice(["/", f"/{other.relative_to(root)}", f"/{item.relative_to(root)}/linked", "none"]))
        link = {"name": "linked", "source": source, "path": target}
        kept = json.loads((item / ".zattrs").read_text()) if (item / ".zattrs").exists() else {}
        (item / ".zattrs").write_text(json.dumps({**kept, "zarr_link": [link]} if isinstance(kept, dict) else [link]))
    elif how == 7:
        target = str(rng.choice([str(root), str(item), str(other), "/etc/hostname", "none"]))
        place = chunks[0] if chunks else item / "linked"
        place.unlink(missing_ok=True)
        os.symlink(target, place)
    elif how == 8 and item != root:
        odd = ODD_TEXTS[rng.integers(len(ODD_TEXTS))].replace("\x00", "").replace("/", "").replace("\ud7ff", "?")
        place = item.with_name(odd[:80] if odd not in ("", ".") else "renamed")
        if not place.exists():
            item.rename(place)
    elif chunks:
        _edit_chunk(chunks, rng)


def _edit_json(path: Path, rng: np.random.Generator) -> None:
    try:
        kept = json.loads(path.read_text())
        name = sorted(kept)[rng.integers(len(kept))]
    except (OSError, ValueError, TypeError):
        kept, name = {}, "shape"
    if rng.random() < 0.2:
        kept.pop(name, None)
    else:
        kept[name] = _ODD_JSON[rng.integers(len(_ODD_JSON))]
    path.write_text(json.dumps(kept))


def _edit_chunk(chunks: list[Path], rng: np.random.Generator) -> None:
    one, other = chunks[rng.integers(len(chunks))], chunks[rng.integers(len(chunks))]
    how = rng.integers(4)
    if how == 0:
        one.unlink()
    elif how == 1:
        one.write_bytes(other.read_bytes()[: rng.integers(1, 40)])
    elif how == 2:
        one.rename(one.with_name(str(rng.choice(["0.0", "1", "-1", "9999999999"]))))
    else:
        one.unlink()
        one.mkdir()
