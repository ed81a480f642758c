"""Every option once: its type, its default, its bounds and one sentence.

| module | subject |
|---|---|
| `words` | what is wrong with an option, what type it needs, its value as TOML |
| `base` | `option` for a field, `Options` for a class of fields |
| `read_and_prepare` | reading, preparing, inputs, readouts of behavior |
| `fits` | fits of means and of single trials, and what a fit keeps of its options |
| `single_trials` | what follows a fit of single trials |
| `validation` | choices and comparisons of fits |
| `analyses` | analyses of a fit |
| `trained_networks` | networks that were trained elsewhere |
| `reports` | reports, comparisons of two fits, figures |
| `recipe_sections` | the same options as sections of a recipe |
| `checks` | `validated`, which checks the arguments of the public functions |
| `reference` | every option in words, for the documentation |

The flags of the command line come from these classes, too (`nwb_lint.cli.flags`). The functions keep explicit keyword
arguments; a test compares them with the fields.
"""
