"""The drawing of the surrogates is made by code and shows all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from neurons import surrogates

DOCS = Path(__file__).parents[2] / "docs"


def test_the_drawing_shows_every_surrogate(tmp_path: Path) -> None:
    drawn = tmp_path / "surrogates.svg"
    subprocess.run([sys.executable, str(DOCS / "surrogates.py"), str(drawn)], check=True)
    for page in (drawn, DOCS / "surrogates.svg"):
        text = page.read_text(encoding="utf-8")
        missing = [name for name in surrogates.names() if f">{name}<" not in text]
        assert not missing, f"run: python docs/surrogates.py ({missing})"
