"""What live answers of SAEs as SAELens' own training leaves them, decoder rows of any length, equals
SAELens' encode and decode, for every architecture that it trains."""

import itertools
from pathlib import Path
from typing import get_args

import pytest
import torch
from sae_lens import SAE

from app.contract.jobs import Architecture, TrainSpec
from tests.live.world import SITES, TEXTS, World
from worker.activations import capture
from worker.live.capture import CaptureJob, CaptureQueue
from worker.live.kinds import OfSae
from worker.saes import load_sae
from worker.tokens import encode_text
from worker.train.settings import resolve
from worker.train.sparsity import L1_ARCHITECTURES
from worker.train.trainer import build


@pytest.fixture(params=get_args(Architecture))
def trained(world: World, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A few steps of SAELens' own loop, on the states of the texts, saved as it saves them."""
    sparse = {} if request.param in L1_ARCHITECTURES else {"k": 4}
    spec = TrainSpec.model_validate({
        "model": world.id, "sae": "1-trained", "hook_name": SITES["post"], "d_sae": 96, "lr": 0.01,
        "architecture": request.param, "training_tokens": 20 * 64, "train_batch_tokens": 64, **sparse,
    })  # fmt: skip
    torch.manual_seed(0)
    trainer = build(resolve(spec, world.model), world.id, torch.device("cpu"))
    x = torch.cat([states(world, text) for text in texts(world)])
    trainer.cfg.n_batches_for_norm_estimate = 1
    trainer.data_provider = itertools.cycle([x[torch.randint(len(x), (64,))] for _ in range(8)])
    trainer.fit()
    trainer.sae.save_inference_model(tmp_path / "sae")
    return tmp_path / "sae"


def texts(world: World) -> list[list[int]]:
    return [encode_text(world.model, text) for text in TEXTS]


def states(world: World, text: list[int]) -> torch.Tensor:
    return capture(world.model, torch.tensor([text]), [SITES["post"]])[SITES["post"]][0].clone()


@torch.no_grad()
def test_live_equals_saelens(world: World, trained: Path) -> None:
    own = SAE.load_from_disk(trained)
    lengths = own.W_dec.norm(dim=1)
    dictionary = load_sae("1-trained", trained, model=world.model)
    readings = [
        OfSae("columns", dictionary, tuple(range(96)), 8),
        OfSae("strongest", dictionary, None, 96),
    ]
    job = CaptureJob(texts(world), readings)
    queue = CaptureQueue(world.model)
    queue.submit(job)
    while queue.waiting:
        queue.step()
    for text, answer in zip(job.texts, job.answer.result(), strict=True):
        x = states(world, text)
        expected = own.encode(x)
        limit = 1e-5 * float((expected * lengths).abs().max())
        assert limit > 0
        columns = torch.from_numpy(answer["columns"])
        assert torch.allclose(columns, expected * lengths, rtol=0, atol=limit)
        found, ranked = answer["strongest"], torch.zeros_like(expected)
        ranked[found.token, found.feature] = torch.from_numpy(found.value)
        assert torch.allclose(ranked, (expected * lengths).relu(), rtol=0, atol=limit)
        again = dictionary.decode(columns, x)
        assert torch.allclose(again, own.decode(expected), rtol=0, atol=1e-5 * float(x.abs().max()))
