"""A machine without data, for the tests of where data are looked for and how they are fetched."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
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


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, empty_machine: Path) -> Iterator[tuple[Path, str]]:
    """Serve a folder; return it and its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()
