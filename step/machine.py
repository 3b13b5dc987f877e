"""Facts about this machine and installation, recorded beside every result and shown by ``step doctor``."""

from __future__ import annotations

import os
import platform
import shutil
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "numpy", "pandas", "spikingjelly", "snntorch", "tonic", "norse", "neurobench", "ray", "psycopg")


@cache
def machine() -> dict[str, str]:
    """Return processor, cores, operating system, versions and GPU."""
    import torch

    from neurons.compiler import backend

    facts = {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "step": installed("step-snn") or "?",
        "kernels": ", ".join(f"{device}: {backend(device)}" for device in devices()),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def devices() -> list[str]:
    """Return the kinds of device that networks can run on here."""
    import torch

    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def installed(package: str) -> str | None:
    """Return the installed version, without importing the package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def compiler() -> str | None:
    """Return the system's C compiler."""
    return next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
