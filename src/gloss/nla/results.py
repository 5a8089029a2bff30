"""What the questions to an NLA answer: plain values whose field names are those of the JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Literal

from gloss.formatting import decimal, percent, printable
from gloss.nla.presentation import Result, Shown, visible
from gloss.nla.trust_score import TrustScore
from gloss.text.tokens import ReadToken, text_of_tokens

FAILED = "extraction failed"
TEMPLATE_TOKEN, POOLED, DIFFERENCE = "template token", "mean-pooled", "difference"
NO_DIRECTION = "no direction"
"""Flag of a zero or non-finite activation, which no AV can read; it has no explanation."""


@dataclass(frozen=True, kw_only=True)
class TokenExplanation:
    """One explanation of one activation: an item of a JSON answer, and a row of a table.

    ``position`` is that of the token, or the row of given activations; ``row`` numbers the input's
    activations. ``context`` is the end of the text up to and with the token. ``text`` is None where
    no explanation could be extracted; ``response`` is what the AV wrote, tags and all. ``fve``
    compares the error with the variance of the NLA's training activations, ``baseline`` is that of
    always predicting their mean direction; None where the checkpoint does not record them.
    ``flags`` name reasons to distrust the activation.
    """

    position: int | None
    sample: int = 0
    token: str | None = None
    token_id: int | None = None
    role: str | None = None
    section: str | None = None
    channel: str | None = None
    message_index: int | None = None
    generated: bool | None = None
    fragment_index: int | None = None
    fragment_count: int | None = None
    doc_id: str | None = None
    row: int = 0
    context: str | None = None
    text: str | None
    response: str
    fve: float | None = None
    baseline: float | None = None
    cosine: float | None = None
    direction_mse: float | None = None
    norm: float
    flags: tuple[str, ...] = ()
    done: Literal[True] = True
    """Tells a finished explanation from an ``ExplainPart`` in a stream."""

    @property
    def shown(self) -> str:
        """The explanation, or what the AV wrote where there is none."""
        return self.text if self.text is not None else self.response

    @property
    def line(self) -> str:
        """One line of a terminal: row, token, FVE, the explanation, reasons to distrust it."""
        known = [str(self.row), visible(self.token or ""), f"FVE {decimal(self.fve)}"]
        said = " ".join(printable(self.shown).split())
        return "  ".join(filter(None, [*known, said, ", ".join(self.flags)]))


@dataclass(frozen=True)
class ExplainStart:
    """First event of a streamed explain: how many will come, of a text of how many tokens."""

    nla: str
    layer: int
    total: int
    num_tokens: int | None


@dataclass(frozen=True)
class ExplainPart:
    """An explanation as far as it is written."""

    position: int | None
    sample: int
    text: str
    done: Literal[False] = False


ExplainEvent = ExplainStart | ExplainPart | TokenExplanation


@dataclass(frozen=True)
class Explanations(Result, Sequence[TokenExplanation]):
    """Explanations in the order asked for, the samples of one activation side by side."""

    explanations: tuple[TokenExplanation, ...]
    layer: int | None
    nla: str = ""

    def __len__(self) -> int:
        return len(self.explanations)

    def __getitem__(self, index: Any) -> Any:
        return self.explanations[index]

    def to_dicts(self) -> list[dict[str, Any]]:
        """One JSON-ready mapping per explanation."""
        return [{**one, "layer": self.layer} for one in self.to_dict()["explanations"]]

    def _shown(self) -> Shown:
        columns = {
            "document": [one.doc_id or "" for one in self],
            "pos": [str(one.row if one.position is None else one.position) for one in self],
            "token": [visible(one.token or "") for one in self],
            "in": [" ".join(filter(None, (one.role, one.section))) for one in self],
            "explanation": [one.shown for one in self],
            "FVE": [decimal(one.fve) for one in self],
            "flags": [", ".join(one.flags) for one in self],
        }
        if len(set(columns["document"])) < 2:
            del columns["document"]
        if all(one.section is None for one in self):
            del columns["in"]
        return list(columns), list(zip(*columns.values(), strict=True))


@dataclass(frozen=True)
class Score(Result):
    """How well a text rebuilds an activation; ``percentile`` of 100 held-out ones are no better."""

    direction_mse: float
    cosine: float
    fve: float | None
    percentile: float | None = None

    def _shown(self) -> Shown:
        cells = [decimal(self.cosine, 3), decimal(self.fve, 3), decimal(self.percentile, 0)]
        return ("cosine", "FVE", "percentile"), [cells]


@dataclass(frozen=True)
class Control:
    """FVE of what knows nothing of this token."""

    name: str
    fve: float | None


@dataclass(frozen=True)
class Sample:
    """One more explanation of the same activation."""

    text: str | None
    fve: float | None


@dataclass(frozen=True)
class Neighbour:
    """The greedy explanation of a token nearby."""

    position: int
    token: str
    text: str | None


@dataclass(frozen=True)
class Claim:
    """One line or sentence of an explanation and what speaks for it.

    ``prefix_fve`` is the FVE of the explanation up to and with this claim, ``fve_lost`` what is
    lost when this claim alone is left out (None for the only claim). ``in_samples`` and
    ``at_neighbours`` are shares of those that make it too; None where there are none.
    ``likely_true`` is the trust score, 0 to 1; None where none was fitted for this NLA.
    """

    text: str
    prefix_fve: float | None
    fve_lost: float | None
    in_samples: float | None
    at_neighbours: float | None
    likely_true: float | None = None


@dataclass(frozen=True)
class CalibrationPoint:
    """``n`` claims of like trust score: the mean score, and the share of them that was true."""

    predicted: float
    true: float
    n: int


@dataclass(frozen=True)
class ScoreQuality:
    """How well the trust score of this NLA told true claims from false ones, on documents that it
    was not fitted on: ``auroc`` (0.5 is guessing), ``calibration_error`` (mean distance between the
    score and the share that was true), with its curve."""

    auroc: float
    calibration_error: float
    true_share: float
    n_claims: int
    n_documents: int
    calibration: tuple[CalibrationPoint, ...]

    @classmethod
    def of(cls, score: TrustScore) -> ScoreQuality:
        """What a fitted score says of itself."""
        bins = (CalibrationPoint(one.predicted, one.true, one.n) for one in score.calibration)
        return cls(
            score.auroc,
            score.calibration_error,
            score.true_share,
            score.n_claims,
            score.n_documents,
            tuple(bins),
        )


@dataclass(frozen=True)
class Verdict:
    """A claim about a text whose truth is known: right, wrong, absent (not to be
    judged), or text only (right of the text, not in the activation)."""

    kind: str
    value: str
    verdict: str


@dataclass(frozen=True)
class Trust(Result):
    """What speaks for an explanation and against it.

    ``controls``: mean direction, empty text, shuffled words, texts of other tokens. ``agreement``
    is the mean share of words that two samples have in common, 0 to 1. ``truth`` judges every claim
    about a text whose truth is known, and is None for others. ``likely_true`` is the share of the
    claims that is expected to be true, ``score_quality`` what that expectation is worth; None where
    no trust score was fitted for this NLA.
    """

    position: int
    explanation: str
    fve: float | None
    cosine: float
    direction_mse: float
    controls: tuple[Control, ...]
    samples: tuple[Sample, ...]
    agreement: float | None
    claims: tuple[Claim, ...]
    neighbours: tuple[Neighbour, ...]
    truth: tuple[Verdict, ...] | None = None
    likely_true: float | None = None
    score_quality: ScoreQuality | None = None

    @property
    def _title(self) -> str:  # type: ignore[override]
        controls = ", ".join(f"{one.name} {decimal(one.fve)}" for one in self.controls)
        agreement = f"agreement of samples {decimal(self.agreement)}"
        title = f"FVE {decimal(self.fve)} at token {self.position} ({controls}; {agreement})"
        quality = self.score_quality
        if quality is None:
            return f"{title}\nno trust score was fitted for this NLA: what is true is not known"
        return (
            f"{title}\n{percent(self.likely_true)} of the claims are expected to be true"
            f" (trust score: AUROC {decimal(quality.auroc)}, calibration error"
            f" {decimal(quality.calibration_error)}, on {quality.n_claims} claims)"
        )

    def _shown(self) -> Shown:
        values = [astuple(one) for one in self.claims]
        rows = [[text, *map(decimal, numbers)] for text, *numbers in values]
        names = "claim", "up to here", "lost without", "in samples", "at neighbours", "likely true"
        return names, rows


@dataclass(frozen=True)
class ComparedSide:
    """One side of a comparison, explained."""

    position: int | None
    token: str | None
    norm: float
    text: str | None
    fve: float | None


@dataclass(frozen=True)
class Comparison(Result):
    """What is between two activations: ``text`` explains first − second, None where that is zero or
    no explanation could be extracted. ``similarity`` is their cosine."""

    text: str | None
    norm: float
    similarity: float
    fve: float | None
    cosine: float | None
    sides: tuple[ComparedSide, ComparedSide]

    @property
    def _title(self) -> str:  # type: ignore[override]
        return f"similarity {decimal(self.similarity)}"

    def _shown(self) -> Shown:
        difference = ComparedSide(None, None, self.norm, self.text, self.fve)
        named = zip(("first", "second", "first − second"), (*self.sides, difference), strict=True)
        rows = [
            [name, visible(one.token or ""), one.text or "", decimal(one.fve), decimal(one.norm, 1)]
            for name, one in named
        ]
        return ("", "token", "explanation", "FVE", "norm"), rows


@dataclass(frozen=True)
class TextContinuation(Result):
    """A text and what the target wrote behind its first ``prompt_length`` tokens, the prompt's."""

    tokens: tuple[ReadToken, ...]
    prompt_length: int
    text: str

    @property
    def generated(self) -> tuple[ReadToken, ...]:
        """The tokens that the target wrote."""
        return self.tokens[self.prompt_length :]

    @property
    def continuation(self) -> str:
        """The text that the target wrote."""
        return text_of_tokens(self.generated)

    def _shown(self) -> Shown:
        return ("continuation",), [[self.continuation]]
