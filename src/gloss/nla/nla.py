"""The public face of a trained NLA: explain, reconstruct, score, steer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from gloss.contract import (
    SIDECAR_NAME,
    TRUST_KEY,
    Explanation,
    ModelSidecar,
    check_same_activations,
    read_model_sidecar,
    text_ids,
)
from gloss.contract.files import RESULTS_NAME
from gloss.durable import read_json
from gloss.engines import LOCAL, Engine, LocalEngine, Rollout, engine_of, parse_engine
from gloss.engines.steering import steered_continuations, steering_offset
from gloss.errors import ActivationError, CheckpointError, ConfigError
from gloss.models import (
    ActivationReconstructor,
    ActivationVerbalizer,
    cosine,
    direction_mse,
    load_ar,
    load_av,
)
from gloss.nla.flags import activation_flags
from gloss.nla.place import NLAPlaces, find_nla
from gloss.nla.results import FAILED, Continuation, Explanations, Score, Steering, TokenExplanation
from gloss.target_model import LoadOptions, ModelPlace, Target, capture_activations, load_target
from gloss.text.positions import parse_positions
from gloss.text.rendering import special_token_ids


class NLA:
    """An AV, an AR and the target they explain; each part is loaded, and fetched from the hub, when
    it is first used.

    ``name`` is a folder that holds ``av/`` and ``ar/`` (and perhaps ``target/``), or a hub id;
    ``owner/name`` means the repositories ``owner/name-av`` and ``owner/name-ar``. ``av``, ``ar``
    and ``target`` name parts that stand elsewhere; without a target, the model that the sidecar
    names is loaded. ``options`` are those of ``LoadOptions`` and hold for every part, but
    ``revision``, which is that of AV and AR: any hub id can carry its own behind an @. ``engine``
    says what runs the AV:
    ``local``, or a server (see ``engine_of``), with which the AV's weights are never loaded here.
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
        **options: Unpack[LoadOptions],
    ) -> None:
        if isinstance(engine, str) and engine != LOCAL:
            parse_engine(engine)
        self._engine = engine
        self.places = find_nla(
            name, av=av, ar=ar, target=target, revision=options.pop("revision", None)
        )
        self.name, self._options = self.places.name, options
        self.sidecar: ModelSidecar = _sidecar_of(self.places)
        self.recorded: dict[str, Any] = dict(self.sidecar.extra.get(TRUST_KEY, {}))
        self.max_new_tokens = max_new_tokens or int(self.recorded.get("max_new_tokens", 150))

    @cached_property
    def av(self) -> ActivationVerbalizer:
        """The activation verbalizer."""
        return load_av(self._place("av", self.places.av), **self._options)

    @cached_property
    def engine(self) -> Engine:
        """What writes explanations; a server is probed when this is first used.

        Raises: EngineError.
        """
        if not isinstance(self._engine, str):
            return self._engine
        if self._engine == LOCAL:
            return LocalEngine(self.av)
        return engine_of(self._engine, self._place("av", self.places.av), **self._options)

    @property
    def engine_kind(self) -> str:
        """What kind of engine writes explanations: local, sglang, vllm, gloss, http (to be found
        out), or a class of your own.
        """
        return (
            re.split(r"[+:]", self._engine)[0]
            if isinstance(self._engine, str)
            else type(self._engine).__name__
        )

    @cached_property
    def ar(self) -> ActivationReconstructor:
        """The activation reconstructor."""
        ar = load_ar(self._place("ar", self.places.ar), **self._options)
        check_same_activations(self.sidecar, ar.sidecar)
        return ar

    @cached_property
    def target(self) -> Target:
        """The target model."""
        return load_target(self.places.target or self.sidecar.base_checkpoint, **self._options)

    def _place(self, half: str, place: ModelPlace | None) -> ModelPlace:
        if place is None:
            if half in self.places.unreachable:
                raise self.places.unreachable[half]
            raise CheckpointError(
                f"this NLA has no {half.upper()}",
                where=self.name,
                remedy=f"Name one with {half}=… (--{half})",
            )
        return place

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        """The results of the run that this NLA came from, where they stand beside it; else
        nothing.
        """
        place = self.places.av or self.places.ar
        assert place is not None
        if not place.is_local:
            return {}
        folder = Path(place.name)
        files = (parent / RESULTS_NAME for parent in (folder.parent, folder.parent.parent))
        results = next((read_json(file) for file in files if file.is_file()), None)
        return results if isinstance(results, dict) else {}

    @property
    def layer(self) -> int:
        """The block whose output is explained."""
        layer = self.sidecar.layer
        if layer is None and self.places.ar is not None:
            layer = self.ar.sidecar.layer
        if layer is None:
            raise CheckpointError(
                "no extraction layer recorded", where=self.name, expected="extraction_layer_index"
            )
        return layer

    def tokens(self, text: str) -> tuple[list[int], list[str]]:
        """Token ids of a text as the target reads it, and each token's own text."""
        tokenizer = self.target.tokenizer
        ids = text_ids(tokenizer, text)
        if not ids:
            raise ConfigError(
                "the text is empty", expected="at least one token", remedy="Give a text to explain"
            )
        return ids, [tokenizer.decode([i]) for i in ids]

    @torch.inference_mode()
    def activations(self, text: str) -> Tensor:
        """Activations of every token of a text, raw; [tokens, d_model]."""
        ids, _ = self.tokens(text)
        model = self.target.model
        return (
            capture_activations(model, torch.tensor([ids], device=model.device), None, self.layer)[
                0
            ]
            .float()
            .cpu()
        )

    def explain(
        self,
        source: str | Tensor,
        *,
        positions: str | int | Sequence[int] = -1,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
        score: bool | None = None,
    ) -> Explanations:
        """Explanations of tokens of a text, or of given activations [n, d_model].

        ``positions``: an index (negative from the end), several, ``"all"``, or a specification such
        as ``"3,7-9"``.
        ``temperature`` None is greedy for one sample and 1 for several. ``score`` says whether the
        AR reads them back; by default it does where there is one.
        Raises: PositionError, ActivationError, ConfigError, EngineError.
        """
        if samples < 1:
            raise ConfigError("samples", expected="at least 1", found=samples)
        if isinstance(source, str):
            ids, tokens = self.tokens(source)
            chosen = parse_positions(positions, len(ids))
            vectors = self.activations(source)[chosen]
            flags = [self.flags(ids[p], p, vectors[i]) for i, p in enumerate(chosen)]
            labels = [tokens[p] for p in chosen]
        else:
            vectors = self.checked(source)
            chosen = list(range(len(vectors)))
            flags, labels = [self.flags(None, None, v) for v in vectors], [""] * len(vectors)
        heat = temperature if temperature is not None else (0.0 if samples == 1 else 1.0)
        rollouts = self.engine.generate(
            vectors,
            temperature=heat,
            max_new_tokens=self.max_new_tokens,
            seed=seed,
            num_samples=samples,
        )
        repeated = vectors.repeat_interleave(samples, dim=0)
        items = self._scored(
            rollouts, repeated, scored=self.places.ar is not None if score is None else score
        )
        return Explanations(
            tuple(
                TokenExplanation(
                    position=chosen[i // samples],
                    token=labels[i // samples],
                    norm=float(repeated[i].double().norm()),
                    flags=(*flags[i // samples], *((FAILED,) if text is None else ())),
                    text=text,
                    response=rollouts[i].text,
                    fve=score.fve if score else None,
                    cosine=score.cosine if score else None,
                    direction_mse=score.direction_mse if score else None,
                )
                for i, (text, score) in enumerate(items)
            ),
            layer=self.layer,
        )

    def with_prompt(self, prompt: str) -> NLA:
        """The same NLA with an AV prompt of your own, which holds ``<INJECT>`` once where the
        activation goes.

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

    def reconstruct(self, explanations: Sequence[str]) -> Tensor:
        """The activations that the AR reads in explanation texts; [n, d_model], direction only (the
        norm has no meaning).
        """
        if isinstance(explanations, str):
            explanations = [explanations]
        return self.ar.reconstruct(list(explanations))

    def score(self, explanations: Sequence[str], activations: Tensor) -> list[Score]:
        """How well each text rebuilds its activation; n texts and [n, d_model].

        Raises: ActivationError if the counts or widths differ.
        """
        vectors = self.checked(activations)
        if len(explanations) != len(vectors):
            raise ActivationError(
                "texts and activations differ in number",
                expected=len(vectors),
                found=len(explanations),
            )
        errors = direction_mse(self.reconstruct(explanations), vectors).tolist()
        return [Score(direction_mse=e, cosine=cosine(e), fve=self.fve(e)) for e in errors]

    def steer(
        self,
        text: str,
        *,
        position: int = -1,
        edit: tuple[str, str],
        alphas: Sequence[float] = (0.5, 1.0, 2.0),
        explanation: str | None = None,
        max_new_tokens: int = 24,
        seed: int = 0,
    ) -> Steering:
        """The target's continuations when one token's activation is moved along an edit of its
        explanation.

        ``edit`` = (old, new) is replaced in the explanation (the AV's greedy one unless
        ``explanation`` is given).
        Raises: PositionError, ConfigError if the explanation does not hold ``old``, ActivationError
        if the edit changes nothing."""
        ids, tokens = self.tokens(text)
        site = parse_positions(position, len(ids))[0]
        original = (
            explanation if explanation is not None else self.explain(text, positions=site)[0].text
        )
        old, new = edit
        if original is None or old not in original:
            raise ConfigError(
                "the explanation does not hold the words to edit",
                expected=repr(old),
                found=repr(original),
                remedy="Edit words that stand in the explanation, or give one yourself",
            )
        edited = original.replace(old, new)
        if edited == original:
            raise ActivationError(
                "there is no direction to steer along",
                expected="an edit that changes the explanation",
                found=repr(edit),
            )
        before, after = self.reconstruct([original, edited])
        activation = self.activations(text)[site]
        random = torch.randn(activation.shape, generator=torch.Generator().manual_seed(seed))
        runs = [("none", 0.0, torch.zeros_like(activation))]
        for name, direction in (("edit", after - before), ("random", random)):
            runs += [
                (name, alpha, steering_offset(activation, direction, alpha)) for alpha in alphas
            ]
        outputs = steered_continuations(
            self.target,
            ids,
            layer=self.layer,
            position=site,
            offsets=torch.stack([offset for _, _, offset in runs]),
            max_new_tokens=max_new_tokens,
        )
        texts = [self.target.tokenizer.decode(row) for row in outputs]
        continuations = tuple(
            Continuation(n, a, t) for (n, a, _), t in zip(runs, texts, strict=True)
        )
        return Steering(site, tokens[site], original, edited, continuations)

    def _scored(
        self, rollouts: list[Rollout], vectors: Tensor, *, scored: bool
    ) -> list[tuple[str | None, Score | None]]:
        texts = [
            r.explanation.text if isinstance(r.explanation, Explanation) else None for r in rollouts
        ]
        kept = [i for i, text in enumerate(texts) if scored and text is not None]
        scores = (
            dict(zip(kept, self.score([str(texts[i]) for i in kept], vectors[kept]), strict=True))
            if kept
            else {}
        )
        return [(text, scores.get(i)) for i, text in enumerate(texts)]

    def fve(self, error: float) -> float | None:
        """FVE of one direction MSE, against the variance that the checkpoint records; None without
        it.
        """
        variance = self.recorded.get("direction_variance")
        return None if variance is None else 1 - error / float(variance)

    def flags(
        self, token_id: int | None, position: int | None, activation: Tensor
    ) -> tuple[str, ...]:
        """Reasons to distrust an activation [d_model]: early position, special token, norm
        outlier.
        """
        return activation_flags(
            norm=float(activation.double().norm()),
            norm_statistics=self.recorded.get("norm_statistics", {}),
            position=position,
            min_position=self.recorded.get("min_position"),
            special=token_id is not None and token_id in special_token_ids(self.target.tokenizer),
        )

    def checked(self, activations: Tensor) -> Tensor:
        """Activations as float32 [n, d_model]; one vector is one row.

        Raises: ActivationError for other shapes or kinds of numbers.
        """
        try:
            vectors = torch.as_tensor(activations)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ActivationError(
                "not activations",
                expected=f"numbers [n, {self.sidecar.d_model}]",
                found=type(activations).__name__,
            ) from error
        if vectors.is_complex():
            raise ActivationError("wrong activations", expected="real numbers", found=vectors.dtype)
        vectors = vectors.unsqueeze(0) if vectors.ndim == 1 else vectors
        if vectors.ndim != 2 or vectors.shape[1] != self.sidecar.d_model:
            raise ActivationError(
                "wrong activations",
                expected=f"[n, {self.sidecar.d_model}]",
                found=tuple(vectors.shape),
            )
        return vectors.float()


def _sidecar_of(places: NLAPlaces) -> ModelSidecar:
    """The AV's sidecar, or the AR's where there is no AV."""
    place = places.av or places.ar
    assert place is not None
    file = place.file(SIDECAR_NAME)
    if file is None:
        raise CheckpointError("no sidecar", where=place, expected=SIDECAR_NAME)
    return read_model_sidecar(file)
