"""docs/ndx-lowrank.md out of the extension's YAML: ``python docs/ndx_lowrank.py > docs/ndx-lowrank.md``."""

from __future__ import annotations

from typing import Any

from nwb_lint.nwb.extension import schema

HEAD = f"""# {schema.NAMESPACE} {schema.version()}

An NWB extension for low-rank recurrent networks that were fitted to neural recordings, by any method, and for the
results of analyses of these networks. `nwb_lint` writes and reads it (`write_fit`, `read_fit`, `write_result`,
`read_result`). Plain pynwb reads the files too, without nwb_lint: every file carries the specification. The package
`ndx-lowrank` has the classes for writing with pynwb alone; `schemas/README.md` shows how.

A fit is one `LowRankRNN` in the processing module `ecephys`, or several with different names. Results lie beside the
fit and link to it. Dims with the same name have the same size throughout a group. Units are attributes of the datasets.
Texts are UTF-8. Optional entries have a `?`.

What changes in time is a `TimeSeries`, and the conditions are `TimeIntervals`, so that pynapple (`load_file`) and
neurosift show latents, inputs, predicted activity, predicted rates in Hz and conditions without this extension. Means
over trials stand one condition after another, with a gap. Single trials of one session that were aligned to a column of
times are on the clock of the session. With K conditions, `data` of a series reshaped to (K, T, …) is the array
(condition, time, …).

Versions follow Semantic Versioning. Below 1.0, a reader reads files of its own and of every earlier minor version, and
refuses files of a newer one. From 1.0 on, the same holds for the major version. `tests/golden/` has a file of every
version.

The YAML is in `schemas/`. This page is made from it: `python docs/ndx_lowrank.py > docs/ndx-lowrank.md`.
"""


def page() -> str:
    """The whole page, in Markdown."""
    return HEAD + "".join(section(name) for name in schema.types())


def section(name: str) -> str:
    """One neurodata type: what it is, then a table of its attributes, links, groups and datasets."""
    spec = schema.type_spec(name)
    lines = ["", f"## {name}", "", f"Extends {spec['neurodata_type_inc']}. {plain(spec['doc'])}", ""]
    rows = [row(part, what) for what in ("attributes", "links", "groups", "datasets") for part in spec.get(what, [])]
    if rows:
        lines += ["| name | what | dims | unit | |", "|---|---|---|---|---|", *rows]
    return "\n".join([*lines, ""])


def row(spec: dict[str, Any], what: str) -> str:
    """One line of the table."""
    kind = spec.get("dtype") or spec.get("target_type") or spec.get("neurodata_type_inc", "")
    optional = spec.get("quantity") in ("?", "*") or spec.get("required") is False
    dims = spec.get("dims") or []
    texts = [f"({', '.join(one)})" for one in (dims if dims and isinstance(dims[0], list) else [dims] if dims else [])]
    units = [part for part in spec.get("attributes", []) if part["name"] == "unit"]
    unit = units[0].get("value", units[0].get("default_value")) if units else ""
    label = f"`{spec.get('name', kind)}`{'?' if optional else ''}"
    return f"| {label} | {what.removesuffix('s')}, {kind} | {' or '.join(texts)} | {unit} | {plain(spec['doc'])} |"


def plain(doc: str) -> str:
    """The doc on one line, without what a table would take for its own."""
    return " ".join(doc.split()).replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
