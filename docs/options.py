"""docs/options.md from the options of the package: ``python docs/options.py > docs/options.md``."""

from __future__ import annotations

from nwb_lint.options.base import Options
from nwb_lint.options.reference import PUBLIC, reference

SECTIONS = {
    "ReadOptions": "read", "PrepareOptions": "prepare", "InputOptions": "inputs", "FitOptions": "fit",
    "SelectOptions": "select", "EnsembleOptions": "ensemble", "BaselineOptions": "baselines",
    "SubsamplingOptions": "subsampling",
    "BootstrapOptions": "bootstrap",
}  # fmt: skip
TRIAL_SECTIONS = {"TrialOptions": "read", "TrialFitOptions": "fit"}  # of recipes with mode = "trials"

HEAD = """# Options

Every option of the public functions: its type, its default, and what it does. This page is made from
`nwb_lint/options/` by `python docs/options.py > docs/options.md`.

An option is an argument of the function. If the heading names a section of a recipe, it is also a field of that section
and a flag of `nwb-lint fit`: the name with dashes, without `_s` at the end (`burn_in_s` → `--burn-in`). Flags of the
sections ensemble, baselines, subsampling and bootstrap begin with the name of the section (`--ensemble-members`); the
flags `--ensemble`, `--baselines`, `--subsampling` and `--bootstrap` switch these sections on. In a recipe and as a
flag, the text `none` stands for None. A few defaults of recipes differ from those of the functions; `nwb-lint init`
writes all of them out. All times are in seconds. What the readers read for inputs (`inputs` and `burn_in_s`) follows
from the sections inputs and prepare.

A recipe with `mode = "trials"`, or `nwb-lint fit --trials`, fits single trials. It has the sections read, inputs, fit,
select, blocks, compare_inputs and subject. Its section read also has `by`, the trial columns of the conditions.
"""


def page() -> str:
    """The whole page, in Markdown."""
    return HEAD + "".join(table(one) for one in PUBLIC)


def table(options: type[Options]) -> str:
    """The heading and the table of one class of options."""
    section = SECTIONS.get(options.__name__)
    rows = "".join(
        f"| `{one.name}` | {cell(one.kind)} | {cell(one.default)} | {cell(one.sentence)} |\n"
        for one in reference([options])
    )
    title = (options.__doc__ or "").strip().splitlines()[0].removeprefix("Options of ").removeprefix("Fields of an ")
    where = f" – recipe section `[{section}]`" if section and section != "inputs" else ""
    where = " – recipe section `[[inputs]]`" if section == "inputs" else where
    if of_trials := TRIAL_SECTIONS.get(options.__name__):
        where = f' – recipe section `[{of_trials}]`, with `mode = "trials"`'
    return f"\n## {title.rstrip('.')}{where}\n\n| option | type | default | |\n|---|---|---|---|\n{rows}"


def cell(text: str) -> str:
    """A text as a cell of a table."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
