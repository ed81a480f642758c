"""Published results, computed again by one command each."""

from __future__ import annotations

from pathlib import Path

import click

from nwb_lint.cli.shell import echo, plainly, print_files, quiet, run_on


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--quick", is_flag=True, help="Small networks and few trials: seconds to minutes.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("reproduction"), help="Folder of the results.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of trained networks, or of recordings.")
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=2,
    help="In a full run: networks of each kind of fig2–fig4 and kback; fits of student_teacher, lorenz63, bursting, "
    "eeg and ecg.",
)
@run_on
@click.option("--page", type=click.Path(path_type=Path), help="Write the page of all results in the folder here.")
def reproduce(
    name: str,
    quick: bool,
    out: Path,
    data: Path | None,
    seeds: int,
    workers: int,
    dask: str | None,
    cache_dir: Path | None,
    page: Path | None,
) -> None:
    """Compute a published result again.

    The paper: table1, fig2, kback, fig3, fig4, fig5, inactivation. Benchmarks of other authors: ctd, student_teacher,
    latent_circuit, alm000060, monkeys, lorenz63, bursting, eeg, ecg. Table, figure and fits go to a folder. table1 also
    fits the networks of the paper in --data (dm.npz, ...). In --data, fig5 needs the folder of the recordings, NWB
    files; alm000060 that of counts_50ms.npz; monkeys and student_teacher clones of the authors' code with their
    networks; eeg and ecg the folders of their recordings. If a part fails, the others are computed, its row of the
    table is NaN, and the exit status is 1.
    """
    with plainly():
        from nwb_lint.errors import WorkerError
        from nwb_lint.experiments import frame
        from nwb_lint.parallel.executors import open_executor

        experiment = frame.load_experiment(name)
        if page is not None:
            frame.check_page(page)
        with open_executor(workers, dask) as executor:
            table = frame.reproduce(
                name,
                out,
                quick=quick,
                data=data,
                seeds=seeds,
                executor=executor,
                cache_dir=cache_dir,
                progress=not quiet(),
            )
        failed = table.attrs["failed"]
        there = frame.computed(table, failed)
        for cell in experiment.compare(there):
            numbers = f"published {cell.published:6.3f}   ours {cell.ours:6.3f}"
            echo(f"{cell.what:60s} {numbers}   {cell.ours - cell.published:+.3f}")
            if cell.better == "published" and cell.reason:
                echo(f"    {cell.reason}")
        for claim, good in frame.check_claims(experiment, table, failed):
            echo(f"{'holds' if good else 'DOES NOT HOLD'}: {claim}")
        files = [out / f"{name}.{kind}" for kind in ("csv", "json", "png", "pdf")]
        if page is not None:
            files.append(frame.write_page(out, page))
        print_files(files)
        if failed:
            echo(f"\n{table.iloc[len(there) :].to_string(index=False)}")
            raise WorkerError(
                f"{len(failed)} of the parts of {name} failed, as listed above. Their rows are NaN. Run the same "
                "command again, with --cache-dir to compute only these parts."
            )
