"""Peers that generate one request at a time, in this process: Hugging Face generate with a hook, and
TransformerLens' generate with one of its own hooks.
"""

from typing import Any

import torch
from transformer_lens.model_bridge.bridge import TransformerBridge

from bench.live_callers import Callers
from bench.timing import Run
from worker.sites import add_hook
from worker.tokens import encode_text


class Peers:
    """Both, over the same weights."""

    def __init__(self, callers: Callers) -> None:
        self._callers, self._model = callers, callers.case.model
        self._bridge = TransformerBridge.boot_transformers(
            str(self._model.path), device="cpu", dtype=torch.float32
        )

    def hugging_face(self, n: int) -> Run:
        """`n` requests, one after another; counts their tokens."""
        return lambda: sum(len(self.hugging_face_tokens(i)) for i in range(n))

    def transformer_lens(self, n: int) -> Run:
        """The same."""
        return lambda: sum(len(self.transformer_lens_tokens(i)) for i in range(n))

    @torch.inference_mode()
    def hugging_face_tokens(self, i: int) -> list[int]:
        """What Hugging Face answers caller i."""
        ids, (name, added) = self._ids(i), self._callers.hook(i)
        site = self._model.site(name)
        generate: Any = self._model.hf.generate
        handle = add_hook(
            self._model.hf.get_submodule(site.module), site.side, lambda state: state + added
        )
        try:
            answer = generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=self._callers.new_tokens,
                do_sample=False, eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
        finally:
            handle.remove()
        return answer[0, ids.shape[1] :].tolist()

    @torch.inference_mode()
    def transformer_lens_tokens(self, i: int) -> list[int]:
        """What TransformerLens answers caller i."""
        ids, (name, added) = self._ids(i), self._callers.hook(i)
        bridge: Any = self._bridge
        with bridge.hooks(fwd_hooks=[(name, lambda state, hook: state + added)]):
            answer = bridge.generate(
                ids, max_new_tokens=self._callers.new_tokens, do_sample=False,
                stop_at_eos=False, return_type="tokens", verbose=False,
            )  # fmt: skip
        return answer[0, ids.shape[1] :].tolist()

    @torch.inference_mode()
    def run_with_cache(self, ids: torch.Tensor, hook_name: str) -> None:
        """One text, stopped behind the block that was asked for."""
        layer = int(hook_name.split(".")[1])
        bridge: Any = self._bridge
        bridge.run_with_cache(ids, names_filter=hook_name, stop_at_layer=layer + 1)

    def _ids(self, i: int) -> torch.Tensor:
        return torch.tensor([encode_text(self._model, self._callers.prompts[i])])
