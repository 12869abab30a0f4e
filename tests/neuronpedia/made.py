"""Made-up evidence in Neuronpedia's layout, with every column that it documents."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

Row = dict[str, Any]
MODEL, SOURCE = "gpt2-small", "7-res-jb"
LABELS = {4: "nul\u0000nul", 7: "x" * 5_000 + " " + " ".join(map(str, range(200_000)))}
"""Of features whose explanations are not as others."""
BY = "clkht01d40000jv08hvalcvly"
WHEN = "2025-03-02T10:11:12.345"


def neuron(index: int) -> Row:
    """A row of the table Neuron."""
    some = random.Random(index)
    middles = [round(0.1 + 0.2 * n, 3) for n in range(50)]
    alive = index % 7 != 6
    return {
        "modelId": MODEL,
        "layer": SOURCE,
        "index": str(index),
        "sourceSetName": "res-jb",
        "creatorId": BY,
        "createdAt": WHEN,
        "maxActApprox": round(some.random() * 30, 3) if alive else 0,
        "hasVector": True,
        "vector": [round(some.random(), 6) for _ in range(8)],
        "vectorLabel": None,
        "vectorDefaultSteerStrength": 10,
        "hookName": "blocks.7.hook_resid_pre",
        "topkCosSimIndices": [index, 3, 999_999],
        "topkCosSimValues": [1, 0.61018914, -0.25],
        "neuron_alignment_indices": [88, 171, 27],
        "neuron_alignment_values": [0.109, 0.107, 0.103],
        "neuron_alignment_l1": [0.005, 0.005, 0.005],
        "correlated_neurons_indices": [480, 266],
        "correlated_neurons_pearson": [0.024, 0.023],
        "correlated_neurons_l1": [0.014, 0.014],
        "correlated_features_indices": [2, 3],
        "correlated_features_pearson": [0.0, -0.0],
        "correlated_features_l1": [0.0, 0.0],
        "neg_str": ["ãĤ±", "ivil", " evasion", "a\u0000b"],
        "neg_values": [-0.743, -0.724, -0.716, -1e-12],
        "pos_str": [" MRI", "MRI", " ultrasound", "🜚"],
        "pos_values": [3.121, 2.635, 2.313, 0.12345678901234567],
        "frac_nonzero": 0.00035999999999999997 if alive else 0,
        "freq_hist_data_bar_heights": [some.randrange(100) for _ in middles] if alive else [],
        "freq_hist_data_bar_values": middles if alive else [],
        "logits_hist_data_bar_heights": [0.5, 11, 3],
        "logits_hist_data_bar_values": [-0.704, -0.627, -0.55],
        "decoder_weights_dist": [0.25, 0.5],
        "umap_x": 1.5,
        "umap_y": None,
        "umap_cluster": 3,
        "umap_log_feature_sparsity": -3.2,
    }


def activations(index: int) -> list[Row]:
    """Rows of the table Activation: the strongest, then by interval; one is longer than 256 tokens."""
    some = random.Random(-index)
    found = []
    bins = [(-1, 30.0, -1)] * 5 + [(low, low + 6.0, 0.125) for low in (24.0, 18.0, 12.0, 6.0, 0.0)]
    for n, (low, high, contains) in enumerate(bins if index % 7 != 6 else []):
        length = 300 if n == 1 else some.randrange(1, 40)
        values = [round(some.random() * 30, 3) if some.random() < 0.3 else 0 for _ in range(length)]
        values[-1] = 0.1 + 0.2 if n == 2 else values[-1]
        found.append(
            {
                "id": f"c{index}x{n}",
                "modelId": MODEL,
                "layer": SOURCE,
                "index": str(index),
                "creatorId": BY,
                "createdAt": WHEN,
                "dataIndex": None,
                "dataSource": "Neuronpedia",
                "tokens": [some.choice([" the", "\u0000", "é", "Ġcat", ""]) for _ in range(length)],
                "values": values,
                "maxValue": max(values),
                "maxValueTokenIndex": values.index(max(values)),
                "minValue": min(values),
                "dfaValues": [0.1, -0.2],
                "dfaTargetIndex": 1,
                "dfaMaxValue": 0.1,
                "zQIndices": [1],
                "zKIndices": [2],
                "zValues": [0.25],
                "lossValues": [],
                "logitContributions": None,
                "binMin": low,
                "binMax": high,
                "binContains": contains,
                "qualifyingTokenIndex": 0,
            }
        )
    return found


def explanations(index: int) -> list[Row]:
    """Rows of the table Explanation; a feature may have none or several."""
    return [
        {
            "id": f"e{index}x{n}",
            "modelId": MODEL,
            "layer": SOURCE,
            "index": str(index),
            "authorId": BY,
            "triggeredByUserId": None,
            "description": LABELS.get(index, f"words about thing {index} ({n})"),
            "notes": None,
            "embedding": [0.001 * index, -1.25],
            "typeName": "oai_token-act-pair",
            "explanationModelName": "gpt-4o-mini",
            "scoreV1": 0,
            "scoreV2": None,
            "umap_x": 0,
            "umap_y": 0,
            "umap_cluster": 0,
            "umap_log_feature_sparsity": 0,
            "createdAt": WHEN,
            "updatedAt": WHEN,
        }
        for n in range(index % 3)
    ]


ABOUT: dict[str, list[Row]] = {
    "release": [
        {"name": "res-jb", "description": "An SAE", "urls": ["https://x"], "creatorId": BY}
    ],
    "model": [{"id": MODEL, "layers": 12, "neuronsPerLayer": 3072, "dimension": 768, "owner": "O"}],
    "sourceset": [{"modelId": MODEL, "name": "res-jb", "description": "Residual\u0000"}],
    "source": [{"id": SOURCE, "modelId": MODEL, "setName": "res-jb", "saelensConfig": {"a": [1]}}],
    "inference_hosts": [{"id": "h1"}, {"id": "h2"}],
}


def write(folder: Path, indices: list[int], per_batch: int = 4, gz: bool = True) -> Path:
    """A folder with those features, in that order; explanations in batches of their own."""
    for name, rows in ABOUT.items():
        _file(folder / f"{name}.jsonl", rows)
    batches = [indices[at : at + per_batch] for at in range(0, len(indices), per_batch)]
    end = ".jsonl.gz" if gz else ".jsonl"
    for number, some in enumerate(batches):
        _file(folder / "features" / f"batch-{number}{end}", [neuron(one) for one in some])
        rows = [row for one in some for row in activations(one)]
        _file(folder / "activations" / f"batch-{number}{end}", rows)
    explained = [row for one in indices for row in explanations(one)]
    for number, at in enumerate(range(0, len(explained), 3)):
        _file(folder / "explanations" / f"batch-{number}{end}", explained[at : at + 3])
    return folder


def _file(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def contents(folder: Path) -> dict[str, list[Row]]:
    """All rows of a folder by kind, in an order of their own."""
    found: dict[str, list[Row]] = {}
    for path in sorted(folder.rglob("*.jsonl*")):
        kind = path.parent.name if path.parent != folder else path.name
        data = path.read_bytes()
        text = gzip.decompress(data) if path.suffix == ".gz" else data
        found.setdefault(kind, []).extend(json.loads(line) for line in text.splitlines())
    return {
        kind: sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))
        for kind, rows in found.items()
    }
