"""What a stored fit means: its populations, and where its latents rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nwb_lint.cli.shell import keep_result, of_fit, parse_pairs, plainly, save_picture, saved_as, with_picture


@click.command()
@click.argument("path", metavar="FIT.nwb")
@click.option(
    "--method",
    type=click.Choice(["em", "bayesian", "small_weights", "strongest_input"]),
    default="em",
    help="How groups are found in the loadings.",
)
@click.option("--groups", "n_groups", type=click.IntRange(1), help="Their number.  [default: chosen by stability]")
@click.option("--max-groups", type=click.IntRange(1), default=5, help="The most that are tried.")
@click.option("--resamples", type=click.IntRange(1), default=10, help="Pairs of subsamples, and of chance draws.")
@click.option("--window", "window_s", nargs=2, type=float, metavar="START STOP", help="Of the gains, s; else always.")
@click.option("--seed", default=0, help="Seed of the mixtures and subsamples.")
@of_fit
@saved_as
@with_picture
def populations(path: str, name: str | None, save: str | None, picture: Path | None, **options: Any) -> None:
    """Find groups of neurons in the loadings of a fit, and their gain in every condition."""
    with plainly():
        from nwb_lint.analysis.populations import find_populations
        from nwb_lint.nwb.fitfile import read_fit

        found = find_populations(read_fit(path, name), **options)
        sizes = found["population"].to_series().value_counts().reindex(range(found.sizes["group"]), fill_value=0)
        click.echo(f"{'group':20s} {'neurons':>8s} {'gain':>22s}")
        for k, group in enumerate(found["group"].values):
            gain: list[float] = found["gain"].values[:, k].tolist() if "gain" in found and sizes[k] else []
            span = f"{min(gain):.3f} to {max(gain):.3f}" if gain else "none"
            click.echo(f"{group:20s} {sizes[k]:8d} {span:>22s}")
        if "stability" in found:
            click.echo(f"\n{'groups':>6s} {'stability':>10s} {'by chance':>10s} {'BIC':>12s}")
            columns = [found[key].values for key in ("n_groups", "stability", "stability_chance", "criterion")]
            for count, *values in zip(*columns, strict=True):
                click.echo("{:6d} {:10.3f} {:10.3f} {:12.1f}".format(count, *values))
        keep_result(found, path, name, save)
        if picture is not None:
            from nwb_lint.plot import loadings

            save_picture(loadings(found), picture)


@click.command("fixed-points")
@click.argument("path", metavar="FIT.nwb")
@click.option("--condition", help="Label of the condition whose input is held.  [default: all inputs 0]")
@click.option("--input", "inputs", multiple=True, metavar="NAME=NUMBER", help="In place of a condition: the others 0.")
@click.option("--at", "at_s", type=float, help="When the condition's input is taken, s.  [default: its last sample]")
@click.option("--starts", "n_starts", type=click.IntRange(1), default=200, help="Of the search.")
@click.option("--seed", default=0, help="Which starts.")
@of_fit
@saved_as
@with_picture
def fixed_points(
    path: str,
    name: str | None,
    save: str | None,
    picture: Path | None,
    inputs: tuple[str, ...],
    **options: Any,
) -> None:
    """Find where the latents of a fit rest under a constant input, and whether they stay there."""
    with plainly():
        from nwb_lint.analysis.fixedpoints import fixed_points as find_fixed_points
        from nwb_lint.nwb.fitfile import read_fit

        fit, held = read_fit(path, name), _numbers(inputs)
        found = find_fixed_points(fit, input=held, **options)
        width = 9 * found.sizes["rank"]
        click.echo(
            f"{'latents':>{width}s}  {'stability':10s} {'slowest, 1/s':>13s} {'line attractor':>15s} {'starts':>7s}"
        )
        for k in range(found.sizes["fixed_point"]):
            one = found.isel(fixed_point=k)
            kappa = "".join(f"{value:9.3f}" for value in one["kappa"].values)
            slowest = min(one["eigenvalue_real"].values, key=abs)
            line = f"{float(one['line_attractor']):15.3f}" if "line_attractor" in one else f"{'':15s}"
            click.echo(f"{kappa}  {one['stability'].item():10s} {slowest:13.3f} {line} {int(one['n_starts']):7d}")
        if not found.sizes["fixed_point"]:
            click.echo("none found")
        keep_result(found, path, name, save)
        if picture is not None:
            from nwb_lint.analysis.dynamics import flow_field
            from nwb_lint.plot import flow

            field = flow_field(fit, input=held, condition=options["condition"], at_s=options["at_s"])
            save_picture(flow(field, found, fit if "latent" in fit else None), picture)


def _numbers(inputs: tuple[str, ...]) -> dict[str, float] | None:
    try:
        return {key: float(text) for key, text in parse_pairs(inputs, "--input").items()} or None
    except ValueError as error:
        raise click.UsageError(f"--input needs NAME=NUMBER: {error}.") from None
