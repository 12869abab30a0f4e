"""Ids of the model and the SAEs that come with the project."""

BUNDLED_MODEL = "storyworld"
BUNDLED_SAES = ("2-res-topk", "2-res-standard", "2-mlp-topk")
BUNDLED_SPLIT = ("2-mlp", "2-mlp-topk")
"""Neurons and the SAE that splits them."""
BUNDLED_SOURCES = tuple(dict.fromkeys((*BUNDLED_SAES, *BUNDLED_SPLIT)))
"""What has evidence after the first start."""
BUNDLED_AXIS = [float(axis == 7) for axis in range(128)]
"""A direction in the model's residual stream."""
