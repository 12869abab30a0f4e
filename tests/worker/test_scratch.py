"""Scratch memory: shared by the encoders of a thread, never by two threads."""

import threading

import torch

from worker.encoders import ThresholdEncoder
from worker.scratch import scratch

CPU = torch.device("cpu")


def test_it_is_used_again_and_grows_to_the_largest() -> None:
    small = scratch.take((2, 3), CPU, torch.float32)
    large = scratch.take((40_000, 3), CPU, torch.float32)
    assert scratch.take((3, 2), CPU, torch.float32).data_ptr() == large.data_ptr()
    assert small.shape == (2, 3) and large.shape == (40_000, 3)
    assert scratch.take((5,), CPU, torch.bool).data_ptr() != large.data_ptr()


def test_inside_and_outside_of_inference_mode() -> None:
    with torch.inference_mode():
        scratch.take((50_000,), CPU, torch.float32).zero_()
    scratch.take((50_000,), CPU, torch.float32).zero_()


def test_threads_have_their_own() -> None:
    own = scratch.take((10,), CPU, torch.float32).data_ptr()
    others: list[int] = []

    def run() -> None:
        others.append(scratch.take((10,), CPU, torch.float32).data_ptr())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert others != [own]


def test_encoders_do_not_disturb_each_other() -> None:
    """Results of one stay what they are when another uses the memory."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 8, generator=generator)
    encoders = [
        ThresholdEncoder(torch.randn(8, width, generator=generator), torch.zeros(width), None)
        for width in (50, 20, 70)
    ]
    with torch.inference_mode():
        found = [encoder.sparse(x) for encoder in encoders]
        for encoder, sparse in zip(encoders, found, strict=True):
            dense = encoder.dense(x, None)
            assert torch.equal(sparse.value, dense[dense != 0])
