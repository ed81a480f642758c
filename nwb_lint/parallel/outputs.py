"""Places of outputs, checked before the work that makes the outputs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from nwb_lint.errors import ContractError


def check_folder_of(path: Path) -> None:
    """Check that a file can be made: its folder exists and takes new files.

    Permissions alone do not tell: folders of the system, such as /proc, and disks that are read-only take no file.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    ContractError
        If the folder does not exist, or takes no file.
    """
    if not path.parent.is_dir():
        raise ContractError(
            f"{path.parent}: no such folder. {path.name} cannot be written there. Make the folder first."
        )
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise ContractError(
            f"{path} cannot be written: {path.parent} takes no new file ({error.strerror}). Choose another path."
        ) from None
