"""Compiled kernels on disk: found by content, safe with many processes at once.

A kernel is named by a hash of its source, the compiler, the flags and the processor. It is built under another name
and moved into place, and it carries a checksum, so that a damaged file is noticed and built anew.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

FLAGS = (
    # the passes left out find nothing to share in straight code, and take half of the time on long steps
    "-O2", "-ftree-vectorize", "-fvect-cost-model=dynamic", "-fno-gcse", "-fno-tree-pre",
    "-march=native", "-std=gnu11", "-fPIC", "-shared",
    # the same numbers as the eager loop: no fused multiply-add unless asked for, no reordering
    "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math",
)  # fmt: skip
_PARALLEL = (("-fopenmp",), ("-fopenmp-simd",))
_DIGEST = 32


class NoCompilerError(Exception):
    """There is no C compiler, or it does not work; the message says which."""


def directory() -> Path:
    """Return the folder of the cache: ``STEP_CACHE``, or the user's cache folder."""
    root = os.environ.get("STEP_CACHE")
    if root:
        return Path(root) / "kernels"
    import platformdirs

    return Path(platformdirs.user_cache_dir("step-snn", appauthor=False)) / "kernels"


def write(path: Path, content: bytes) -> None:
    """Write a file so that other processes see all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def compiler() -> list[str]:
    """Return the command of the C compiler: ``CC``, or the system's.

    Raises
    ------
    NoCompilerError
    """
    named = shlex.split(os.environ.get("CC", ""))
    for command in [named] if named else [["cc"], ["gcc"], ["clang"]]:
        found = shutil.which(command[0])
        if found:
            return [found, *command[1:]]
    raise NoCompilerError(f"no C compiler was found ({named[0] if named else 'cc, gcc or clang'})")


@functools.cache
def processor() -> str:
    """Return what ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    keys = ("vendor_id", "cpu family", "model", "model name", "flags", "Features", "CPU part")
    return platform.machine() + "".join(line for line in lines if line.split(":")[0].strip() in keys)


def _identity(command: list[str]) -> str:
    """Tell one compiler from another without starting it."""
    real = Path(os.path.realpath(command[0]))
    return f"{real} {real.stat().st_size} {real.stat().st_mtime_ns} {command[1:]}"


def load(source: str) -> ctypes.CDLL:
    """Return the library of a C source, from the cache where it is there.

    Raises
    ------
    NoCompilerError
    """
    command = compiler()
    content = "\0".join((source, _identity(command), *FLAGS, processor()))
    name = hashlib.sha256(content.encode()).hexdigest()[:32]
    path = directory() / f"{name}.so"
    library = _open(path)
    if library is None:
        _build(command, source, path)
        library = _open(path)
    if library is None:
        raise NoCompilerError(f"what {command[0]} made cannot be loaded")
    return library


def _open(path: Path) -> ctypes.CDLL | None:
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[:-_DIGEST]).digest() != content[-_DIGEST:]:
            return None
        return ctypes.CDLL(str(path))
    except OSError:
        return None


def _build(command: list[str], source: str, path: Path) -> None:
    message = ""
    with tempfile.TemporaryDirectory(prefix="step-") as folder:
        text, made = Path(folder, "kernel.c"), Path(folder, "kernel.so")
        text.write_text(source)
        for parallel in _PARALLEL:
            done = subprocess.run(
                [*command, *FLAGS, *parallel, str(text), "-o", str(made), "-lm"],
                check=False,
                capture_output=True,
                text=True,
            )
            if done.returncode == 0:
                try:
                    ctypes.CDLL(str(made))
                except OSError as error:
                    message = str(error)
                    continue
                content = made.read_bytes()
                write(path, content + hashlib.sha256(content).digest())
                write(path.with_suffix(".c"), source.encode())
                return
            message = (done.stderr.strip().splitlines() or ["no message"])[0]
    raise NoCompilerError(f"{command[0]} does not compile: {message}")
