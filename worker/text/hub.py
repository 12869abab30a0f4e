"""A dataset of the Hugging Face hub, streamed: the only importer of `datasets`.

`datasets` runs no code of a dataset's. Only the part that is read is downloaded, and nothing kept.
"""

from collections.abc import Iterator

from datasets import IterableDataset, load_dataset

from app.errors import BadRequest
from worker.folders import one_line
from worker.text.record import NoDocument, text_of

SPLIT = "train"


def read_hub(dataset: str, text_field: str) -> Iterator[str]:
    """The texts of the split `train` of `owner/name` or `owner/name/configuration`.

    Raises:
        BadRequest: the hub does not give it, or a row is no document.
    """
    owner, _, rest = dataset.partition("/")
    name, _, configuration = rest.partition("/")
    try:
        rows = load_dataset(f"{owner}/{name}", configuration or None, split=SPLIT, streaming=True)
        yield from texts_of(rows, text_field)
    except NoDocument as error:
        raise BadRequest(f"{dataset}: {error}.") from error
    except (OSError, ValueError) as error:
        raise BadRequest(
            f"The dataset {dataset} cannot be read from the hub ({one_line(error)}); check its id, "
            "or download it and give its folder."
        ) from error


def texts_of(rows: IterableDataset, text_field: str) -> Iterator[str]:
    """The texts of a streamed dataset; its other columns are not decoded. Raises `NoDocument`."""
    if text_field in (rows.column_names or []):
        rows = rows.select_columns(text_field)
    for row in rows:
        yield text_of(row, text_field)
