"""What a stored fit means: its connectivity, its populations, where its latents rest, and what its rates tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nwb_lint.cli.flags import flags, given
from nwb_lint.cli.shell import (
    echo,
    keep_result,
    of_fit,
    parse_pairs,
    plainly,
    read_fit_of,
    save_picture,
    saved_as,
    with_picture,
)
from nwb_lint.options import FixedPointOptions, PopulationOptions, ReadoutOptions


@click.command()
@click.argument("path", metavar="FIT.nwb")
@flags(PopulationOptions)
@of_fit
@saved_as
@with_picture
def populations(path: str, name: str | None, save: str | None, picture: Path | None, **parameters: Any) -> None:
    """Find groups of neurons in the loadings of a fit, and their gain in every condition."""
    with plainly():
        from nwb_lint.analysis.populations import find_populations

        found = find_populations(read_fit_of(path, name, save=save), **given(parameters))
        sizes = found["population"].to_series().value_counts().reindex(range(found.sizes["group"]), fill_value=0)
        echo(f"{'group':20s} {'neurons':>8s} {'gain':>22s}")
        for k, group in enumerate(found["group"].values):
            gain: list[float] = found["gain"].values[:, k].tolist() if "gain" in found and sizes[k] else []
            span = f"{min(gain):.3f} to {max(gain):.3f}" if gain else "none"
            echo(f"{group:20s} {sizes[k]:8d} {span:>22s}")
        if "stability" in found:
            echo(f"\n{'groups':>6s} {'stability':>10s} {'by chance':>10s} {'BIC':>12s}")
            columns = [found[key].values for key in ("n_groups", "stability", "stability_chance", "criterion")]
            for count, *values in zip(*columns, strict=True):
                echo("{:6d} {:10.3f} {:10.3f} {:12.1f}".format(count, *values))
        keep_result(found, path, name, save)
        if picture is not None:
            from nwb_lint.plot import loadings

            save_picture(loadings(found), picture)


@click.command("fixed-points")
@click.argument("path", metavar="FIT.nwb")
@click.option("--input", "inputs", multiple=True, metavar="NAME=NUMBER", help="In place of a condition: the others 0.")
@click.option("--bootstrap", metavar="NAME", help="A bootstrap in the file: how many of its draws have each point.")
@flags(FixedPointOptions, without=("input", "refit_fractions", "draws", "other_ranks", "other_ridges"))
@of_fit
@saved_as
@with_picture
def fixed_points(
    path: str,
    name: str | None,
    save: str | None,
    picture: Path | None,
    inputs: tuple[str, ...],
    bootstrap: str | None,
    **parameters: Any,
) -> None:
    """Find where the latents of a fit rest under a constant input, and whether they stay there."""
    with plainly():
        import numpy as np

        from nwb_lint.analysis.fixedpoints import fixed_points as find_fixed_points
        from nwb_lint.model.tuning import MAX_DISTANCE
        from nwb_lint.nwb.extension.read import read_result

        fit, held, options = read_fit_of(path, name, save=save), _numbers(inputs), given(parameters)
        draws = None if bootstrap is None else read_result(path, bootstrap)
        found = find_fixed_points(fit, input=held, bootstrap=draws, **options)
        width = 9 * found.sizes["rank"]
        head = f"{'latents':>{width}s}  {'stability':10s} {'slowest, 1/s':>13s} {'line attractor':>15s} {'starts':>7s}"
        echo(f"{head}  {'distance, sd':>12s}")
        for k in range(found.sizes["fixed_point"]):
            one = found.isel(fixed_point=k)
            kappa = "".join(f"{value:9.3f}" for value in one["kappa"].values)
            slowest = min(one["eigenvalue_real"].values, key=abs)
            line = f"{float(one['line_attractor']):15.3f}" if "line_attractor" in one else f"{'':15s}"
            starts = f"{int(one['n_starts']):7d}  {float(one['distance']):12.2f}"
            remark = f"  in {one['share_draws'].item():.0%} of draws" if "share_draws" in one else ""
            if not one["supported"].item():
                far = float(one["distance"]) > MAX_DISTANCE
                remark += f"  not supported: {'outside of what was visited' if far else 'in too few draws'}"
            if "eigenvalue_real_low" in one:
                at = int(np.abs(one["eigenvalue_real"].values).argmin())
                low, high = (float(one[f"eigenvalue_real_{bound}"][at]) for bound in ("low", "high"))
                remark += f"  {low:.2f} to {high:.2f} 1/s" if np.isfinite(low) else ""
            if one["near_marginal"].item():
                remark += f"  not distinguished from marginal in a trial of {found.attrs['trial_s']:g} s"
            echo(f"{kappa}  {one['stability'].item():10s} {slowest:13.3f} {line} {starts}{remark}")
        if not found.sizes["fixed_point"]:
            echo("none found")
        keep_result(found, path, name, save)
        if picture is not None:
            from nwb_lint.analysis.dynamics import flow_field
            from nwb_lint.analysis.limitcycles import limit_cycles
            from nwb_lint.plot import flow

            field = flow_field(fit, input=held, condition=options.get("condition"), at_s=options.get("at_s"))
            cycles = limit_cycles(fit, input=held, condition=options.get("condition"), at_s=options.get("at_s"))
            save_picture(flow(field, found, fit if "latent" in fit else None, cycles=cycles), picture)


@click.command()
@click.argument("path", metavar="FIT.nwb")
@click.option("--raw", is_flag=True, help="Keep m n' / N itself, not its part that moves the dynamics.")
@click.option("--by", metavar="COLUMN", help="Column of the neurons that the picture is sorted by.")
@of_fit
@saved_as
@with_picture
def connectivity(
    path: str, name: str | None, save: str | None, picture: Path | None, raw: bool, by: str | None
) -> None:
    """Overlaps of the connectivity vectors of a fit, and how its weights are distributed."""
    with plainly():
        from nwb_lint.analysis.connectivity import connectivity as connectivity_of
        from nwb_lint.analysis.connectivity import weight_statistics
        from nwb_lint.contract import input_names

        fit = read_fit_of(path, name, save=save)
        found = connectivity_of(fit, effective=not raw)
        if "overlap_m" in found:
            columns = [*(f"m {k + 1}" for k in range(fit.sizes["rank"])), *(f"I {one}" for one in input_names(found))]
            echo("overlap" + "".join(f"{column:>18s}" for column in columns))
            for k in range(fit.sizes["rank"]):
                row = [*found["overlap_m"].values[k], *found["overlap_input"].values[k]]
                echo(f"n {k + 1:<5d}" + "".join(f"{value:18.3f}" for value in row))
            echo()
        statistics = weight_statistics(fit)
        echo(f"{'weights':20s} {'mean':>9s} {'sd':>9s} {'kurtosis':>9s} {'p heavy':>9s}")
        for k, vector in enumerate(statistics["vector"].values):
            numbers = [float(statistics[key][k]) for key in ("mean", "sd", "kurtosis", "heavy_tail_p")]
            echo(f"{vector:20s} " + " ".join(f"{value:9.3f}" for value in numbers))
        keep_result(found, path, name, save)
        if picture is not None:
            from nwb_lint.plot import effective_connectivity

            save_picture(effective_connectivity(fit, by=by), picture)


@click.command()
@click.argument("path", metavar="FIT.nwb")
@click.argument("column")
@flags(ReadoutOptions)
@of_fit
@saved_as
@with_picture
def readout(
    path: str, column: str, name: str | None, save: str | None, picture: Path | None, **parameters: Any
) -> None:
    """Weights that read a COLUMN of the conditions, such as the choice, from the rates that a fit predicts."""
    with plainly():
        from nwb_lint.analysis.readout import fit_readout

        found = fit_readout(read_fit_of(path, name, save=save), column, **given(parameters))
        between = f", {found.attrs['negative']} against {found.attrs['positive']}" if "positive" in found.attrs else ""
        echo(
            f"{column}{between}: {found.attrs['kind_of_readout']} readout of {found.sizes['neuron']} neurons, "
            f"held-out {found.attrs['metric']} {float(found['score']):.3f}"
        )
        keep_result(found, path, name, save)
        if picture is not None:
            from nwb_lint.plot import readout_weights

            save_picture(readout_weights(found), picture)


def _numbers(inputs: tuple[str, ...]) -> dict[str, float] | None:
    try:
        return {key: float(text) for key, text in parse_pairs(inputs, "--input").items()} or None
    except ValueError as error:
        raise click.UsageError(f"--input needs NAME=NUMBER: {error}.") from None
