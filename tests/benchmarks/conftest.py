"""A machine without data, for the tests of where data are looked for and how they are fetched."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from benchmarks.datasets import roots


@pytest.fixture
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the search see empty folders only; return the user's cache folder."""
    cache = tmp_path / "cache"
    monkeypatch.delenv("STEP_DATA", raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name, **options: cache / name)
    monkeypatch.setattr(roots, "SYSTEM_ROOTS", (tmp_path / "system",))
    return cache / "step-snn" / "data"
