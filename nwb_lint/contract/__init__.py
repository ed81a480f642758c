"""The Datasets of this package: names, dims, units and dtypes of their variables, and the checks of them.

``recording`` (from `read_conditions`) or ``trials`` (from `read_trials`) → ``activity`` (from `prepare`) → ``fit``
(from `fit_lint`) → results of analyses, one table for each kind.

| module | subject |
|---|---|
| `values` | values of a column: which are missing, which are equal |
| `datasets` | tables of recordings, trials, activities and fits, and their coordinates |
| `results` | tables of the results of analyses, one for each kind |
| `columns` | columns of conditions, trials and neurons, and names of inputs |
| `checks` | the kind of a Dataset, and checks that it is what its table says |

A table has a row for each variable: name → (dims, dtype, unit, required). A dim with ``?`` at its end may be absent.
Attributes are texts, numbers and lists of numbers, so that every Dataset can be written as netCDF and NWB. The
attribute ``kind`` of a result names its table. A result keeps the coordinates of its fit on neurons, conditions and
inputs, so that it can be written beside this fit.
"""
