"""How long a row may become: up to where a model treats every row of a batch by its own length."""

from collections.abc import Iterator
from typing import Any

from app.contract.live import MAX_LEN
from worker.models import LanguageModel


def row_limit(model: LanguageModel) -> int:
    """Tokens of prompt and answer together that a row may have."""
    return min(model.context_size, MAX_LEN, *_of_batch(model.hf.config.get_text_config()))


def _of_batch(config: Any) -> Iterator[int]:
    """Lengths from which on a row's numbers would depend on the longest row beside it.

    Scaled rotary embeddings choose their frequencies by the largest position of the batch; GPT-Neo's
    local layers count their window from the end of the longest row; chunks of attention are not in
    our masks.
    """
    for rope in _ropes(getattr(config, "rope_parameters", None) or {}):
        if rope.get("rope_type") in ("longrope", "dynamic"):
            yield (
                getattr(config, "original_max_position_embeddings", None)
                or rope.get("original_max_position_embeddings")
                or config.max_position_embeddings
            )
    if config.model_type == "gpt_neo":
        yield config.window_size
    if chunk := getattr(config, "attention_chunk_size", None):
        yield chunk


def _ropes(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """One for all layers, or one for each kind of layer."""
    return [one for one in parameters.values() if isinstance(one, dict)] or [parameters]
