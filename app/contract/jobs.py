"""Jobs: what a caller asks for, and what can be seen of it.

The API checks the shape of a specification; a job's first step, `check`, tests everything else
(files, hook points, widths) within seconds, before any work.
"""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from app.contract.body import JsonBody
from app.contract.ids import Id

JobKind = Literal["load", "train", "precompute", "evaluate", "verify", "import", "export"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]
FINAL: frozenset[JobState] = frozenset({"done", "failed", "cancelled"})
"""States of jobs that have ended."""
SEED_MAX = 2**63 - 1
WIDTH_MAX = 10**7


def _kind_is_required(schema: dict[str, Any]) -> None:
    # It has a default for those who write Python; in a request it is what tells the kinds apart.
    del schema["properties"]["kind"]["default"]
    schema["required"] = ["kind", *schema.get("required", [])]


class _JobSpec(JsonBody):
    model_config = ConfigDict(json_schema_extra=_kind_is_required)


HUB = "hub:"
"""In front of a dataset's id on the Hugging Face hub."""


class CorpusFile(JsonBody):
    """Text of one's own, or of the Hugging Face hub."""

    path: str = Field(
        description="A file inside the allowed roots: `.txt` (a document a line), `.jsonl`, either "
        "gzipped or not, `.parquet` or `.arrow`; a folder of these; a folder that "
        "`datasets.save_to_disk` wrote; or `hub:` and the id of a dataset, of which the split "
        "`train` is read (with `SAESCOPE_HUB`).",
        examples=["texts/tinystories.jsonl", "hub:roneneldan/TinyStories"],
    )
    text_field: str = Field(
        default="text", description="Field of a JSON line, or column, that holds the text."
    )


class CorpusBundled(JsonBody):
    """Text from the bundled generator."""

    bundled: Literal["storyworld"] = "storyworld"
    documents: int = Field(default=4_000, ge=1, le=10_000_000, description="Texts to generate.")
    seed: int = Field(
        default=1, ge=0, le=SEED_MAX, description="The same seed gives the same text."
    )


Corpus = CorpusFile | CorpusBundled


class LoadSpec(_JobSpec):
    """Register a model, or an SAE of a registered model."""

    kind: Literal["load"] = "load"
    model: Id = Field(examples=["storyworld"])
    sae: Id | None = Field(
        default=None, description="Register an SAE under this id; a model when absent."
    )
    path: str = Field(
        description="A folder inside the allowed roots: a Hugging Face model, or an SAE or transcoder "
        "as SAELens, dictionary_learning, sparsify, OpenAI, Gemma Scope or circuit-tracer write it. Or "
        "`saelens:{release}/{sae_id}`, the `path` of an entry of GET /v1/catalog. Or "
        "`bundled:storyworld`, `bundled:storyworld/2-res-topk`.",
        examples=["bundled:storyworld/2-res-topk"],
    )
    hook_name: str | None = Field(
        default=None,
        max_length=200,
        description="Where an SAE reads, when its files do not say: an `.npz` or OpenAI's `.pt`.",
    )
    hook_name_out: str | None = Field(
        default=None,
        max_length=200,
        description="Where a transcoder writes, when its files do not say.",
    )


Architecture = Literal[
    "topk", "abstopk", "batchtopk", "matryoshka_batchtopk", "jumprelu", "matching_pursuit",
    "standard", "gated",
]  # fmt: skip


MAX_SAES = 64
"""SAEs in one job."""


class AlsoTrain(JsonBody):
    """One more SAE of a training. What is absent is as the specification says; of `k` and
    `l1_coefficient` only what its architecture takes."""

    sae: Id = Field(examples=["2-my-wide"], description="Id that this SAE gets.")
    hook_name: str | None = Field(default=None, description="Another site of the model.")
    architecture: Architecture | None = None
    d_sae: int | None = Field(default=None, ge=2, le=WIDTH_MAX)
    k: int | None = Field(default=None, ge=1, le=WIDTH_MAX)
    l1_coefficient: float | None = Field(default=None, ge=0)
    lr: float | None = Field(default=None, gt=0)


class TrainSpec(_JobSpec):
    """Train an SAE on a registered model, or several from one forward of it."""

    kind: Literal["train"] = "train"
    model: Id = Field(examples=["storyworld"])
    sae: Id = Field(examples=["2-my-topk"], description="Id that the trained SAE gets.")
    hook_name: str = Field(
        description="Site whose vectors it learns to take apart, one of the model's `hook_points`.",
        examples=["blocks.2.hook_resid_post"],
    )
    corpus: Corpus = Field(default=CorpusBundled(), description="Text to learn on.")
    architecture: Architecture = Field(
        default="topk",
        description="`topk`: the k strongest stay; `abstopk`: by magnitude, with their sign; "
        "`batchtopk`: on average over a batch; `matryoshka_batchtopk`: so that the first features "
        "suffice for a coarser picture; `jumprelu`: above learned thresholds; `matching_pursuit`: "
        "one after the other; `standard`: ReLU and L1; `gated`: a gate and a magnitude, and L1.",
    )
    d_sae: int | None = Field(
        default=None, ge=2, le=WIDTH_MAX, description="Width; 8 times d_in when absent."
    )
    k: int | None = Field(
        default=None,
        ge=1,
        le=WIDTH_MAX,
        description="Active features a token (`matching_pursuit`: at most), 16 when absent; not for "
        "`standard` and `gated`.",
    )
    l1_coefficient: float | None = Field(
        default=None,
        ge=0,
        description="Weight of the L1 term of `standard` and `gated`, by default 1.",
    )
    training_tokens: int = Field(
        default=1_000_000, ge=1, le=10**12, description="Tokens to learn from."
    )
    train_batch_tokens: int = Field(
        default=2_048, ge=2, le=10**7, description="Tokens in one step."
    )
    lr: float = Field(default=1e-3, gt=0, description="Learning rate.")
    context_size: int | None = Field(
        default=None, ge=2, le=10**7, description="The model's own when absent."
    )
    seed: int = Field(default=0, ge=0, le=SEED_MAX)
    also: list[AlsoTrain] = Field(
        default=[],
        max_length=MAX_SAES - 1,
        description="More SAEs that learn from the same forward of the model, each as if alone.",
        examples=[
            [{"sae": "2-my-wide", "d_sae": 4096}, {"sae": "2-my-relu", "architecture": "standard"}]
        ],
    )


EVIDENCE = CorpusBundled(documents=1_000)
"""Neurons are active on half of all tokens, so it is less text than what SAEs are trained on."""


class PrecomputeSpec(_JobSpec):
    """Compute the evidence of every feature of some SAEs in one pass over a corpus."""

    kind: Literal["precompute"] = "precompute"
    model: Id = Field(examples=["storyworld"])
    saes: list[Id] = Field(min_length=1, max_length=MAX_SAES, examples=[["2-res-topk"]])
    corpus: Corpus = Field(default=EVIDENCE)
    context_size: int | None = Field(
        default=None, ge=2, le=10**7, description="The model's own when absent."
    )


HELD_OUT = CorpusBundled(documents=1_000, seed=2)


class EvaluateSpec(_JobSpec):
    """Measure how well an SAE stands for its hook point, on text that it should not have been trained
    on."""

    kind: Literal["evaluate"] = "evaluate"
    model: Id = Field(examples=["storyworld"])
    sae: Id = Field(examples=["2-res-topk"])
    corpus: Corpus = Field(default=HELD_OUT)
    tokens: int = Field(
        default=50_000,
        ge=2,
        le=10**9,
        description="Tokens to measure on, from the beginning; concepts on at most 200,000.",
    )
    context_size: int | None = Field(
        default=None, ge=2, le=10**7, description="The model's own when absent."
    )


class VerifySpec(_JobSpec):
    """Compute a random sample of an SAE's stored examples anew, and tell the largest difference."""

    kind: Literal["verify"] = "verify"
    model: Id = Field(examples=["storyworld"])
    sae: Id = Field(
        description="An SAE with evidence, or `{layer}-mlp` for the neurons of a layer.",
        examples=["2-res-topk"],
    )
    examples: int = Field(default=200, ge=1, le=100_000, description="Examples to compute anew.")
    seed: int = Field(
        default=0, ge=0, le=SEED_MAX, description="The same seed draws the same examples."
    )


class ImportSpec(_JobSpec):
    """Take over the evidence that Neuronpedia or SAEDashboard wrote for an SAE."""

    kind: Literal["import"] = "import"
    path: str = Field(
        description="A folder inside the allowed roots: Neuronpedia's (`source.jsonl`, "
        "`features/batch-0.jsonl.gz` and so on) or SAEDashboard's (`batch-0.json` and so on). Or "
        "`bundled:evidence`, a few features that come with the project.",
        examples=["exports/gpt2-small/7-res-jb"],
    )
    model: Id | None = Field(
        default=None, description="Id of the model; as the files say when absent."
    )
    sae: Id | None = Field(
        default=None, description="Id that the SAE gets; as the files say when absent."
    )


class ExportSpec(_JobSpec):
    """Write the evidence of an SAE in Neuronpedia's layout."""

    kind: Literal["export"] = "export"
    model: Id = Field(examples=["storyworld"])
    sae: Id = Field(
        description="An SAE with evidence, or `{layer}-mlp` for the neurons of a layer.",
        examples=["2-res-topk"],
    )
    path: str | None = Field(
        default=None,
        description="A folder inside the allowed roots that is not there yet; a folder of its own under "
        "`exports` in the data folder when absent.",
    )


JobSpec = Annotated[
    LoadSpec | TrainSpec | PrecomputeSpec | EvaluateSpec | VerifySpec | ImportSpec | ExportSpec,
    Field(discriminator="kind"),
]


class JobView(BaseModel):
    """A job as it stands."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    id: str
    kind: str
    state: JobState
    spec: dict[str, Any]
    progress: float = Field(ge=0, le=1)
    phase: str | None = None
    rate: float | None = Field(
        default=None, description="Tokens or features a second in this phase."
    )
    eta: float | None = Field(default=None, description="Seconds left in this phase.")
    metrics: dict[str, float] = Field(
        default_factory=dict,
        description="Of a training so far, by name; `{sae}.{name}` where it trains several SAEs.",
    )
    error: dict[str, Any] | None = Field(default=None, description="The problem, when failed.")
    result: dict[str, Any] | None = None
    created_at: AwareDatetime
    updated_at: AwareDatetime
