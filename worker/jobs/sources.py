"""Where an SAE to load comes from: a SAELens folder, a folder in another format, or SAELens'
directory of pretrained ones. All of them become a SAELens folder, and go the same way from there.
"""

import shutil
from pathlib import Path

import orjson

from app.contract.jobs import LoadSpec
from app.errors import Invalid
from worker.durable import write_folder
from worker.foreign.convert import read_foreign, write_sae
from worker.foreign.parts import Foreign, Told
from worker.hub import check_pretrained, download, is_pretrained
from worker.jobs.job import Job
from worker.jobs.paths import sae_folder
from worker.jobs.summary import NAME


def look_at(job: Job[LoadSpec]) -> Path | Foreign | None:
    """What can be known of an SAE before any work: its SAELens folder, the SAE as another format has
    it, or nothing but that its name is in the directory.

    Raises:
        Invalid, Forbidden: it cannot be loaded, in one sentence.
    """
    spec = job.spec
    if is_pretrained(spec.path):
        refuse_hooks(spec)
        check_pretrained(job.bench.settings, spec.path)
        return None
    folder = sae_folder(job.bench.settings, spec.path)
    foreign = read_foreign(folder, Told(spec.hook_name, spec.hook_name_out))
    if foreign is None:
        refuse_hooks(spec)
    return foreign or folder


def refuse_pretrained(spec: LoadSpec) -> None:
    """Raises Invalid when a model is asked for by the name of an SAE."""
    if is_pretrained(spec.path):
        raise Invalid(f"{spec.path} is an SAE; say with `sae` which id it shall have.")


def refuse_hooks(spec: LoadSpec) -> None:
    """Raises Invalid when the caller names hook points of files that name them themselves."""
    if spec.hook_name or spec.hook_name_out:
        raise Invalid(
            "`hook_name` and `hook_name_out` are for SAEs whose files do not name their hook points; "
            f"leave them out for {spec.path}."
        )


def saelens_folder(job: Job[LoadSpec]) -> Path:
    """The SAE as a SAELens folder: the given one, or one among what the job keeps while it runs."""
    found = look_at(job)
    if isinstance(found, Path):
        return found
    target = job.checkpoints / "sae"
    if found:
        shutil.rmtree(target, ignore_errors=True)  # of an earlier start, before the file was mended
    job.report("convert" if found else "download", 0, 1)

    def fill(folder: Path) -> None:
        if found:
            write_sae(found, folder)
        else:
            download(job.spec.path, folder)
        origin = {"source": job.spec.path, "format": found.format if found else "saelens"}
        (folder / NAME).write_bytes(orjson.dumps({"provenance": origin}))

    write_folder(target, fill)
    return target
