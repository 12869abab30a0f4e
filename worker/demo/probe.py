"""How well a token alone, and how well the model's residual stream, tells each concept.

Token rule: the set of token ids that, called positive, gives the largest F1.
Probe: ridge regression from the residual stream to the 0/1 concepts, all at once, by the normal
equations; the threshold that is best on the fitted half is applied to the other half.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from worker.demo.f1 import best_ids, f1_of
from worker.demo.labels import in_question, membership
from worker.demo.scribe import Document


class Labelled(NamedTuple):
    """Tokens of many documents in a row, BOS left out."""

    ids: Int[np.ndarray, " tokens"]
    concepts: Bool[np.ndarray, "tokens concepts"]
    in_question: Bool[np.ndarray, "tokens concepts"]
    """Where each concept is judged; see `worker.demo.labels.in_question`."""
    document: Int[np.ndarray, " tokens"]
    """The position, among the documents, of the one that a token is from."""


def label_tokens(tokenizer: PreTrainedTokenizerFast, documents: list[Document]) -> Labelled:
    """Tokenise and label."""
    encoded = tokenizer(
        [d.text for d in documents], add_special_tokens=False, return_offsets_mapping=True
    )
    pairs = list(zip(documents, encoded["offset_mapping"], strict=True))
    tables = [membership(d, offsets) for d, offsets in pairs]
    return Labelled(
        np.concatenate([np.asarray(ids) for ids in encoded["input_ids"]]),
        np.concatenate(tables),
        np.concatenate([in_question(d, offsets) for d, offsets in pairs]),
        np.repeat(np.arange(len(documents)), [len(table) for table in tables]),
    )


def token_rule_f1(labelled: Labelled) -> Float[np.ndarray, " concepts"]:
    """The F1 of the best rule that sees the token id alone, per concept, on the same tokens."""
    size = int(labelled.ids.max()) + 1
    best = np.zeros(labelled.concepts.shape[1])
    for column, truth in enumerate(labelled.concepts.T):
        judged = labelled.in_question[:, column]
        ids, held = labelled.ids[judged], truth[judged]
        best[column] = f1_of(best_ids(ids, held, size)[ids], held)
    return best


@torch.inference_mode()
def residuals(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    documents: list[Document],
    layer: int,
) -> Float[torch.Tensor, "tokens d_model"]:
    """The stream after block `layer`, not the last, at every token but BOS, in order.

    transformers puts the final norm on what it calls the last hidden state.
    """
    bos, found = tokenizer.bos_token_id, []
    for document in documents:
        ids = tokenizer(document.text, add_special_tokens=False)["input_ids"]
        out = model(torch.tensor([[bos, *ids]]), output_hidden_states=True, use_cache=False)
        found.append(out.hidden_states[layer + 1][0, 1:])
    return torch.cat(found)


def probe_f1(
    stream: Float[torch.Tensor, "tokens d_model"], labelled: Labelled
) -> Float[np.ndarray, " concepts"]:
    """The F1 of a linear probe per concept: fitted on even documents, measured on odd ones."""
    x = torch.cat([stream, torch.ones(len(stream), 1)], dim=1).double()
    found = np.zeros(labelled.concepts.shape[1])
    masks, group_of = np.unique(labelled.in_question, axis=1, return_inverse=True)
    for group, judged in enumerate(masks.T):
        columns = np.flatnonzero(group_of == group)
        truth = torch.from_numpy(labelled.concepts[judged][:, columns])
        even = torch.from_numpy(labelled.document[judged] % 2 == 0)
        found[columns] = _fit_and_measure(x[torch.from_numpy(judged)], truth, even)
    return found


def _fit_and_measure(
    x: Float[torch.Tensor, "tokens inputs"],
    truth: Bool[torch.Tensor, "tokens concepts"],
    fitted: Bool[torch.Tensor, " tokens"],
) -> list[float]:
    gram = x[fitted].T @ x[fitted]
    ridge = 1e-4 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    scores = x @ torch.linalg.solve(gram + ridge, x[fitted].T @ truth[fitted].double())
    return [
        _f1_at(score[~fitted], t[~fitted], _best_threshold(score[fitted], t[fitted]))
        for score, t in zip(scores.T, truth.T, strict=True)
    ]


def _best_threshold(
    scores: Float[torch.Tensor, " tokens"], truth: Bool[torch.Tensor, " tokens"]
) -> float:
    order = scores.argsort(descending=True)
    hits = truth[order].cumsum(0)
    f1 = 2 * hits / (torch.arange(1, len(order) + 1) + truth.sum())
    return float(scores[order[f1.argmax()]])


def _f1_at(
    scores: Float[torch.Tensor, " tokens"], truth: Bool[torch.Tensor, " tokens"], threshold: float
) -> float:
    called = scores >= threshold
    return float(2 * (called & truth).sum() / (called.sum() + truth.sum()).clamp(min=1))
