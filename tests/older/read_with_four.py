"""Run by Transformers 4: reads the folders named on the command line, and prints as one line of
JSON what differs from what Gloss expects of each. Nothing of Gloss is imported."""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

transformers.logging.set_verbosity_error()


def last_block_output(model, ids):
    """The output of the last block [tokens, d_model], before any norm."""
    blocks = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))
    seen = []
    handle = blocks[-1].register_forward_hook(
        lambda _module, _inputs, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    model(ids)
    handle.remove()
    return seen[0].reshape(ids.shape[1], -1)


def _of_no_ar(name: str) -> bool:
    """Whether a weight belongs to the LM head or to the final norm, which an AR does not have."""
    parts = name.split(".")
    in_block = "layers" in parts or "h" in parts
    return not in_block and parts[-2] not in ("embed_tokens", "embed_in", "wte", "wpe")


@torch.inference_mode()
def read(folder: Path) -> dict:
    expected = load_file(folder / "expected.safetensors")
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    options = {"attn_implementation": "eager"} if texts["eager"] else {}
    load = transformers.AutoModelForCausalLM.from_pretrained
    found = {"missing": [], "unused": [], "tokenizers": []}
    for half in ("av", "ar"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder / half)
        found["tokenizers"].append(type(tokenizer).__name__)
        model, info = load(folder / half, output_loading_info=True, **options)
        found["missing"] += [n for n in info["missing_keys"] if half == "av" or not _of_no_ar(n)]
        found["unused"] += info["unexpected_keys"]
        for text, ids in texts["ids"]:
            if tokenizer.encode(text) != ids:
                found["ids"] = [half, text, tokenizer.encode(text), ids]
        if half == "av":
            chat = [{"role": "user", "content": texts["chat"]}]
            if tokenizer.apply_chat_template(chat, add_generation_prompt=True) != texts["chat_ids"]:
                found["chat"] = True
            logits = model.eval()(expected["ids"]).logits
            found["logits"] = float((logits - expected["logits"]).abs().max())
            continue
        head = load_file(folder / half / "value_head.safetensors")["weight"]
        vectors = [
            head @ last_block_output(model.eval(), torch.tensor([tokenizer.encode(prompt)]))[-1]
            for prompt in texts["prompts"]
        ]
        found["vectors"] = float((torch.stack(vectors) - expected["vectors"]).abs().max())
    return found


def main() -> None:
    results = {"transformers": transformers.__version__}
    for name in sys.argv[1:]:
        try:
            results[name] = read(Path(name))
        except Exception as error:
            results[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
