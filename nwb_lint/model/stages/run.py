"""The stages of a fit on arrays, one after another: regressions, then a gradient, and a check of what they found."""

from __future__ import annotations

import numpy as np

from nwb_lint.model.checkpoint import Journal
from nwb_lint.model.data import Samples
from nwb_lint.model.network import Array, Network
from nwb_lint.model.optimization import Optimizer, Report
from nwb_lint.model.stages.gradient import random_start, run_gradient, run_gradient_with_hidden_units, run_published
from nwb_lint.model.stages.regressions import run_regressions
from nwb_lint.model.stages.search import Search, Settings, Stage, tolerated


def _no_report(stage: str, step: int, loss: float, held_out: float) -> None:
    """Report of progress that does nothing."""


def fit_stages(
    samples: Samples,
    settings: Settings,
    *,
    keep_interrupted: bool = False,
    journal: Journal | None = None,
    report: Report = _no_report,
) -> tuple[list[Stage], Array]:
    """Run the stages of a method.

    Parameters
    ----------
    samples : Samples
        Training conditions.
    settings : Settings
    keep_interrupted : bool, default=False
        Whether Ctrl-C during the gradient ends the fit with a warning and the best network so far. Otherwise it is
        raised.
    journal : Journal, optional
        Evaluations of the gradient, kept in a file.
    report : callable
        Called with the stage, the step, the loss and the held-out loss.

    Returns
    -------
    stages : list of Stage
        The stages that were kept. The last one is the fit.
    singular : array
        Leading singular values of the closed form; empty for an unconstrained J and without a closed form.
    """
    if settings.method == "published":
        return [run_published(samples, settings, report)], np.zeros(0)
    search = Search(samples, settings)
    if settings.method == "gradient":
        search.start_from(random_start(samples, settings, 0))
    elif run_regressions(search, report) or settings.method == "regression":
        settle(search)
        return search.stages, search.singular
    optimizer = Optimizer(
        settings.max_iter,
        settings.device,
        report,
        settings.penalty,
        journal=journal,
        segment=settings.segment,
        algorithm=settings.optimizer,
        seed=settings.seed,
        blocks=settings.blocks,
    )
    try:
        if settings.hidden:
            run_gradient_with_hidden_units(search, optimizer)
        else:
            run_gradient(search, optimizer)
    except KeyboardInterrupt as stop:
        if not keep_interrupted:
            raise
        search.interrupt(stop)
    settle(search)
    return search.stages, search.singular


def settle(search: Search) -> None:
    """Drop a gradient that fits the training conditions worse than the stage before, and a fit worse than none.

    The number of iterations of a descent is chosen on one split; its repetition on all conditions may end elsewhere.
    With ``method="auto"``, the fit becomes the network without connections ("zero"), whose prediction is 0, if its
    error is above the power in training, or on inner held-out conditions. These have no say where an input of theirs is
    0 in all conditions that were fitted, or with two conditions.
    """
    stages, samples = search.stages, search.samples
    error, begun = float(samples.errors(stages[-1].network).sum()), stages[-1].name == "gradient"
    energies = samples.energies()
    shortened = search.settings.l2_n is None and stages[-1].penalty > 0
    before = float(samples.errors(stages[-2].network).sum()) if begun and len(stages) > 1 else np.inf
    if not error <= before + tolerated(before, float(energies.sum())) * shortened:
        interrupted = stages.pop().interrupted
        stages[-1] = stages[-1]._replace(interrupted=interrupted)
        search.final = stages[-1].network
        error = float(samples.errors(search.final).sum())
    if search.settings.method != "auto" or stages[-1].interrupted:
        return
    judges = search.splits[:1] if begun and not search.judged_by_all else search.splits
    without = np.concatenate([energies[held] for _, held in judges])
    answered = len(samples.x) > 2 and all(_spans_drives(samples, *split) for split in judges)
    if error >= energies.sum() or (answered and search.errors[: len(without)].sum() >= without.sum()):
        m, n, w = search.final
        zero = Network(m if n is not None else 0 * m, None if n is None else 0 * n, 0 * w)
        search.final = zero
        stages.append(Stage("zero", zero, np.nan))


def _spans_drives(samples: Samples, fitted: Array, held: Array) -> bool:
    """Whether the drives of the fitted conditions determine all weights that the held-out conditions use."""
    columns = np.delete(np.arange(samples.q.shape[2]), slice(*samples.starts))
    used, every = (samples.q[k][..., columns].reshape(-1, len(columns)).astype(float) for k in (fitted, held))
    grams = [one.T @ one for one in (used, np.concatenate([used, every]))]
    return bool(np.linalg.matrix_rank(grams[0], hermitian=True) == np.linalg.matrix_rank(grams[1], hermitian=True))
