"""Routes of Neuronpedia's that are not served, with the reason and what to do instead."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter

from app.errors import BadRequest

router = APIRouter(include_in_schema=False)

_LOAD = "POST /v1/jobs with kind `load` registers a model or an SAE, `import` takes over evidence"
_UPLOAD = (
    "Evidence is not uploaded piece by piece here, so that nobody sees half of it; POST /v1/jobs with "
    "kind `import` takes over a folder of it, and `precompute` computes it."
)
_NO_MODEL_OF_WORDS = (
    "No language model that explains is connected here: labels are made of the tokens that a feature "
    "fires on and promotes, and `label_score` of GET /v1/models/{model}/saes/{sae}/features/{index} "
    "says how well they tell."
)
_NOBODY = "There are no accounts here, and so nobody to vote, comment or keep bookmarks; lists can be kept."
_NO_GRAPHS = "Attribution graphs are not computed here."
_WEBSITE = "This is of Neuronpedia's own website, and nothing here answers it."
REFUSED: dict[str, str] = {
    "model/new": f"Models are not made by name here; {_LOAD}.",
    "source-set/new": f"Sets are made of SAEs whose ids differ in the layer only; {_LOAD}.",
    "source/new": f"Sources are SAEs; {_LOAD}.",
    "source-release/new": f"Releases are told by what is loaded or imported; {_LOAD}.",
    "feature/upload-batch": _UPLOAD,
    "activation/upload-batch": _UPLOAD,
    "explanation/generate": _NO_MODEL_OF_WORDS,
    "explanation/score": _NO_MODEL_OF_WORDS,
    "explanation/score/{score}/delete": _NO_MODEL_OF_WORDS,
    "explanation/new": "Labels are made with the evidence, or imported with it; nobody writes them "
    "here. Neuronpedia's own route is not active either.",
    "explanation/export": "POST /v1/jobs with kind `export` writes the explanations of an SAE, and all "
    "else of it, in Neuronpedia's layout.",
    "explanation/{explanation}/vote": _NOBODY,
    "explanation/{explanation}/unvote": _NOBODY,
    "explanation/{explanation}/delete": "Labels go with their SAE: DELETE /v1/models/{model}/saes/{sae}.",
    "list/comment/new": _NOBODY,
    "list/comment/delete": _NOBODY,
    "comment/new": _NOBODY,
    "comment/delete": _NOBODY,
    "bookmark/add": _NOBODY,
    "bookmark/delete": _NOBODY,
    "user/{rest:path}": _NOBODY,
    "graph/{rest:path}": _NO_GRAPHS,
    "steer-logits": _NO_GRAPHS,
    "steer-load": "Steered texts are not kept here, and have no links to share; the same request with "
    "the same seed makes the same text.",
    "steer/presets": "There are no presets here; POST /v1/steer/calibrate finds a feature's strength.",
    "lens/{rest:path}": "Lenses are not served here.",
    "nla/{rest:path}": "Natural-language autoencoders are not served here.",
    "umap": "Features have no places on a map here.",
    "sparsity/connected-neurons": "GET /v1/models/{model}/neurons/{layer}/{index} says which features "
    "a neuron is made of.",
    "model/{kind}/{verb}": "Attention heads have no pages here.",
    "saelens/latent-decoder": "POST /api/vector/get reads a feature's direction.",
    "similarity-matrix-pred": "Similarity matrices are not served here.",
    "global": "GET /v1/models lists the models, and GET /v1/models/{model}/saes the SAEs of one.",
    "inference-host/{rest:path}": _WEBSITE,
    "explorer/{rest:path}": _WEBSITE,
    "admin/{rest:path}": _WEBSITE,
    "auth/{rest:path}": _WEBSITE,
    "doc-tweets/{tweet}": _WEBSITE,
}
"""Why, by what stands behind `/api/`."""


def _refuse(why: str) -> Callable[[], Awaitable[None]]:
    async def refuse() -> None:
        raise BadRequest(why)

    return refuse


for path, why in REFUSED.items():
    router.add_api_route(f"/api/{path}", _refuse(why), methods=["GET", "POST"])
