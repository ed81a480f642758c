"""What every test shares: the folder of real data, where a checkout has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import networks

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def offline_dandi(tmp_path, monkeypatch):
    """dandi's client without telemetry, keyring or key, and a cache folder of the test's own."""
    monkeypatch.setenv("NWB_LINT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DANDI_NO_ET", "1")
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    monkeypatch.delenv("DANDI_API_KEY", raising=False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings and published networks; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no data at {SHARED}: it is not part of the project")
    return SHARED


@pytest.fixture
def truth() -> Callable[..., networks.Truth]:
    """`networks.build`: a network and its activity."""
    return networks.build


@pytest.fixture
def recurrence() -> Callable[..., object]:
    """`networks.plain`: the recurrence as it is written down."""
    return networks.plain
