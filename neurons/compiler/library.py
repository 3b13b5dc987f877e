"""Programs by key, and the kernels made of them: one for each device, made when first used there.

A key is enough: a program that this process has not made is read from the folder of the cache.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from neurons.compiler import cache
from neurons.compiler.choice import Word
from neurons.compiler.kernel import Kernel
from neurons.compiler.program import Program


class Loops(Protocol):
    """A kernel ready to be called: tensors in, tensors out."""

    def forward(self, x: Tensor, state: Sequence[Tensor], tensors: Sequence[Tensor], keep: bool) -> list[Tensor]:
        """Return the output [T, B, ...] and, when ``keep``, the last states [B, ...]."""
        ...

    def backward(
        self,
        gradient: Tensor | None,
        gradient_state: Sequence[Tensor | None],
        x: Tensor,
        state: Sequence[Tensor],
        tensors: Sequence[Tensor],
        needs: Sequence[bool],
    ) -> list[Tensor]:
        """Return the gradients of x, of the states where they were given, and of the tensors that need one."""
        ...


_programs: dict[str, Program] = {}
_kernels: dict[tuple[str, Word], Loops] = {}
_lock = threading.Lock()


def add(program: Program) -> str:
    """Keep a program, here and in the folder of the cache, and return its key."""
    key = program.key
    with _lock:
        if key not in _programs:
            path = cache.directory() / f"{key}.json"
            text = program.to_json().encode()
            if not path.exists() or path.read_bytes() != text:
                cache.write(path, text)
            _programs[key] = program
    return key


def program(key: str) -> Program:
    """Return the program with a key, from the folder of the cache when this process has not made it.

    Raises
    ------
    RuntimeError
        When nobody made it.
    """
    found = _programs.get(key)
    if found is None:
        try:
            read = Program.from_json((cache.directory() / f"{key}.json").read_text())
        except (OSError, ValueError) as error:
            raise RuntimeError(
                f"no neuron kernel has the key {key!r} here; call the neuron once in this process"
            ) from error
        found = _programs.setdefault(key, read)
    return found


def kernel(key: str, word: Word) -> Loops:
    """Return the kernel of a program for the devices of a word, made now unless it is there.

    Raises
    ------
    RuntimeError
        When nobody made the program.
    Untraceable
        When Triton lacks something that it needs.
    cache.NoCompilerError
    """
    found = _kernels.get((key, word))
    if found is None:
        wanted = program(key)
        with _lock:
            found = _kernels.get((key, word))
            if found is None:
                found = _kernels[key, word] = _make(wanted, word)
    return found


def _make(program: Program, word: Word) -> Loops:
    if word == "triton":
        from neurons.compiler.triton_kernel import TritonKernel  # imports Triton

        return TritonKernel(program)
    return Kernel(program)
