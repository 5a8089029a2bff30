"""Stand-in servers that speak SGLang's, vLLM's and Gloss's JSON and run a small Transformers model
on what they receive.

``Faults`` are switches for what goes wrong at real servers. Nothing here imports the clients.
"""

import base64
import io
import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

SGLANG_SAMPLING = {
    "max_new_tokens",
    "stop",
    "stop_token_ids",
    "stop_regex",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "min_new_tokens",
    "n",
    "json_schema",
    "regex",
    "ebnf",
    "structural_tag",
    "ignore_eos",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "no_stop_trim",
    "custom_params",
    "sampling_seed",
}

RADIX_CACHE_REFUSAL = (
    "input_embeds is provided while disable_radix_cache is False. Please add"
    " `--disable-radix-cache` when you launch the server if you want to use input_embeds as inputs."
)


@dataclass
class Faults:
    """``drop`` and ``busy``: how many requests to cut off, or to answer with 429. ``dies_after``:
    requests before it is gone.
    """

    drop: int = 0
    busy: int = 0
    retry_after: str | None = "0"
    status: int | None = None
    slow_s: float = 0.0
    dies_after: int | None = None
    prefix_cache: bool = False
    refuses_cache: bool = False
    embeds_off: bool = False
    no_updates: bool = False
    keeps_head: bool = False
    no_json: bool = False


class Refused(Exception):
    def __init__(self, status, message):
        self.status, self.message = status, message


class StandIn:
    """A server in a thread; ``requests`` holds (path, body) of every POST that it read,
    ``most_at_once`` the highest load.
    """

    def __init__(self, av, faults=None):
        self.av, self.faults = av, faults or Faults()
        self.loaded = []
        self.requests, self.keys, self.at_once, self.most_at_once, self.closed_early = (
            [],
            [],
            0,
            0,
            0,
        )
        self._lock, self._cached = threading.Lock(), {}
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                stand_in.get(self)

            def do_POST(self):
                stand_in.post(self)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.die()

    def die(self):
        """No further connection is taken."""
        self._server.shutdown()
        self._server.server_close()

    def get(self, handler):
        known = handler.path in self.pages
        _reply(
            handler,
            200 if known else 404,
            self.pages[handler.path] if known else self.error(404, "Not Found"),
        )

    def post(self, handler):
        body = handler.rfile.read(int(handler.headers["content-length"]))
        with self._lock:
            self.requests.append((handler.path, body))
            self.keys.append(
                (handler.headers.get("authorization"), handler.headers.get("x-secret-key"))
            )
            fault = self._next_fault()
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self._answer(handler, body, fault)
        except (BrokenPipeError, ConnectionResetError):
            self.closed_early += 1
        finally:
            with self._lock:
                self.at_once -= 1

    def _next_fault(self):
        faults = self.faults
        if faults.dies_after is not None and len(self.requests) > faults.dies_after:
            if len(self.requests) == faults.dies_after + 1:
                threading.Thread(target=self.die, daemon=True).start()
            return "drop"
        for name in ("drop", "busy"):
            if getattr(faults, name) > 0:
                setattr(faults, name, getattr(faults, name) - 1)
                return name
        return None

    def _answer(self, handler, body, fault):
        if fault == "drop":
            handler.close_connection = True
            handler.connection.close()
            return
        if fault == "busy":
            headers = (
                {} if self.faults.retry_after is None else {"retry-after": self.faults.retry_after}
            )
            _reply(handler, 429, self.error(429, "too many requests"), headers)
            return
        if self.faults.slow_s:
            _wait(handler, self.faults.slow_s)
        if self.faults.status is not None:
            _reply(handler, self.faults.status, self.error(self.faults.status, "an internal error"))
            return
        if self.faults.no_json:
            _reply(handler, 200, b"<html>a proxy's page</html>")
            return
        try:
            command = self.commands.get(handler.path)
            if handler.path != self.path and (command is None or self.faults.no_updates):
                raise Refused(404, "Not Found")
            with self._lock:
                answer = getattr(self, command or "answer")(json.loads(body or "null"))
        except Refused as refused:
            _reply(handler, refused.status, self.error(refused.status, refused.message))
            return
        _reply(handler, 200, answer)

    @torch.no_grad()
    def complete(self, embeds, *, temperature, max_new_tokens, stop_ids, seed):
        """Token ids, their log-probabilities and whether a stop token ended them; embeds [T, d]."""
        model, generator = self.av.model, torch.Generator().manual_seed(seed)
        embeds = embeds.unsqueeze(0).to(model.dtype)
        if (
            self.faults.prefix_cache
        ):  # keyed on placeholder ids, which are the same for all embeddings of a length
            first = self._cached.setdefault(embeds.shape[1], embeds)
            embeds = torch.cat([first[:, :-1], embeds[:, -1:]], dim=1)
        ids, logprobs = [], []
        for _ in range(max_new_tokens):
            tail = model.get_input_embeddings()(torch.tensor([ids], dtype=torch.long))
            logits = model(inputs_embeds=torch.cat([embeds, tail], dim=1)).logits[0, -1]
            if temperature == 0:
                token = int(logits.argmax())
            else:
                token = int(
                    torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
                )
            ids.append(token)
            logprobs.append(float(logits.log_softmax(-1)[token]))
            if token in stop_ids:
                return ids, logprobs, True
        return ids, logprobs, False

    def load(self, folder):
        """Takes over the weights of a folder, as the real servers do from the files."""
        weights = {}
        for file in Path(folder).glob("*.safetensors"):
            weights |= load_file(file)
        if not weights:
            raise Refused(400, f"no weights in {folder}")
        head = self.av.model.get_output_embeddings()
        kept = head.weight.detach().clone()
        missing, unexpected = self.av.model.load_state_dict(weights, strict=False)
        assert not unexpected
        assert set(missing) <= {"lm_head.weight"}
        if self.faults.keeps_head:
            head.weight = torch.nn.Parameter(kept)
        self.loaded.append(folder)

    def check_width(self, embeds):
        width = self.av.model.config.hidden_size
        if embeds.ndim != 2 or embeds.shape[1] != width:
            raise Refused(
                400,
                f"the embeddings' hidden size {tuple(embeds.shape)} does not match the model's"
                f" {width}",
            )


class SGLang(StandIn):
    path = "/generate"
    commands = {"/update_weights_from_disk": "update"}
    pages = {"/get_model_info": {"model_path": "av", "is_generation": True}}

    def error(self, status, message):
        return {"error": {"message": message}}

    def update(self, request):
        self.load(request["model_path"])
        return {"success": True, "message": "Succeeded to update model weights."}

    def answer(self, request):
        if self.faults.refuses_cache:
            raise Refused(400, RADIX_CACHE_REFUSAL)
        given = {"text", "input_ids", "input_embeds"} & set(request)
        if given != {"input_embeds"}:
            raise Refused(
                400,
                f"Either text, input_ids or input_embeds should be provided, not {sorted(given)}",
            )
        params = request["sampling_params"]
        if unknown := set(params) - SGLANG_SAMPLING:
            raise Refused(
                400, f"SamplingParams got an unexpected keyword argument {sorted(unknown)[0]!r}"
            )
        embeds = torch.tensor(request["input_embeds"], dtype=torch.float32)
        self.check_width(embeds)
        ids, logprobs, ended = self.complete(
            embeds,
            temperature=params["temperature"],
            max_new_tokens=params["max_new_tokens"],
            stop_ids=params.get("stop_token_ids", []),
            seed=params.get("sampling_seed", 0),
        )
        reason = (
            {"type": "stop", "matched": ids[-1]}
            if ended
            else {"type": "length", "length": len(ids)}
        )
        meta = {
            "id": "0",
            "finish_reason": reason,
            "prompt_tokens": len(embeds),
            "weight_version": "default",
            "completion_tokens": len(ids),
            "cached_tokens": 0,
            "e2e_latency": 0.1,
        }
        if request.get("return_logprob"):
            meta["output_token_logprobs"] = [
                [p, i, None] for p, i in zip(logprobs, ids, strict=True)
            ]
        return {
            "text": self.av.tokenizer.decode(ids[:-1] if ended else ids),
            "output_ids": ids,
            "meta_info": meta,
        }


class VLLM(StandIn):
    path = "/v1/completions"
    commands = {"/collective_rpc": "call", "/reset_prefix_cache": "reset"}
    pages = {"/version": {"version": "0.32.0"}, "/openapi.json": {}}

    def error(self, status, message):
        return {
            "error": {"message": message, "type": "BadRequestError", "param": None, "code": status}
        }

    def call(self, request):
        assert request["method"] == "reload_weights"
        self.load(request["kwargs"]["weights_path"])
        return {"results": [None]}

    def reset(self, _request):
        self._cached.clear()
        return b""

    def answer(self, request):
        if self.faults.embeds_off:
            raise Refused(400, "You must set `--enable-prompt-embeds` to input `prompt_embeds`.")
        if "prompt" in request:
            raise Refused(400, "ids beside embeddings")
        embeds = torch.load(
            io.BytesIO(base64.b64decode(request["prompt_embeds"], validate=True)), weights_only=True
        )
        self.check_width(embeds)
        seed, choices = request.get("seed", 0), []
        for index in range(request.get("n", 1)):
            ids, logprobs, ended = self.complete(
                embeds.float(),
                temperature=request["temperature"],
                max_new_tokens=request["max_tokens"],
                stop_ids=request.get("stop_token_ids", []),
                seed=seed + index,
            )
            choices.append(
                {
                    "index": index,
                    "text": self.av.tokenizer.decode(ids),
                    "logprobs": {"token_logprobs": logprobs} if request.get("logprobs") else None,
                    "finish_reason": "stop" if ended else "length",
                    "stop_reason": ids[-1] if ended else None,
                    "token_ids": ids if request.get("return_token_ids") else None,
                    "prompt_token_ids": None,
                }
            )
        usage = {
            "prompt_tokens": len(embeds),
            "completion_tokens": sum(len(c["token_ids"] or ()) for c in choices),
        }
        return {
            "id": "0",
            "object": "text_completion",
            "model": "av",
            "choices": choices[::-1],
            "usage": usage,
        }


class Gloss(StandIn):
    path = "/v1/rollouts"
    commands = {}
    pages = {"/openapi.json": {}}

    def error(self, status, message):
        return {"error": message}

    def answer(self, request):
        from gloss.engines import DecodingBatch, RowRequest

        shape = request["shape"]
        if shape[1] != self.av.sidecar.d_model:
            raise Refused(
                400, f"wrong activations: expected [n, {self.av.sidecar.d_model}], found {shape}"
            )
        values = np.frombuffer(
            base64.b64decode(request["activations"], validate=True), dtype="<f4"
        ).reshape(shape)
        samples = request["num_samples"]
        rows = [
            RowRequest(
                torch.from_numpy(row.copy()),
                request["temperature"],
                request["max_new_tokens"],
                seed + sample,
            )
            for row, seed in zip(values, request["seeds"], strict=True)
            for sample in range(samples)
        ]
        batch = DecodingBatch(self.av, max_rows=len(rows))
        for key, row in enumerate(rows):
            batch.add(key, row)
        rollouts = [rollout for _, rollout in sorted(batch.finish().items())]
        written = [
            {"token_ids": r.token_ids, "text": r.text, "finished": r.finished} for r in rollouts
        ]
        return {"rollouts": written, "engine": "local"}


def _wait(handler, seconds):
    """Waits, but not for a client that has gone."""
    handler.connection.settimeout(seconds)
    try:
        if handler.connection.recv(1) == b"":
            raise ConnectionResetError
    except TimeoutError:
        pass
    handler.connection.settimeout(None)


def _reply(handler, status, answer, headers=None):
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    handler.send_response(status)
    for name, value in {"content-length": str(len(body)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
