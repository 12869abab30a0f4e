"""Models and SAEs in memory, by their names on the shelf.

Every request looks its names up on the shelf, so a model or SAE that was registered anew or deleted
is noticed at once; what is loaded is kept by fingerprint, while there is room. Looking up and asking
what is held may happen on any thread, loading happens on the model thread alone, where other
requests wait for it.
"""

import threading
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from app.contract.ids import is_neuron_source
from app.errors import Conflict, NotFound
from app.store import fingerprints, read
from app.store.engine import Shelf
from app.store.records import ModelRecord, SaeRecord
from worker.evidence_only import folder_of
from worker.folders import tensor_shapes
from worker.live.capture import CaptureQueue
from worker.live.engine import BatchEngine
from worker.live.forward import BatchForward, cache_bytes
from worker.live.resident import Held, Loaded, Resident
from worker.live.room import Room
from worker.memory import forget, memory_of, release
from worker.models import LanguageModel, load_model, vocabulary
from worker.order import forward_order
from worker.resid_mid import find_exact_mid
from worker.saes import Dictionary, load_sae, neuron_dictionary

_NEURONS = "neurons"
"""In place of a fingerprint: they are the model's own."""


@dataclass(frozen=True)
class Wanted:
    """What a request needs, as the shelf has it."""

    model: ModelRecord
    saes: dict[str, SaeRecord | None]
    """By id; None for neurons, which need no files."""
    engine: bool


class Library:
    """Loads models and SAEs, and keeps as many as there is room for."""

    def __init__(
        self, shelf: Shelf, device: torch.device, dtype: torch.dtype, budget: int | None = None
    ) -> None:
        """`budget` is in bytes; half of the device's memory when it is not given."""
        self.device = device
        self.shelf = shelf
        self._dtype = dtype
        self._residents: dict[str, Resident] = {}
        self._budget = budget or memory_of(device) // 2
        self._room = Room(self._residents, self._budget)
        self._lock = threading.Lock()
        """On `_residents`, what is in them, and `_room`."""

    @property
    def residents(self) -> dict[str, Resident]:
        """Models in memory by id."""
        return dict(self._residents)

    def look_up(self, model_id: str, sae_ids: list[str], engine: bool) -> Wanted:
        """Find a request's model and SAEs on the shelf. Raises NotFound, and Conflict for what was
        imported without its files."""
        record = read.model(self.shelf, model_id)
        folder_of(record)
        saes = {sae_id: self._find_sae(record, sae_id) for sae_id in sae_ids}
        return Wanted(record, saes, engine)

    def current(self, model_id: str, sae_ids: list[str], engine: bool) -> Held | None:
        """What a request needs, if all of it is in memory as it is on the shelf now. Of what is not,
        `look_up` says why."""
        with self._lock:
            resident = self._residents.get(model_id)
            loaded = resident.dictionaries if resident else {}
            known = {name: loaded[name].fingerprint for name in sae_ids if name in loaded}
        if resident is None or len(known) < len(set(sae_ids)):
            return None
        if resident.fingerprint != fingerprints.of_model(self.shelf, model_id):
            return None
        for sae_id, fingerprint in known.items():
            neurons = is_neuron_source(sae_id)
            of = _NEURONS if neurons else fingerprints.of_sae(self.shelf, model_id, sae_id)
            if fingerprint != of:
                return None
        with self._lock:
            same = all(sae_id in loaded for sae_id in known)
            if not same or (engine and resident.engine is None):
                return None
            held = {sae_id: loaded[sae_id].dictionary for sae_id in known}
            return self._room.take(Held(resident, held))

    def load(self, wanted: Wanted) -> Held:
        """What is wanted, loaded where it is not in memory. On the model thread only."""
        try:
            return self._load(wanted)
        except Exception as error:
            if not forget(error):
                raise
        self._make_room(self._budget)
        return self._load(wanted)

    def _load(self, wanted: Wanted) -> Held:
        self._forget_outdated()
        held = self._take(wanted) or self._load_model(wanted)
        if wanted.engine and held.resident.engine is None:
            self._start_engine(held.resident)
        for sae_id in wanted.saes.keys() - held.dictionaries.keys():
            held = self._load_sae(wanted, held, sae_id)
        return held

    def _take(self, wanted: Wanted) -> Held | None:
        """What is in memory of what is wanted, if the model is; it stays while this is held."""
        with self._lock:
            resident = self._residents.get(wanted.model.id)
            if resident is None or resident.fingerprint != wanted.model.fingerprint:
                return None
            present = {
                sae_id: loaded.dictionary
                for sae_id, record in wanted.saes.items()
                if (loaded := resident.dictionaries.get(sae_id))
                and loaded.fingerprint == _fingerprint(record)
            }
            return self._room.take(Held(resident, present))

    def _load_model(self, wanted: Wanted) -> Held:
        record = wanted.model
        n_bytes = _weights(folder_of(record)) * self._dtype.itemsize
        self._make_room(n_bytes)
        model = load_model(record.id, folder_of(record), device=self.device, dtype=self._dtype)
        resident = Resident(
            fingerprint=record.fingerprint,
            model=model,
            vocabulary=vocabulary(model),
            exact_mid=find_exact_mid(model),
            order=forward_order(model),
            captures=CaptureQueue(model),
            n_bytes=n_bytes,
        )
        with self._lock:
            self._residents[record.id] = resident
            return self._room.take(Held(resident, {}))

    def _start_engine(self, resident: Resident) -> None:
        n_bytes = cache_bytes(resident.model)
        self._make_room(n_bytes)
        resident.engine = BatchEngine(BatchForward(resident.model))
        resident.n_bytes += n_bytes

    def _load_sae(self, wanted: Wanted, held: Held, sae_id: str) -> Held:
        """Load one more; what is held then, with it."""
        record = wanted.saes[sae_id]
        n_bytes = 0 if record is None else _weights(folder_of(record)) * torch.float32.itemsize
        self._make_room(n_bytes)
        dictionary = self._open_sae(held.resident.model, sae_id, record)
        loaded = Loaded(_fingerprint(record), dictionary, n_bytes)
        with self._lock:
            held.resident.dictionaries[sae_id] = loaded
            opened = {**held.dictionaries, sae_id: dictionary}
            in_order = {name: opened[name] for name in wanted.saes if name in opened}
            return self._room.take(Held(held.resident, in_order))

    def _open_sae(self, model: LanguageModel, sae_id: str, record: SaeRecord | None) -> Dictionary:
        if record is None:
            return neuron_dictionary(model, int(sae_id.removesuffix("-mlp")))
        return load_sae(sae_id, folder_of(record), device=self.device, model=model)

    def _make_room(self, n_bytes: int) -> None:
        with self._lock:
            dropped = self._room.make(n_bytes)
        if dropped:
            release()

    def _find_sae(self, model: ModelRecord, sae_id: str) -> SaeRecord | None:
        if not is_neuron_source(sae_id):
            found = read.sae(self.shelf, model.id, sae_id)
            folder_of(found)
            return found
        if int(sae_id.removesuffix("-mlp")) >= model.n_layers:
            raise NotFound(
                f"Model '{model.id}' has no neurons '{sae_id}'; it has {model.n_layers} layers, "
                "counted from 0."
            )
        return None

    def _forget_outdated(self) -> None:
        """Drop what is no longer on the shelf as it was; requests that run keep theirs until they
        end."""
        outdated = [
            (resident.dictionaries, sae_id) if sae_id else (self._residents, model_id)
            for model_id, resident in self.residents.items()
            for sae_id in ("", *resident.dictionaries)
            if not self._is_current(model_id, resident, sae_id)
        ]
        with self._lock:
            for place, name in outdated:
                del place[name]
        if outdated:
            release()

    def _is_current(self, model_id: str, resident: Resident, sae_id: str) -> bool:
        """Whether a model, or one of its SAEs, is on the shelf as it is in memory."""
        try:
            wanted = self.look_up(model_id, [sae_id] if sae_id else [], engine=False)
        except (NotFound, Conflict):
            return False
        if not sae_id:
            return wanted.model.fingerprint == resident.fingerprint
        return _fingerprint(wanted.saes[sae_id]) == resident.dictionaries[sae_id].fingerprint


def _fingerprint(record: SaeRecord | None) -> str:
    return _NEURONS if record is None else record.fingerprint


def _weights(folder: Path) -> int:
    """Numbers in the weight files of a model or an SAE."""
    shapes = (tensor_shapes(file).values() for file in folder.glob("*.safetensors"))
    return sum(prod(shape) for some in shapes for shape in some)
