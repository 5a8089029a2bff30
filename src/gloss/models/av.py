"""The activation verbalizer (AV): a causal LM that explains the activation at the marker."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from gloss.contract import (
    InjectionMarker,
    ModelSidecar,
    custom_prompt_ids,
    encode_texts,
    find_marker,
    prompt_ids,
)
from gloss.errors import InjectionError, MarkerError, SidecarError, TemplateError
from gloss.models.injection import inject
from gloss.models.prefix import SharedPrefix, hidden_after_prefix, right_pad
from gloss.target_model import backbone_of, output_logits


class ActivationVerbalizer:
    """An AV: model, tokenizer and sidecar.

    ``prefix_ids`` are the prompt's tokens before the marker's left neighbour (shared by every
    activation), ``tail_ids`` the rest: left neighbour, marker, right neighbour and on to the end of
    the prompt.
    Raises: SidecarError if the sidecar has no marker or template, MarkerError if the prompt does
    not hold the marker."""

    def __init__(self, model: Any, tokenizer: Any, sidecar: ModelSidecar) -> None:
        self.model, self.tokenizer, self.sidecar = model, tokenizer, sidecar
        self.marker, ids, _ = av_prompt(tokenizer, sidecar)
        self._split_at_marker(ids)
        self.stop_id = stop_id_of(tokenizer)
        self.pad_id = pad_id_of(tokenizer)

    def _split_at_marker(self, ids: list[int]) -> None:
        site = find_marker(ids, self.marker)
        self.prefix_ids, self.tail_ids = ids[: site - 1], ids[site - 1 :]

    def with_prompt(self, prompt: str) -> ActivationVerbalizer:
        """The same AV with a prompt of your own: a user message that holds ``<INJECT>`` once,
        between the recorded neighbours.

        Raises: TemplateError.
        """
        other, marker = copy(self), self.marker
        try:
            other._split_at_marker(custom_prompt_ids(self.tokenizer, prompt, marker.char))
        except MarkerError as error:
            left, right = (
                self.tokenizer.decode([i])
                for i in (marker.left_neighbor_id, marker.right_neighbor_id)
            )
            raise TemplateError(
                "the tokens beside <INJECT> are not those that this AV was trained with",
                expected=f"{left!r} right before <INJECT> and {right!r} right behind it",
                found=repr(_around(prompt)),
                remedy=(
                    "Keep what the recorded template writes there:"
                    f" {_around(str(self.sidecar.av_template))!r}"
                ),
            ) from error
        return other

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end a response: ``stop_id``, and special ones of the generation config."""
        return (
            self.stop_id,
            *further_stop_ids(self.tokenizer, getattr(self.model, "generation_config", None)),
        )

    @property
    def backbone(self) -> Any:
        """The model without its LM head."""
        return backbone_of(self.model)

    @property
    def embedding(self) -> nn.Module:
        """The input embedding, with any scaling that its forward does."""
        module: nn.Module = self.model.get_input_embeddings()
        return module

    def shared_prefix(self) -> SharedPrefix:
        """Keys and values of the prompt before the marker, with gradients where enabled."""
        return SharedPrefix(self.backbone, self.prefix_ids)

    def embed_after_prefix(self, activations: Tensor, response_ids: Tensor | None = None) -> Tensor:
        """Embeddings of the prompt's tail with the activations injected, then of the responses.

        Shapes: activations [n, d_model], response_ids [n, tokens]; result [n, tail + tokens,
        d_model].
        Raises: InjectionError, ActivationError.
        """
        if activations.ndim != 2 or activations.shape[1] != self.sidecar.d_model:
            raise InjectionError(
                "wrong activations",
                expected=f"[n, {self.sidecar.d_model}]",
                found=tuple(activations.shape),
            )
        device = self.model.device
        tail = torch.tensor(self.tail_ids, device=device).expand(len(activations), -1)
        embedded = inject(
            self.embedding(tail),
            tail,
            activations.to(device),
            marker=self.marker,
            injection_scale=self.sidecar.injection_scale,
        )
        if response_ids is None:
            return embedded
        return torch.cat([embedded, self.embedding(response_ids.to(device))], dim=1)

    def response_logits(
        self,
        activations: Tensor,
        response_ids: Tensor,
        response_mask: Tensor,
        prefix: SharedPrefix | None = None,
    ) -> Tensor:
        """Logits of every real response token given all before it; computed at those positions
        only.

        Shapes: activations [n, d_model], response_ids and response_mask [n, tokens]; result [real
        tokens, vocabulary], in row-major order of the mask."""
        prefix = prefix or self.shared_prefix()
        embedded = self.embed_after_prefix(activations, response_ids[:, :-1])
        hidden = hidden_after_prefix(self.backbone, prefix, embedded)
        before = hidden[:, len(self.tail_ids) - 1 :]
        return output_logits(self.model, before[response_mask.to(before.device)])

    def response_logprobs(
        self,
        activations: Tensor,
        response_ids: Tensor,
        response_mask: Tensor,
        prefix: SharedPrefix | None = None,
        *,
        temperature: float = 1.0,
    ) -> Tensor:
        """Log-probability of every real response token where it is drawn at ``temperature``, [real
        tokens], row-major in the mask."""
        logits = self.response_logits(activations, response_ids, response_mask, prefix)
        logits = logits if temperature == 1 else logits.float() / temperature
        wanted = response_ids[response_mask].to(logits.device)
        return -nn.functional.cross_entropy(logits.float(), wanted, reduction="none")

    def response_ids(self, responses: Sequence[str]) -> list[list[int]]:
        """Token ids of training responses, each closed by the stop token, which stands nowhere
        else: a control token that a response quotes is text."""
        encoded = encode_texts(self.tokenizer, responses, [None] * len(responses))
        return [[*ids, self.stop_id] for ids, _ in encoded]

    def encode_responses(self, responses: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids of training responses, right-padded: ids and mask [n, tokens]."""
        return right_pad(self.response_ids(responses), self.pad_id)

    def decode(self, response_ids: Sequence[int]) -> str:
        """The text of one response, without its stop token."""
        return response_text(self.tokenizer, response_ids, without=(*self.stop_ids, self.pad_id))


def _around(prompt: str) -> str:
    """The site of the activation in a prompt or template, with what stands near it."""
    before, _, after = prompt.replace("{injection_char}", "<INJECT>").partition("<INJECT>")
    return f"{before[-16:]}<INJECT>{after[:16]}"


def av_prompt(tokenizer: Any, sidecar: ModelSidecar) -> tuple[InjectionMarker, list[int], int]:
    """The marker, the token ids of the AV's prompt, and the marker's index in them.

    Raises: SidecarError if the sidecar has no marker or template, MarkerError if the prompt does
    not hold the marker."""
    if sidecar.marker is None or sidecar.av_template is None:
        raise SidecarError(
            "an AV needs an injection marker and an AV template",
            expected="both",
            found="neither or one",
        )
    ids = prompt_ids(tokenizer, sidecar.av_template, sidecar.marker.char)
    return sidecar.marker, ids, find_marker(ids, sidecar.marker)


def further_stop_ids(tokenizer: Any, generation_config: Any) -> list[int]:
    """Special tokens at which a generation config stops, besides the tokenizer's end of text."""
    recorded = getattr(generation_config, "eos_token_id", None)
    others = (
        recorded if isinstance(recorded, (list, tuple)) else [] if recorded is None else [recorded]
    )
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return [i for i in others if i in special and i != tokenizer.eos_token_id]


def response_text(tokenizer: Any, response_ids: Sequence[int], *, without: Sequence[int]) -> str:
    """The text of one response, without its stop and padding tokens."""
    ids = [i for i in response_ids if i not in without]
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def pad_id_of(tokenizer: Any) -> int:
    """The padding token, or the end of text where there is none."""
    return int(
        tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    )


def stop_id_of(tokenizer: Any) -> int:
    """The token that ends a response.

    Raises: SidecarError if the tokenizer has none.
    """
    if tokenizer.eos_token_id is None:
        raise SidecarError(
            "the AV's tokenizer has no end-of-text token",
            expected="eos_token",
            found="none",
            remedy="Name the token that ends a response as eos_token in tokenizer_config.json",
        )
    return int(tokenizer.eos_token_id)
