"""Small real models that tests build: random Qwen2 and Llama of a few blocks."""

import torch


def random_model(
    family: str = "qwen2",
    *,
    vocab_size: int = 1024,
    num_blocks: int = 4,
    d_model: int = 32,
    seed: int = 0,
):
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    kind = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}[
        family
    ]
    torch.manual_seed(seed)
    config = kind[0](
        vocab_size=vocab_size,
        hidden_size=d_model,
        intermediate_size=2 * d_model,
        num_hidden_layers=num_blocks,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    return kind[1](config).eval()
