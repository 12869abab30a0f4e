"""Models and SAEs in memory, by their names on the shelf.

Every request looks its names up on the shelf, so a model or SAE that was registered anew or deleted
is noticed at once; what is loaded is kept by fingerprint. Looking up and asking what is held may
happen on any thread, loading happens on the model thread alone, where other requests wait for it.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from app.contract.ids import is_neuron_source
from app.errors import NotFound
from app.store import read
from app.store.engine import Shelf
from app.store.records import ModelRecord, SaeRecord, Vocabulary
from worker.live.capture import CaptureQueue
from worker.live.engine import BatchEngine, Engine
from worker.live.forward import BatchForward
from worker.models import LanguageModel, load_model, vocabulary
from worker.resid_mid import find_exact_mid
from worker.saes import Dictionary, load_sae, neuron_dictionary


@dataclass(eq=False)
class Resident:
    """A model in memory with everything that serves it."""

    fingerprint: str
    model: LanguageModel
    vocabulary: Vocabulary
    exact_mid: frozenset[str]
    """The resid_mid hook points that can be steered."""
    captures: CaptureQueue
    engine: Engine | None = None
    """Made at the first generation."""
    dictionaries: dict[str, tuple[str, Dictionary]] = field(default_factory=dict)
    """(fingerprint, dictionary) by SAE id."""


@dataclass(frozen=True)
class Wanted:
    """What a request needs, as the shelf has it."""

    model: ModelRecord
    saes: dict[str, SaeRecord | None]
    """By id; None for neurons, which need no files."""
    engine: bool


@dataclass(frozen=True)
class Held:
    """What a request needs, in memory."""

    resident: Resident
    dictionaries: dict[str, Dictionary]

    @property
    def engine(self) -> Engine:
        """The engine; only for a request that asked for it."""
        assert self.resident.engine is not None
        return self.resident.engine


class Library:
    """Loads models and SAEs, and keeps them."""

    def __init__(self, shelf: Shelf, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self._shelf = shelf
        self._dtype = dtype
        self._residents: dict[str, Resident] = {}

    @property
    def residents(self) -> dict[str, Resident]:
        """Models in memory by id."""
        return dict(self._residents)

    def look_up(self, model_id: str, sae_ids: list[str], engine: bool) -> Wanted:
        """Find a request's model and SAEs on the shelf; raises NotFound."""
        record = read.model(self._shelf, model_id)
        saes = {sae_id: self._find_sae(record, sae_id) for sae_id in sae_ids}
        return Wanted(record, saes, engine)

    def held(self, wanted: Wanted) -> Held | None:
        """What is wanted if all of it is in memory."""
        resident = self._residents.get(wanted.model.id)
        if resident is None or resident.fingerprint != wanted.model.fingerprint:
            return None
        if wanted.engine and resident.engine is None:
            return None
        dictionaries = {}
        for sae_id, record in wanted.saes.items():
            fingerprint, dictionary = resident.dictionaries.get(sae_id, (None, None))
            if dictionary is None or fingerprint != _fingerprint(record):
                return None
            dictionaries[sae_id] = dictionary
        return Held(resident, dictionaries)

    def load(self, wanted: Wanted) -> Held:
        """What is wanted, loaded where it is not in memory. On the model thread only."""
        self._forget_deleted()
        resident = self._residents.get(wanted.model.id)
        if resident is None or resident.fingerprint != wanted.model.fingerprint:
            resident = self._load_model(wanted.model)
        if wanted.engine and resident.engine is None:
            resident.engine = BatchEngine(BatchForward(resident.model))
        for sae_id, record in wanted.saes.items():
            fingerprint = _fingerprint(record)
            if resident.dictionaries.get(sae_id, ("",))[0] != fingerprint:
                dictionary = self._load_sae(resident.model, sae_id, record)
                resident.dictionaries[sae_id] = (fingerprint, dictionary)
        return Held(resident, {id: resident.dictionaries[id][1] for id in wanted.saes})

    def _find_sae(self, model: ModelRecord, sae_id: str) -> SaeRecord | None:
        if not is_neuron_source(sae_id):
            return read.sae(self._shelf, model.id, sae_id)
        if int(sae_id.removesuffix("-mlp")) >= model.n_layers:
            raise NotFound(
                f"Model '{model.id}' has no neurons '{sae_id}'; it has {model.n_layers} layers, "
                "counted from 0."
            )
        return None

    def _load_model(self, record: ModelRecord) -> Resident:
        model = load_model(record.id, Path(record.path), device=self.device, dtype=self._dtype)
        resident = Resident(
            fingerprint=record.fingerprint,
            model=model,
            vocabulary=vocabulary(model),
            exact_mid=find_exact_mid(model),
            captures=CaptureQueue(model),
        )
        self._residents[record.id] = resident
        return resident

    def _load_sae(self, model: LanguageModel, sae_id: str, record: SaeRecord | None) -> Dictionary:
        if record is None:
            return neuron_dictionary(model, int(sae_id.removesuffix("-mlp")))
        return load_sae(sae_id, Path(record.path), device=self.device, model=model)

    def _forget_deleted(self) -> None:
        """Drop what is no longer on the shelf; requests that run keep theirs until they end."""
        for model_id, resident in self.residents.items():
            try:
                record = read.model(self._shelf, model_id)
            except NotFound:
                del self._residents[model_id]
                continue
            for sae_id in list(resident.dictionaries):
                try:
                    self._find_sae(record, sae_id)
                except NotFound:
                    del resident.dictionaries[sae_id]


def _fingerprint(record: SaeRecord | None) -> str:
    return "neurons" if record is None else record.fingerprint
