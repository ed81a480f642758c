"""Regressions in torch on the CPU give what they give in numpy."""

from __future__ import annotations

import numpy as np
import pytest

from nwb_lint.model.areas import regression as of_areas
from nwb_lint.model.areas.blocks import Blocks
from nwb_lint.model.network import drives
from nwb_lint.model.regression import closed_form, latent_pass
from nwb_lint.parallel._torch import TorchEngine

TORCH = TorchEngine("cpu")


def noisy(missing: bool, burn_in: int):
    rng = np.random.default_rng(0)
    u = rng.standard_normal((9, 30 + burn_in, 2))
    q = drives(u, 0.2, bias=True, initial=False)
    x = q[:, burn_in:] @ rng.standard_normal((3, 12)) + 0.3 * rng.standard_normal((9, 30, 12))
    if missing:
        x[2, 20:] = np.nan
        x[4, :, 3] = np.nan
    return x, q


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "softplus"])
@pytest.mark.parametrize(
    "how",
    [{}, {"missing": True}, {"burn_in": 5}, {"prewhiten": True, "missing": True}, {"rank": None}, {"sketch": 5},
     {"halves": True}],
    ids=str,
)  # fmt: skip
def test_regressions_agree(how, nonlinearity):
    how = dict(how)
    x, q = noisy(how.pop("missing", False), how.pop("burn_in", 0))
    if how.pop("halves", False):
        how["halves"] = x + 0.1 * np.random.default_rng(1).standard_normal((2, *x.shape))
    options = {"rank": 2, "alpha": 0.2, "nonlinearity": nonlinearity, "ridges": (1e-3, 0.1)} | how
    one, other = closed_form(x, q, **options), closed_form(x, q, engine=TORCH, **options)
    pairs = list(zip(one.networks, other.networks, strict=True))
    if options["rank"] is not None:
        start, options = one.networks[0], {name: options[name] for name in ("alpha", "nonlinearity", "ridges")}
        passes = (latent_pass(start, x, q, **options), latent_pass(start, x, q, engine=TORCH, **options))
        pairs += list(zip(*(found.networks for found in passes), strict=True))
    for a, b in pairs:
        np.testing.assert_allclose(b.j(), a.j(), atol=1e-9 * np.abs(a.j()).max())
        np.testing.assert_allclose(b.w, a.w, atol=1e-9 * np.abs(a.w).max())
    np.testing.assert_allclose(other.gcv, one.gcv, rtol=1e-9)


@pytest.mark.parametrize("how", [{}, {"unseen_start": True}, {"missing": True}], ids=str)
def test_regressions_of_areas_agree(how):
    how = dict(how)
    x, q = noisy(how.pop("missing", False), 5 if "unseen_start" in how else 0)
    area, pairs = np.repeat([0, 1], 6), np.indices((2, 2)).reshape(2, -1)
    blocks = Blocks(("A", "B"), area, *pairs, np.ones((12, q.shape[2]), bool))
    moved = []

    class Counted(TorchEngine):
        def put(self, fields):
            moved.append(1)
            return super().put(fields)

    options = {"blocks": blocks, "alpha": 0.2, "nonlinearity": "tanh", "ridges": (1e-3, 0.1)} | how
    torch_options = options | {"engine": Counted("cpu")}
    first = of_areas.closed_form(x, q, **options), of_areas.closed_form(x, q, **torch_options)
    assert moved
    start = first[0].networks[0]
    moved.clear()
    second = of_areas.latent_pass(start, x, q, **options), of_areas.latent_pass(start, x, q, **torch_options)
    assert moved
    for one, other in (first, second):
        for a, b in zip(one.networks, other.networks, strict=True):
            np.testing.assert_allclose(b.j(), a.j(), atol=1e-8 * np.abs(a.j()).max())
            np.testing.assert_allclose(b.w, a.w, atol=1e-8 * np.abs(a.w).max())
