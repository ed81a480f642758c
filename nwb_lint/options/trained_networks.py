"""Options of networks that were trained elsewhere: as a fit, run on inputs, distilled into a low rank."""

from __future__ import annotations

from typing import Literal

from nwb_lint.options.base import Options, Seconds, option


class NetworkOptions(Options):
    """Options of `from_network`."""

    dt_s: Seconds | None = option(None, "Step of the network, s; None: what the network says.", gt=0)
    alpha: float | None = option(None, "dt / tau; None: what the network says.", gt=0, le=1)
    tau_s: Seconds | None = option(None, "Time constant, s, in place of alpha.", gt=0)
    nonlinearity: str | None = option(None, "phi; None: that of the module, else tanh.")
    over_n: bool = option(True, "Whether J = m n' / N; False: J = m n'.")
    names: dict[str, str] | None = option(None, "Names of m, n, input_weights, … among the weights.")
    trial: int | None = option(None, "The trial whose network is taken, for LtrRNN.", ge=0)
    n_bins: int = option(100, "Bins of the conditions that are made where no inputs are given.", ge=2)


class ModuleOptions(Options):
    """Options of `run_module`."""

    dt_s: Seconds | None = option(None, "Step of the module, s; None: that of the times of the inputs.", gt=0)
    states: Literal["activation", "rate"] = option(
        "activation", "What the states of the module are in a network: its activation x, or its rates tanh(x)."
    )


class DistillOptions(Options):
    """Options of `distill`."""

    rank: int | tuple[int, ...] = option(..., "Rank of the network, or ranks to choose from.", kept=False)
    dt_s: Seconds | None = option(None, "Step of the module, s; None: that of the times of the inputs.", gt=0)
    states: Literal["auto", "activation", "rate"] = option(
        "auto", "What the states of the module are: the activation x of the network, its rates tanh(x), or the better."
    )
    tau_s: Seconds | None = option(None, "Time constant of the network, s; None: chosen by held-out trials.", gt=0)
    hidden: int | Literal["auto"] = option("auto", "Hidden units; 'auto': up to 64 units in all.")

    def _check_combinations(self) -> None:
        ranks = self.rank if isinstance(self.rank, tuple) else (self.rank,)
        if not ranks or min(ranks) < 1 or len(set(ranks)) < len(ranks):
            raise ValueError(f"rank is {self.rank}. It needs whole numbers from 1 on, each once.")
        if self.hidden != "auto" and self.hidden < 0:
            raise ValueError(f"hidden is {self.hidden}. It needs a number from 0 on, or 'auto'.")
