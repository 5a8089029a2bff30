"""Every question that an NLA can answer, written once over what runs the models.

``NLA`` asks them in this process at once; a server asks them in its event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from gloss.engines import TextRequest
from gloss.engines.engine_names import check_temperature
from gloss.errors import ActivationError, ConfigError, GlossError
from gloss.models import cosine, direction_mse
from gloss.nla import boundary
from gloss.nla.compare import compare
from gloss.nla.executor import Executor
from gloss.nla.explaining import Explaining
from gloss.nla.request import Positions, Sampling, Selection, Text, parts_of
from gloss.nla.results import (
    ExplainEvent,
    ExplainStart,
    Explanations,
    Score,
    TextContinuation,
    TokenExplanation,
)
from gloss.nla.selection import Chosen, Source, choose, document_of, is_text
from gloss.nla.steer import steer
from gloss.nla.trust import trust
from gloss.plugins import KnownTruth
from gloss.seeds import row_seed
from gloss.target_model import refuse_without_row
from gloss.text.positions import parse_positions
from gloss.text.tokens import GlyphMerger, ReadText, ReadToken, read_tokens, text_of_tokens

if TYPE_CHECKING:
    from gloss.nla.nla import NLA


@dataclass(frozen=True)
class Bounds:
    """``max_rows`` explanations and ``max_values`` numbers of one question; None is unbounded.

    A longer ``max_new_tokens`` is cut.
    """

    max_rows: int | None = None
    max_values: int | None = None
    max_new_tokens: int | None = None


class TooLarge(ConfigError):
    """An answer beyond the bounds of one question."""


class Questions:
    """The questions to one NLA. ``name`` is what answers call it.

    ``missing`` says of a part (av, ar, target) that could not be loaded which error a question that
    needs it raises; an AR that is missing leaves explanations without scores.
    """

    def __init__(
        self,
        nla: NLA,
        executor: Executor,
        bounds: Bounds = Bounds(),
        *,
        name: str | None = None,
        missing: Mapping[str, GlossError] | None = None,
        known_truth: KnownTruth | None = None,
    ) -> None:
        self.nla, self.executor, self.bounds = nla, executor, bounds
        self.name = nla.name if name is None else name
        self.missing, self.known_truth = missing or {}, known_truth

    @property
    def has_av(self) -> bool:
        """Whether anything can be explained."""
        return self.nla.places.av is not None and "av" not in self.missing

    @property
    def has_ar(self) -> bool:
        """Whether explanations can be scored."""
        return self.nla.places.ar is not None and "ar" not in self.missing

    def require(self, *parts: Literal["av", "ar", "target"]) -> None:
        """Raises the error of a part that is missing."""
        for part in parts:
            if part in self.missing:
                raise self.missing[part]

    async def read(self, source: Text) -> ReadText:
        """The tokens of a text or a chat. Raises: CorpusError."""
        self.require("target")
        return await self.executor.aside(lambda: self._read(source))

    def _read(self, source: Text) -> ReadText:
        target = self.nla.target
        config = target.model.config.get_text_config()
        longest = getattr(config, "max_position_embeddings", None)
        read = read_tokens(target.tokenizer, document_of(source), max_tokens=longest)
        refuse_without_row(read.token_ids, target.model, target.tokenizer, where=read.doc_id)
        return read

    async def tokens(self, source: Text) -> ReadText:
        """A text or a chat as the target reads it: its tokens, and the text as rendered.

        Raises: CorpusError if it is empty, too long, or refused by the chat template.
        """
        return await self.read(source)

    async def activations(self, source: Text, positions: Positions = "all") -> Tensor:
        """Raw activations of tokens of a text; [positions, d_model].

        Raises: CorpusError, PositionError.
        """
        read = await self.read(source)
        chosen = parse_positions(positions, len(read.tokens))
        self.check_values(len(chosen))
        return (await self.executor.activations(read.token_ids))[chosen]

    async def explain(
        self,
        source: Source,
        *,
        positions: Positions | None = None,
        tokens: str | None = None,
        max_activations: int | None = None,
        pool: Literal["mean"] | None = None,
        minus: Text | Tensor | None = None,
        minus_position: int | None = None,
        samples: int = 1,
        best_of: int = 1,
        temperature: float | None = None,
        max_new_tokens: int | None = None,
        seed: int = 0,
        score: bool | None = None,
        prompt: str | None = None,
    ) -> Explanations:
        """Explanations of tokens of a text or a chat, or of given activations [n, d_model].

        ``positions`` is an index (negative from the end), several, ``"all"``, or a specification
        such as ``"3,7-9"``; ``tokens`` instead is all, last, every:N or regex:PATTERN. By default
        the last token of a plain text is explained, and the last content token of each message of a
        chat; ``max_activations`` of them at the most, evenly spread. ``pool`` "mean" explains the
        mean of the chosen tokens (by default all content) of each message. ``minus`` subtracts
        activations, row by row or one from all, or that of a text's last token or
        ``minus_position`` (without ``minus``: of the same text).

        ``samples`` explanations are kept of each, every one the best of ``best_of`` responses by AR
        score. ``temperature`` None is greedy for one response and 1 for several. Samples are keyed
        on ``seed`` and on position or row alone. ``score`` says whether the AR reads them back; by
        default it does where there is one. ``prompt`` stands instead of the recorded AV prompt.
        Raises: PositionError, ActivationError, ConfigError, CorpusError, EngineError,
        TemplateError for a prompt.
        """
        selection, sampling = parts_of(locals())
        chosen = await self._choose(source, selection, sampling)
        found = await self.explain_chosen(chosen, sampling)
        return Explanations(tuple(found), self.nla.layer, self.name)

    async def explain_events(
        self,
        source: Source,
        selection: Selection = Selection(),
        sampling: Sampling = Sampling(),
        *,
        partial: bool = False,
        raw: bool = False,
    ) -> AsyncIterator[ExplainEvent]:
        """As ``explain``, one by one as they are finished: ``ExplainStart`` first, when the rows
        are accepted, and with ``partial`` texts as far as they are written; ``raw`` as in
        ``Explaining``."""
        chosen = await self._choose(source, selection, sampling)
        run = Explaining(self, chosen, sampling, raw=raw)
        rows = run.begin(partial=partial)
        total, read = len(chosen.vectors) * sampling.samples, chosen.read
        num_tokens = None if read is None else len(read.tokens)
        yield ExplainStart(self.name, self.nla.layer, total, num_tokens)
        async for event in run.events(rows):
            yield event

    async def explain_chosen(self, chosen: Chosen, sampling: Sampling) -> list[TokenExplanation]:
        """As ``explain``, of activations that are chosen already, the samples of one together."""
        self.require("av")
        run = Explaining(self, chosen, sampling)
        rows = run.begin(partial=False)
        found = [one async for one in run.events(rows) if isinstance(one, TokenExplanation)]
        return sorted(found, key=lambda one: (one.row, one.sample))

    async def _choose(self, source: Source, selection: Selection, sampling: Sampling) -> Chosen:
        self.require("av")
        if sampling.best_of > 1:
            self.require("ar")
        return await choose(self, source, selection, draws=sampling.samples * sampling.best_of)

    async def reconstruct(self, explanations: str | Sequence[str]) -> Tensor:
        """The activations that the AR reads in texts; [n, d_model], whose norm means nothing.

        Raises: ConfigError for what is no text.
        """
        self.require("ar")
        texts = boundary.texts("explanation", explanations)
        self.check_values(len(texts))
        return await self.executor.reconstruct(texts)

    async def score(
        self, explanations: str | Sequence[str], source: Source, *, position: int = -1
    ) -> list[Score]:
        """How well each text rebuilds its activation: n texts and [n, d_model], or one activation
        for all, or that of the token at ``position`` of a text or a chat.

        Raises: ActivationError if the counts or widths differ; PositionError, CorpusError.
        """
        self.require("ar")
        texts = boundary.texts("explanation", explanations)
        selection = Selection(positions=position) if is_text(source) else Selection()
        vectors = (await choose(self, source, selection)).vectors
        if len(vectors) not in (1, len(texts)):
            what, expected = "texts and activations differ in number", f"1 or {len(texts)}"
            raise ActivationError(what, expected=expected, found=len(vectors))
        return await self.scores(texts, vectors.expand(len(texts), -1))

    async def scores(self, texts: Sequence[str], vectors: Tensor) -> list[Score]:
        """As ``score``, for n texts and [n, d_model]."""
        if not texts:
            return []
        errors = direction_mse(await self.executor.reconstruct(texts), vectors).tolist()
        fve, percentile = self.nla.fve, self.nla.percentile
        return [Score(error, cosine(error), fve(error), percentile(error)) for error in errors]

    steer = steer
    trust = trust
    compare = compare

    async def continue_text(
        self,
        source: Text,
        *,
        max_new_tokens: int = 16,
        temperature: float = 0.0,
        seed: int = 0,
        with_end: bool = False,
    ) -> TextContinuation:
        """A text or a chat with what the target writes behind it; greedy at temperature 0. The
        token that ends its turn is left out, unless ``with_end``.

        Raises: CorpusError, PositionError if it does not fit into the target's context.
        """
        sampling: dict[str, Any] = {
            "max_new_tokens": boundary.whole("max_new_tokens", max_new_tokens, least=1),
            "temperature": boundary.finite("temperature", temperature, least=0),
            "seed": boundary.seed_of(seed),
        }
        read = await self.read(source)
        written = self.continuation(read, with_end=with_end, **sampling)
        tokens = [*read.tokens, *[token async for token in written]]
        text = read.text + text_of_tokens(tokens[len(read.tokens) :])
        return TextContinuation(tuple(tokens), len(read.tokens), text)

    async def continuation(
        self,
        read: ReadText,
        *,
        max_new_tokens: int,
        temperature: float,
        seed: int = 0,
        with_end: bool = False,
    ) -> AsyncIterator[ReadToken]:
        """The tokens that the target writes behind a text, as they come, a glyph's together; the
        token that ends its turn only ``with_end``."""
        check_temperature(temperature)
        ids, role = read.token_ids, None if read.messages is None else "assistant"
        merger = GlyphMerger(
            self.nla.target.tokenizer, position=len(ids), start=len(read.text), role=role
        )
        request = TextRequest(ids, temperature, max_new_tokens, row_seed(seed, len(ids)))
        async for group in self.executor.continuations([request]):
            for event in group:
                if with_end or event.rollout is None or not event.rollout.finished:
                    for token in merger.push(event.token_id):
                        yield token
        for token in merger.finish():
            yield token

    def check_rows(self, count: int) -> None:
        """Raises ConfigError for more responses than one question may ask for."""
        most = self.bounds.max_rows
        if most is not None and count > most:
            what, remedy = "too many positions for one request", "Name some with positions"
            raise ConfigError(what, expected=f"at most {most}", found=count, remedy=remedy)

    def check_values(self, rows: int) -> None:
        """Raises TooLarge for more activations than one answer may hold."""
        count, most = rows * self.nla.sidecar.d_model, self.bounds.max_values
        if most is not None and count > most:
            what, remedy = "too many numbers for one answer", "Ask for fewer tokens"
            raise TooLarge(what, expected=f"at most {most}", found=count, remedy=remedy)
