"""Ids of the model and the SAEs that come with the project."""

BUNDLED_MODEL = "storyworld"
BUNDLED_SAES = ("2-res-topk", "2-res-standard", "2-mlp-topk")
