"""The live engine in process: generation and captures for many callers, against one at a time.

Random weights, float32, equal threads, medians of interleaved repeats. Generation: 32 requests, each
with a vector of its own added at its own layer, against Hugging Face generate with the same hook,
one request after another. Captures: 32 texts of 32 tokens and one SAE of 16 k features.

    python -m bench.live [--quick]
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from app.contract.steering import Intervention
from bench.report import promise, report
from worker.activations import capture
from worker.encoders import ThresholdEncoder
from worker.live.answer import Answer, Generation
from worker.live.capture import CaptureJob, CaptureQueue, Reading
from worker.live.detokenize import Detokenizer
from worker.live.engine import BatchEngine
from worker.live.forward import BatchForward
from worker.live.sampling import Sampling
from worker.live.steering import compile_edits
from worker.models import LanguageModel, load_model, vocabulary
from worker.saes import Decoder, Dictionary

CALLERS, PROMPT, NEW = 32, 32, 32
WIDTH = 16_384


def main(quick: bool) -> None:
    shapes = {"32 M": (make_llama, 7.0)} if quick else {
        "32 M": (make_llama, 7.0), "124 M": (make_gpt2, 5.0)
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        for name, (make, goal) in shapes.items():
            model = make_model(Path(scratch) / name.replace(" ", ""), make())
            repeats = 3 if quick else 5
            generation(name, model, goal, repeats)
            captures(name, model, repeats)
    report()


def generation(name: str, model: LanguageModel, goal: float, repeats: int) -> None:
    """Time the engine steered, unsteered and in pairs, and Hugging Face generate one at a time."""
    bench = Requests(model)
    few = 4
    seconds = interleaved(repeats, {
        "one at a time": lambda: [bench.hugging_face(i) for i in range(few)],
        "steered": lambda: bench.run([bench.request(i) for i in range(CALLERS)]),
        "unsteered": lambda: bench.run([bench.request(i, steered=False) for i in range(CALLERS)]),
        "16 steered": lambda: bench.run([bench.request(i) for i in range(16)]),
        "16 pairs": lambda: bench.run([bench.request(i, pair=True) for i in range(16)]),
    })  # fmt: skip
    one = seconds["one at a time"] / few * CALLERS
    promise("generation 32 callers over one at a time", name, one / seconds["steered"],
            f">= {goal:g}")  # fmt: skip
    promise("steered over unsteered", name, seconds["unsteered"] / seconds["steered"], ">= 0.95")
    promise("pair over steered", name, seconds["16 pairs"] / seconds["16 steered"], "<= 1.35")
    promise("first token in steps", name, bench.first_token(repeats), "<= 3")


class Requests:
    """Requests of one model, and the engine that runs them."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._engine = BatchEngine(BatchForward(model, slots=CALLERS + 1))
        self._vocabulary = vocabulary(model)
        generator = torch.Generator().manual_seed(0)
        self._vectors = torch.randn(CALLERS + 1, model.d_model, generator=generator)
        self._prompts = torch.randint(
            3, model.vocab_size, (CALLERS + 1, PROMPT), generator=generator
        ).tolist()

    def request(self, i: int, steered: bool = True, pair: bool = False) -> Generation:
        """Request i, steered at a layer of its own."""
        edits = compile_edits([self._entry(i)], self._model, {}, frozenset(), {}) if steered else ()
        answers = [self._answer(i, "steered", edits)]
        if pair:
            answers.append(self._answer(i, "baseline", ()))
        return Generation(answers, exact=False, timeout_s=1e6)

    def run(self, generations: list[Generation]) -> None:
        """Run requests together to their end."""
        for one in generations:
            self._engine.submit(one)
        while self._engine.running or self._engine.waiting:
            self._engine.step()

    def first_token(self, repeats: int) -> float:
        """Time to the first token of a request that comes while 32 run, in decode steps."""
        steps, taken = [], []
        for _ in range(repeats):
            for i in range(CALLERS):
                self._engine.submit(self.request(i))
            while self._engine.waiting:
                self._engine.step()
            steps += [timed(self._engine.step) for _ in range(8)]
            taken.append(self._late())
            self.run([])
        print({"step": statistics.median(steps), "first token": statistics.median(taken)})
        return statistics.median(taken) / statistics.median(steps)

    def _late(self) -> float:
        """Seconds to the first token of one more request."""
        late = self.request(CALLERS)
        started = time.monotonic()
        self._engine.submit(late)
        while late.first_token is None:
            self._engine.step()
        return late.first_token - started

    def hugging_face(self, i: int) -> None:
        """Request i by generate with a hook."""
        vector = 3 * self._vectors[i]
        module = self._model.hf.get_submodule(self._model.site(self._entry(i).hook or "").module)
        handle = module.register_forward_pre_hook(lambda _m, args: (args[0] + vector, *args[1:]))
        ids = torch.tensor([self._prompts[i]])
        generate: Any = self._model.hf.generate
        with torch.inference_mode():
            generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False,
                eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
        handle.remove()

    def _entry(self, i: int) -> Intervention:
        layer = 1 + i % (self._model.n_layers - 1)
        return Intervention(
            hook=f"blocks.{layer}.hook_resid_pre",
            vector=self._vectors[i].tolist(),
            amount=3.0,
            method="add",
            positions="all",
        )

    def _answer(self, i: int, name: str, edits: tuple) -> Answer:
        return Answer(
            name=name,
            prompt=self._prompts[i],
            edits=edits,
            sampling=Sampling(),
            max_new_tokens=NEW,
            eos_ids=frozenset(),
            vocabulary=self._vocabulary,
            text=Detokenizer([]),
        )


def captures(name: str, model: LanguageModel, repeats: int) -> None:
    """Time captures together, one at a time, and beside full forwards; and one feature alone."""
    generator = torch.Generator().manual_seed(1)
    texts = torch.randint(3, model.vocab_size, (CALLERS, 32), generator=generator).tolist()
    narrow = make_dictionary(model, WIDTH)
    wide = make_dictionary(model, 65_536)
    queue = CaptureQueue(model)

    def run(readings: list[Reading], together: bool) -> None:
        for text in texts:
            queue.submit(CaptureJob([text], readings))
            while queue.waiting and not together:
                queue.step()
        while queue.waiting:
            queue.step()

    def full_forwards() -> None:
        with torch.inference_mode():
            for text in texts:
                model.hf(torch.tensor([text]), use_cache=False)

    top = [Reading("sae", narrow, None, 8)]
    whole = [Reading("sae", wide, None, 8)]
    single = [Reading("sae", wide, (7,), 8)]
    seconds = interleaved(repeats, {
        "together": lambda: run(top, together=True),
        "one at a time": lambda: run(top, together=False),
        "full forwards": full_forwards,
        "full width": lambda: run(whole, together=True),
        "one feature": lambda: run(single, together=True),
    })  # fmt: skip
    together = seconds["together"]
    promise("activations 32 callers over one", name, seconds["one at a time"] / together, ">= 1.8")
    promise("activations 32 callers over full forwards", name,
            seconds["full forwards"] / together, ">= 4.5")  # fmt: skip
    promise("one feature over full width", f"{name} 65k",
            seconds["one feature"] / seconds["full width"], "<= 0.8")  # fmt: skip


def interleaved(repeats: int, work: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each, taken in turns after one turn that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(repeats + 1):
        for name, one in work.items():
            seconds = timed(one)
            if turn:
                taken[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    print({name: round(value, 3) for name, value in medians.items()}, flush=True)
    return medians


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def make_llama() -> PreTrainedModel:
    """32 M parameters."""
    return LlamaForCausalLM(LlamaConfig(
        hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=4, vocab_size=8192, max_position_embeddings=1024,
    ))  # fmt: skip


def make_gpt2() -> PreTrainedModel:
    """124 M parameters."""
    return GPT2LMHeadModel(GPT2Config())


def make_model(folder: Path, model: PreTrainedModel) -> LanguageModel:
    """A model with random weights, through the same door as any other."""
    words = {f"w{i}": i for i in range(model.config.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="w1", eos_token="w2"
    ).save_pretrained(folder)
    return load_model("bench", folder)


def make_dictionary(model: LanguageModel, d_sae: int) -> Dictionary:
    """A ReLU SAE in the middle of the model, of whose features about 30 are active."""
    generator = torch.Generator().manual_seed(2)
    rows = torch.nn.functional.normalize(torch.randn(d_sae, model.d_model, generator=generator))
    layer = model.n_layers // 2
    hook = f"blocks.{layer}.hook_resid_post"
    ids = torch.randint(3, model.vocab_size, (4, 32), generator=generator)
    reached = (capture(model, ids, [hook])[hook].flatten(0, 1) @ rows.T).flatten()
    limit = reached.topk(30 * ids.numel()).values[-1].item()
    return Dictionary(
        id="sae",
        fingerprint="bench",
        hook_name=hook,
        hook_out=hook,
        layer=layer,
        architecture="standard",
        d_in=model.d_model,
        d_sae=d_sae,
        steerable=True,
        steerable_reason=None,
        scale=torch.ones(d_sae),
        signed=False,
        prepend_bos=None,
        encoder=ThresholdEncoder(rows.T.contiguous(), torch.full((d_sae,), -limit), None),
        decoder=Decoder(rows=rows, bias=torch.zeros(model.d_model), skip=None),
    )


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
