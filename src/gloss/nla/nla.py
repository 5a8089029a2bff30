"""The public face of a trained NLA: its parts, and every question that it can answer."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Coroutine
from copy import copy
from functools import cached_property, update_wrapper
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, Unpack

import torch
from torch import Tensor

from gloss.contract import (
    SIDECAR_NAME,
    ModelSidecar,
    TrustRecord,
    check_same_activations,
    read_model_sidecar,
)
from gloss.contract.files import RESULTS_NAME
from gloss.contract.foreign_text import special_token_ids
from gloss.durable import read_json
from gloss.engines import LOCAL, Engine, LocalEngine, engine_of, parse_engine
from gloss.errors import ActivationError, CheckpointError, ConfigError
from gloss.models import (
    ActivationReconstructor,
    ActivationVerbalizer,
    direction_mse,
    load_ar,
    load_av,
)
from gloss.nla.executor import LocalExecutor, run_now
from gloss.nla.flags import activation_flags
from gloss.nla.place import NLAPlaces, find_nla
from gloss.nla.questions import Questions
from gloss.nla.trust_score import TRUST_SCORE_NAME, TrustScore, read_trust_score
from gloss.target_model import (
    LoadOptions,
    ModelPlace,
    Target,
    difference,
    identity_of,
    load_target,
    load_tokenizer,
)
from gloss.target_model.hub import hub_is_silent

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")


def _now(
    question: Callable[Concatenate[Questions, Asked], Coroutine[Any, Any, Answer]],
) -> Callable[Concatenate[NLA, Asked], Answer]:
    """A question as a method that answers at once, with its signature and docstring."""

    def method(nla: NLA, /, *args: Asked.args, **options: Asked.kwargs) -> Answer:
        return run_now(question(nla.questions(), *args, **options))

    return update_wrapper(method, question)


class NLA:
    """An AV, an AR and the target they explain; each part is fetched and loaded when first used.

    ``name`` is a folder that holds ``av/`` and ``ar/`` (and perhaps ``target/``), or a hub id:
    ``owner/name`` means the repositories ``owner/name-av`` and ``owner/name-ar``. ``av``, ``ar``
    and ``target`` name parts that stand elsewhere; the default target is the sidecar's.
    ``options`` are those of ``LoadOptions`` for every part; ``revision`` is that of AV and AR (any
    hub id can carry its own behind an @). ``engine`` says what runs the AV: ``local``, or a server
    (see ``engine_of``), with which the AV's weights are never loaded here. ``force`` goes on with a
    target that is not the one recorded, with a warning of what differs.
    Raises: ConfigError if nothing is named; CheckpointError if there is no NLA, or the hub cannot
    be reached; SidecarError."""

    def __init__(
        self,
        name: str | Path | None = None,
        *,
        av: str | Path | None = None,
        ar: str | Path | None = None,
        target: str | Path | None = None,
        max_new_tokens: int | None = None,
        engine: str | Engine = LOCAL,
        force: bool = False,
        **options: Unpack[LoadOptions],
    ) -> None:
        if isinstance(engine, str) and engine != LOCAL:
            parse_engine(engine)
        self._engine, self._force = engine, force
        self.places = find_nla(
            name, av=av, ar=ar, target=target, revision=options.pop("revision", None)
        )
        self.name, self._options = self.places.name, options
        self.sidecar: ModelSidecar = _sidecar_of(self.places)
        self.recorded: TrustRecord = self.sidecar.trust
        self.max_new_tokens = max_new_tokens or self.recorded.max_new_tokens or 150

    @cached_property
    def av(self) -> ActivationVerbalizer:
        """The activation verbalizer."""
        return load_av(self._place("av", self.places.av), **self._options)

    @cached_property
    def engine(self) -> Engine:
        """What writes explanations; a server is probed at first use. Raises: EngineError."""
        if not isinstance(self._engine, str):
            return self._engine
        if self._engine == LOCAL:
            return LocalEngine(self.av)
        return engine_of(self._engine, self._place("av", self.places.av), **self._options)

    @property
    def engine_kind(self) -> str:
        """local, sglang, vllm, gloss, http (to be found out), or the name of your own class."""
        engine = self._engine
        return re.split("[+:]", engine)[0] if isinstance(engine, str) else type(engine).__name__

    @cached_property
    def ar(self) -> ActivationReconstructor:
        """The activation reconstructor."""
        ar = load_ar(self._place("ar", self.places.ar), **self._options)
        check_same_activations(self.sidecar, ar.sidecar)
        return ar

    @cached_property
    def target(self) -> Target:
        """The target model."""
        target = load_target(self.places.target or self.sidecar.base_checkpoint, **self._options)
        if (recorded := self.recorded.target) is not None and not self._options.get("quantization"):
            found = identity_of(target.model, target.tokenizer)
            differs = difference(recorded.model_dump(), found)
            if differs is not None and not self._force:
                what, remedy = "not the target of this NLA", "Name that one, or go on: force=True"
                raise CheckpointError(what, where=target.name, found=differs, remedy=remedy)
            if differs is not None:
                warnings.warn(f"{target.name}: not the target of this NLA: {differs}", stacklevel=2)
        return target

    def _place(self, half: str, place: ModelPlace | None) -> ModelPlace:
        if place is not None:
            return place
        what, remedy = f"this NLA has no {half.upper()}", f"Name one with {half}=… (--{half})"
        missing = CheckpointError(what, where=self.name, remedy=remedy)
        raise self.places.unreachable.get(half, missing)

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        """The results of the run that this NLA came from, where they stand beside it."""
        place = self.places.av or self.places.ar
        assert place is not None
        if not place.is_local:
            return {}
        folder = Path(place.name)
        files = (parent / RESULTS_NAME for parent in (folder.parent, folder.parent.parent))
        results = next((read_json(file) for file in files if file.is_file()), None)
        return results if isinstance(results, dict) else {}

    @cached_property
    def trust_score(self) -> TrustScore | None:
        """How likely claims are to be true, as fitted by an evaluation that knew; None without.

        Raises: CheckpointError if its file holds something else."""
        place = self.places.av
        try:
            file = None if place is None else place.file(TRUST_SCORE_NAME)
        except CheckpointError as error:
            if not hub_is_silent(error):
                raise
            return None
        return None if file is None else read_trust_score(file)

    @property
    def layer(self) -> int:
        """The block whose output is explained."""
        layer = self.sidecar.layer
        if layer is None and self.places.ar is not None:
            layer = self.ar.sidecar.layer
        if layer is None:
            what, key = "no extraction layer recorded", "extraction_layer_index"
            raise CheckpointError(what, where=self.name, expected=key)
        return layer

    def with_prompt(self, prompt: str) -> NLA:
        """The same NLA with your own AV prompt, with ``<INJECT>`` once where the activation goes.

        Raises: TemplateError if it does not, or stands between other tokens than the AV was trained
        with; ConfigError if the AV runs on a server."""
        if self._engine != LOCAL:
            raise ConfigError(
                "a prompt of your own needs the AV in this process",
                expected="--engine local",
                found=str(self._engine),
            )
        other = copy(self)
        other.__dict__.pop("engine", None)  # it holds the AV with the recorded prompt
        other.av = self.av.with_prompt(prompt)
        return other

    def questions(self, *, max_rows: int = 256) -> Questions:
        """The questions as coroutines, ``max_rows`` side by side, for programs that await them."""
        return Questions(self, LocalExecutor(self, max_rows=max_rows))

    tokens = _now(Questions.tokens)
    activations = _now(Questions.activations)
    explain = _now(Questions.explain)
    reconstruct = _now(Questions.reconstruct)
    score = _now(Questions.score)
    steer = _now(Questions.steer)
    trust = _now(Questions.trust)
    compare = _now(Questions.compare)
    continue_text = _now(Questions.continue_text)

    def fve(self, error: float) -> float | None:
        """FVE of one direction MSE; None where the checkpoint records no variance."""
        variance = self.recorded.direction_variance
        return None if variance is None else 1 - error / variance

    def percentile(self, error: float) -> float | None:
        """Percentage of the recorded held-out explanations that score no better; None without."""
        errors = self.recorded.heldout_errors or self.evaluation.get("heldout_errors")
        return 100.0 * sum(one >= error for one in errors) / len(errors) if errors else None

    def mean_direction_fve(self, activation: Tensor) -> float | None:
        """FVE of predicting the recorded mean direction for an activation [d_model]."""
        mean = self._mean_direction
        return None if mean is None else self.fve(float(direction_mse(mean, activation)))

    @cached_property
    def _mean_direction(self) -> Tensor | None:
        recorded = self.recorded.mean_direction
        return None if recorded is None else torch.tensor(recorded, dtype=torch.float32)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of the special tokens; they do not take a model's weights."""
        loaded = next((vars(self)[one] for one in ("target", "av") if one in vars(self)), None)
        if loaded is not None:
            return special_token_ids(loaded.tokenizer)
        place = self.places.av or self.places.target or self.sidecar.base_checkpoint
        trust = self._options.get("trust_remote_code", False)
        return special_token_ids(load_tokenizer(place, trust_remote_code=trust))

    def flags(
        self, token_id: int | None, position: int | None, activation: Tensor
    ) -> tuple[str, ...]:
        """Reasons to distrust an activation [d_model]: see ``activation_flags``."""
        return activation_flags(
            norm=float(activation.double().norm()),
            norm_statistics=self.recorded.norm_statistics,
            position=position,
            min_position=self.recorded.min_position,
            special=token_id is not None and token_id in self.special_ids,
        )

    def checked(self, activations: Tensor) -> Tensor:
        """Activations as float32 [n, d_model]; one vector is one row.

        Raises: ActivationError for other shapes or kinds of numbers.
        """
        shape = f"[n, {self.sidecar.d_model}]"
        try:
            vectors = torch.as_tensor(activations)
        except (TypeError, ValueError, RuntimeError) as error:
            found = type(activations).__name__
            raise ActivationError(
                "not activations", expected=f"numbers {shape}", found=found
            ) from error
        if vectors.is_complex():
            raise ActivationError("wrong activations", expected="real numbers", found=vectors.dtype)
        vectors = vectors.unsqueeze(0) if vectors.ndim == 1 else vectors
        if vectors.ndim != 2 or vectors.shape[1] != self.sidecar.d_model:
            raise ActivationError("wrong activations", expected=shape, found=tuple(vectors.shape))
        return vectors.float()


def _sidecar_of(places: NLAPlaces) -> ModelSidecar:
    """The AV's sidecar, or the AR's where there is no AV."""
    place = places.av or places.ar
    assert place is not None
    file = place.file(SIDECAR_NAME)
    if file is None:
        raise CheckpointError("no sidecar", where=place, expected=SIDECAR_NAME)
    return read_model_sidecar(file)
