"""Read and change the residual stream at the output of one block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gloss.errors import ArchitectureError
from gloss.target_model.architectures import backbone_of, blocks_of, check_positions, output_logits

SHORT_ROW = 160
"""Rows of at most so many tokens are short; measured in docs/decisions/0009-speed.md."""
_TOKENWISE = ("self_attn.o_proj", "mlp")
"""What a block does behind the mixing of tokens, as Transformers names it."""


class _LayerReached(Exception):
    """Carries the residual stream out of a forward pass that needs no further block."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


def _hidden_of(output: Any) -> Tensor:
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden


@contextmanager
def _hook_at(model: nn.Module, layer: int, hook: Callable[..., Any]) -> Iterator[None]:
    """While active, ``hook`` runs behind block ``layer``; ArchitectureError if there is none."""
    blocks = blocks_of(model)
    if not 0 <= layer < len(blocks):
        raise ArchitectureError("no such layer", expected=f"0 to {len(blocks) - 1}", found=layer)
    handle = blocks[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def capture_activations(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None, layer: int
) -> Tensor:
    """Activations behind block ``layer``, before any final norm; nothing behind it runs.

    Shapes: ``input_ids`` and ``attention_mask`` [batch, tokens], right-padded; result [batch,
    tokens, d_model].
    Raises: ArchitectureError if the model has no such block."""

    def stop(_module: nn.Module, _inputs: Any, output: Any) -> None:
        raise _LayerReached(_hidden_of(output))

    backbone = backbone_of(model)
    try:
        with _hook_at(model, layer, stop), kernel_for_short_rows(backbone, input_ids.shape[1]):
            check_positions(model, input_ids.shape[1])
            backbone(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    except _LayerReached as reached:
        return reached.hidden
    raise AssertionError("the forward pass ended before the hooked block")


@contextmanager
def edit_residual(model: nn.Module, layer: int, edit: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """While active, ``edit`` maps the output of block ``layer``; [batch, tokens, d_model]."""

    def replace(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        edited = edit(_hidden_of(output))
        return (edited, *output[1:]) if isinstance(output, tuple) else edited

    with _hook_at(model, layer, replace):
        yield


@contextmanager
def last_block_at(model: nn.Module, columns: Tensor) -> Iterator[None]:
    """While active, the last block's output is right, and cheaper, at ``columns`` [batch] alone.

    Behind the mixing of tokens, the attention's output projection and the MLP run at these tokens
    alone; their results are broadcast when they are added to the residual stream. Gradients are
    exact. Blocks that name these layers otherwise run in full."""
    rows = torch.arange(len(columns), device=columns.device)

    def narrow(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0][rows, columns].unsqueeze(1), *inputs[1:])

    block = blocks_of(model)[-1]
    layers = [layer for path in _TOKENWISE if (layer := _at_path(block, path)) is not None]
    handles = [layer.register_forward_pre_hook(narrow) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _at_path(module: nn.Module, path: str) -> nn.Module | None:
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, nn.Module) else None


@torch.inference_mode()
def next_token_logits(model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Logits behind right-padded rows' last tokens; [batch, tokens] → [batch, vocabulary]."""
    backbone = backbone_of(model)
    output = backbone(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    last = attention_mask.sum(dim=1) - 1
    return output_logits(model, output.last_hidden_state[torch.arange(len(last)), last])


@contextmanager
def kernel_for_short_rows(backbone: Any, num_tokens: int) -> Iterator[bool]:
    """While active, short rows of ``num_tokens`` run with the eager attention; yields whether so.

    PyTorch's fused kernel, the default, takes 1.3 to 2.3 times as long on them in bfloat16 on a
    CPU, and is faster everywhere else. Results differ by rounding. Another kernel that was asked
    for stays, and so does every kernel where gradients are on."""
    config = backbone.config
    if not (
        config._attn_implementation == "sdpa"
        and num_tokens <= SHORT_ROW
        and backbone.dtype == torch.bfloat16
        and backbone.device.type == "cpu"
        and not torch.is_grad_enabled()
    ):
        yield False
        return
    config._attn_implementation = "eager"
    try:
        yield True
    finally:
        config._attn_implementation = "sdpa"
