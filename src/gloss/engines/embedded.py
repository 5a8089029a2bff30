"""What engines that take embeddings share: the prompt around an activation, and a probe that tells
activations apart.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from gloss.engines.engine import Rollout
from gloss.engines.remote import RemoteEngine, probe_activation
from gloss.engines.transport import Limits, RefusedRequest, Transport
from gloss.errors import EngineError
from gloss.models import PromptEmbedder

SAME_LOGPROB = 1e-5
"""Below this difference in all first log-probabilities a server has not looked at the second
activation.
"""

FirstSteps = list[tuple[int, float]]
"""Token and log-probability of the first steps of a response."""


class EmbeddedPromptEngine(RemoteEngine):
    """An engine over a server that runs the AV itself and is sent the prompt's embeddings, never
    its token ids.
    """

    own_remedies: ClassVar[tuple[tuple[str, str], ...]]
    """(words of a refusal, remedy) for settings of this kind of server."""
    cache_remedy: ClassVar[str]

    def __init__(self, url: str, embedder: PromptEmbedder, *, limits: Limits | None = None) -> None:
        super().__init__(url, d_model=embedder.d_model, limits=limits)
        self.embedder = embedder

    def rollout(
        self, token_ids: Sequence[int], *, finished: bool, matched: object = None
    ) -> Rollout:
        """A response as the server tells it: the text without, the ids with the stop token where it
        was reached.
        """
        ids, stops = list(token_ids), self.embedder.stop_ids
        if finished and (not ids or ids[-1] not in stops):
            ids.append(matched if isinstance(matched, int) else stops[0])
        return Rollout(token_ids=tuple(ids), text=self.embedder.decode(ids), finished=finished)

    @abstractmethod
    async def _first_steps(self, transport: Transport, activation: Tensor) -> FirstSteps:
        """The server's greedy first steps for an activation [1, d_model]."""

    async def _probe(self, transport: Transport) -> None:
        """The second and the third answer are compared: with a cache both come out of it, by the
        same arithmetic.
        """
        activation = probe_activation(self.d_model)
        try:
            await self._first_steps(transport, activation)
            other = await self._first_steps(transport, -activation)
            again = await self._first_steps(transport, activation)
        except RefusedRequest as refusal:
            raise self._explained(refusal) from refusal
        if all(
            one[0] == two[0] and abs(one[1] - two[1]) < SAME_LOGPROB
            for one, two in zip(other, again, strict=False)
        ):
            raise EngineError(
                "the server answers two different activations alike",
                where=self.url,
                expected="different log-probabilities",
                found=(
                    "the same: its prefix cache returns the first activation's keys and values, or"
                    " its model ignores embeddings"
                ),
                remedy=self.cache_remedy,
            )

    def _explained(self, refusal: RefusedRequest) -> EngineError:
        for words, remedy in self.own_remedies:
            if words in refusal.message:
                return EngineError(
                    refusal.what, where=self.url, found=refusal.message, remedy=remedy
                )
        if refusal.status == 404:
            remedy = (
                f"Check that this is {self.kind}'s own address; other servers are named by their"
                " kind in front of http://"
            )
        else:
            remedy = f"Serve this AV itself: its embeddings are {self.d_model} wide"
        return EngineError(refusal.what, where=self.url, found=refusal.message, remedy=remedy)
