"""Memory for results: handed out again when nobody holds it, never before."""

from __future__ import annotations

import gc
import threading

import torch

import neurons
from neurons.compiler.buffers import Buffers, buffers

MIB = 1 << 20


def test_memory_comes_back_when_the_last_view_is_gone() -> None:
    pool = Buffers(most=64 * MIB)
    first = pool.empty((3, MIB), torch.float32)
    place = first.data_ptr()
    assert first.shape == (3, MIB)
    assert place % 64 == 0
    row = first[1]
    del first
    assert pool.empty((3, MIB), torch.float32).data_ptr() != place  # the row is still somebody's
    row.fill_(2.0)
    assert (row == 2.0).all()
    del row
    gc.collect()
    assert place in {tensor.data_ptr() for tensor in [pool.empty((3, MIB), torch.float32) for _ in range(3)]}


def test_what_lies_idle_is_bounded_and_can_be_given_back() -> None:
    pool = Buffers(most=8 * MIB)
    held = [pool.empty((MIB,), torch.float32) for _ in range(5)]  # 4 MiB each
    assert pool.idle == 0
    held.clear()
    assert pool.idle == 8 * MIB
    pool.clear()
    assert pool.idle == 0


def test_small_tensors_are_torchs_own() -> None:
    pool = Buffers(most=64 * MIB)
    tensor = pool.empty((2, 3), torch.float64)
    assert tensor.dtype == torch.float64
    del tensor
    assert pool.idle == 0


def test_many_threads_never_share_a_buffer() -> None:
    pool = Buffers(most=64 * MIB)
    wrong = []

    def work(number: int) -> None:
        for turn in range(30):
            tensor = pool.empty((MIB // 2,), torch.float32)
            tensor.fill_(number * 100 + turn)
            if not (tensor == number * 100 + turn).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_results_of_neurons_are_not_overwritten_by_later_ones() -> None:
    neuron, x = neurons.create("lif"), torch.rand(4, 2, 200_000) * 2
    first = neuron(x)
    kept = first.clone()
    for _ in range(3):
        neuron(x.flip(0))
    assert torch.equal(first, kept)
    if first.numel() * 4 >= MIB:
        del first, kept
        gc.collect()
        assert buffers.idle > 0
