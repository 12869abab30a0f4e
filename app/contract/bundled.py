"""Ids of the model and the SAEs that come with the project."""

BUNDLED_MODEL = "storyworld"
BUNDLED_SAES = ("2-res-topk", "2-res-standard", "2-mlp-topk")
BUNDLED_SOURCES = (*BUNDLED_SAES, "2-mlp")
"""Those and the neurons that the last of them splits: what has evidence after the first start."""
