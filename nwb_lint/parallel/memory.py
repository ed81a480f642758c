"""Memory that is asked for before it is taken: a demand that the machine cannot meet is an error at once."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from nwb_lint.errors import ContractError

_SMALL_BYTES = 64 * 2**20  # demands up to this size are not looked at


def check_memory(n_bytes: float, what: str, advice: str) -> None:
    """Check that so many bytes are free.

    Parameters
    ----------
    n_bytes : float
        The bytes that will be taken, at least.
    what : str
        What needs them, for the message: "activity of 3 units in 5 bins".
    advice : str
        What to do where they are not free.

    Raises
    ------
    ContractError
        If fewer are free, as far as the system says it.
    """
    if n_bytes <= _SMALL_BYTES:
        return
    free = free_bytes()
    if n_bytes > free:
        sizes = f"needs {n_bytes / 1e9:.3g} GB of memory, and {free / 1e9:.3g} GB are free"
        raise ContractError(f"{what} {sizes}. {advice}.")


def free_bytes() -> float:
    """Bytes of memory that this process can still take; infinity where the system does not say it.

    The least of what the machine has, of the limit of a container (cgroup), and of the limit of the process.
    """
    found = [float("inf")]
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(1024.0 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):  # "max" where there is no limit
        limit, used = (int((group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        cached = [line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines()]
        found.append(float(limit - used + sum(int(n) for name, n in cached if name == "inactive_file")))
    with suppress(ImportError, OSError, ValueError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
            found.append(float(limit - used))
    return max(min(found), 0.0)
