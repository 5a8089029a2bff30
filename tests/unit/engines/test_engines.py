"""Engines over HTTP against stand-in servers that really run the AV."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from stand_ins import serving
from tiny_nla import D_MODEL, make_av

from gloss.engines import (
    GlossEngine,
    Limits,
    LocalEngine,
    SGLangEngine,
    VLLMEngine,
    engine_of,
    parse_engine,
)
from gloss.errors import ActivationError, ConfigError, EngineError, InjectionError
from gloss.models import PromptEmbedder, load_av, save_av

REPO = Path(__file__).resolve().parents[3]
KINDS = {
    "sglang": (serving.SGLang, SGLangEngine),
    "vllm": (serving.VLLM, VLLMEngine),
    "gloss": (serving.Gloss, GlossEngine),
}
GREEDY = {"temperature": 0.0, "max_new_tokens": 6, "seed": 0}
QUICK = Limits(concurrency=4, timeout_s=5.0, retries=2, backoff_s=0.01, max_wait_s=1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, lab_tokenizer):
    saved = tmp_path_factory.mktemp("nla") / "av"
    save_av(make_av(lab_tokenizer), saved)
    return saved


@pytest.fixture(scope="module")
def av(folder):
    return load_av(folder)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def _activations(n=5, seed=1):
    return torch.randn(n, D_MODEL, generator=torch.Generator().manual_seed(seed))


def _stand_in(kind, av, **faults):
    return KINDS[kind][0](av, serving.Faults(**faults))


def _client(kind, url, folder, limits=QUICK):
    if kind == "gloss":
        return GlossEngine(url, d_model=D_MODEL, limits=limits)
    return KINDS[kind][1](url, PromptEmbedder.load(folder), limits=limits)


def test_greedy_responses_equal_the_local_engines(kind, av, folder):
    with _stand_in(kind, av) as server:
        engine = engine_of(f"{kind}+{server.url}", folder)
        assert engine.generate(_activations(), **GREEDY) == LocalEngine(av).generate(
            _activations(), **GREEDY
        )


def test_a_response_that_ends_has_its_stop_token_in_the_ids_and_not_in_the_text(kind, folder):
    av = load_av(folder)
    endless = LocalEngine(av).generate(_activations(), **GREEDY)
    stop = endless[0].token_ids[2]
    av.stop_id = stop
    with _stand_in(kind, av) as server:
        engine = _client(kind, server.url, folder)
        if kind != "gloss":
            engine.embedder.stop_ids = (stop,)
        found = engine.generate(_activations(), **GREEDY)
    assert found == LocalEngine(av).generate(_activations(), **GREEDY)
    assert found[0].finished
    assert found[0].token_ids == endless[0].token_ids[:3]


def test_the_same_seed_gives_the_same_samples_in_any_order_and_another_seed_others(
    kind, av, folder
):
    settings = {"temperature": 1.0, "max_new_tokens": 6, "num_samples": 3}
    with _stand_in(kind, av) as server:
        wide, narrow = (
            _client(kind, server.url, folder, replace(QUICK, concurrency=c)) for c in (4, 1)
        )
        one, again, other = (
            e.generate(_activations(), seed=s, **settings)
            for e, s in ((wide, 7), (narrow, 7), (wide, 8))
        )
    assert one == again
    assert one != other
    assert len(one) == 15
    assert len({rollout.token_ids for rollout in one}) == 15


@pytest.mark.parametrize("key", [None, "s3cret"])
def test_servers_are_told_the_key_of_the_environment_and_nothing_else(
    kind, av, folder, monkeypatch, key
):
    if key is not None:
        monkeypatch.setenv("GLOSS_ENGINE_KEY", key)
    with _stand_in(kind, av) as server:
        engine = _client(kind, server.url, folder)
        engine.check()
        engine.generate(_activations(1), **GREEDY)
    expected = (
        (None, None) if key is None else (None, key) if kind == "gloss" else (f"Bearer {key}", None)
    )
    assert set(server.keys) == {expected}
    assert "s3cret" not in repr(vars(engine))


def test_greedy_samples_are_asked_for_once(kind, av, folder):
    with _stand_in(kind, av) as server:
        found = _client(kind, server.url, folder).generate(_activations(2), **GREEDY, num_samples=3)
        bodies = [json.loads(body) for _, body in server.requests]
    assert found[0] == found[1] == found[2] != found[3]
    assert len(found) == 6
    assert len(bodies) == (1 if kind == "gloss" else 2)
    assert all(body.get("n", 1) == 1 and body.get("num_samples", 1) == 1 for body in bodies)


def test_no_more_requests_than_allowed_are_under_way_and_answers_keep_their_order(
    kind, av, folder, monkeypatch
):
    monkeypatch.setattr("gloss.engines.gloss_server.ROWS_PER_REQUEST", 2)
    with _stand_in(kind, av, slow_s=0.02) as server:
        found = _client(kind, server.url, folder, replace(QUICK, concurrency=3)).generate(
            _activations(16), **GREEDY
        )
        assert server.most_at_once == 3
    assert found == LocalEngine(av).generate(_activations(16), **GREEDY)


def test_dropped_connections_are_made_anew(kind, av, folder):
    with _stand_in(kind, av, drop=2) as server:
        found = _client(kind, server.url, folder).generate(_activations(), **GREEDY)
        assert len(server.requests) == 2 + (1 if kind == "gloss" else 5)
    assert found == LocalEngine(av).generate(_activations(), **GREEDY)


def test_a_busy_server_is_waited_for(kind, av, folder):
    with _stand_in(kind, av, busy=3) as server:
        found = _client(kind, server.url, folder).generate(_activations(), **GREEDY)
    assert found == LocalEngine(av).generate(_activations(), **GREEDY)


@pytest.mark.parametrize("retry_after", ["3600", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_server_that_is_busy_for_too_long_is_not(av, folder, retry_after):
    with _stand_in("vllm", av, busy=1, retry_after=retry_after) as server:
        with pytest.raises(EngineError, match="HTTP 429: found too many requests"):
            _client("vllm", server.url, folder).generate(_activations(1), **GREEDY)
        assert len(server.requests) == 1


def test_an_error_status_is_final(kind, av, folder):
    with _stand_in(kind, av, status=500) as server:
        with pytest.raises(EngineError, match="HTTP 500: found an internal error"):
            _client(kind, server.url, folder).generate(_activations(1), **GREEDY)
        assert len(server.requests) == 1


def test_a_silent_server_is_not_waited_for_forever(kind, av, folder):
    with _stand_in(kind, av, slow_s=30.0) as server:
        started = time.monotonic()
        with pytest.raises(EngineError, match=r"does not answer in time.*within 0.2 s"):
            _client(kind, server.url, folder, replace(QUICK, timeout_s=0.2)).generate(
                _activations(1), **GREEDY
            )
        assert time.monotonic() - started < 10
        assert len(server.requests) == 1


def test_a_server_that_dies_in_the_middle_is_an_error_that_says_so(kind, av, folder, monkeypatch):
    monkeypatch.setattr("gloss.engines.gloss_server.ROWS_PER_REQUEST", 1)
    with (
        _stand_in(kind, av, dies_after=3) as server,
        pytest.raises(EngineError, match=r"(breaks off|no server can be reached).*3 times"),
    ):
        _client(kind, server.url, folder).generate(_activations(12), **GREEDY)


def test_an_engine_works_again_when_its_server_does(kind, av, folder):
    with _stand_in(kind, av, status=500) as server:
        engine = _client(kind, server.url, folder)
        with pytest.raises(EngineError):
            engine.generate(_activations(), **GREEDY)
        server.faults.status = None
        assert engine.generate(_activations(), **GREEDY) == LocalEngine(av).generate(
            _activations(), **GREEDY
        )


def test_cancelling_closes_the_requests_under_way(kind, av, folder):
    with _stand_in(kind, av, slow_s=30.0) as server:
        engine = _client(kind, server.url, folder)

        async def cancelled():
            task = asyncio.create_task(engine.generate_async(_activations(), **GREEDY))
            while server.at_once < (1 if kind == "gloss" else 4):
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(cancelled())
        _wait_until(lambda: server.at_once == 0)
        assert server.closed_early == (1 if kind == "gloss" else 4)


def test_ctrl_c_closes_the_requests_under_way(av, folder):
    script = (
        "import sys, torch\nfrom gloss.engines import GlossEngine\nGlossEngine(sys.argv[1],"
        f" d_model={D_MODEL}).generate(torch.ones(1, {D_MODEL}), temperature=0.0, max_new_tokens=1,"
        " seed=0)\n"
    )
    with _stand_in("gloss", av, slow_s=60.0) as server:
        command = [sys.executable, "-c", script, server.url]
        process = subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": str(REPO / "src")}, stderr=subprocess.PIPE
        )
        _wait_until(lambda: server.at_once == 1, 60)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert b"KeyboardInterrupt" in errors
        _wait_until(lambda: server.at_once == 0)


def _wait_until(true, seconds=10):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_generating_works_inside_a_running_event_loop(kind, av, folder):
    async def notebook():
        return _client(kind, server.url, folder).generate(_activations(), **GREEDY)

    with _stand_in(kind, av) as server:
        assert asyncio.run(notebook()) == LocalEngine(av).generate(_activations(), **GREEDY)


def test_several_threads_may_use_one_engine(kind, av, folder):
    expected = [LocalEngine(av).generate(_activations(seed=s), **GREEDY) for s in (1, 2)]
    found = [None, None]
    with _stand_in(kind, av) as server:
        engine = _client(kind, server.url, folder)

        def work(i):
            found[i] = engine.generate(_activations(seed=i + 1), **GREEDY)

        threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == expected


def test_the_speed_counts_generated_tokens(kind, av, folder):
    with _stand_in(kind, av) as server:
        engine = _client(kind, server.url, folder)
        rollouts = engine.generate(_activations(), **GREEDY)
    speed = engine.last_speed
    assert (speed.responses, speed.tokens) == (5, sum(len(r.token_ids) for r in rollouts))
    assert speed.tokens_per_s == speed.tokens / speed.seconds
    assert f"{speed.tokens} tokens" in str(speed)


def test_no_activations_give_no_responses_and_no_request(kind, av, folder):
    with _stand_in(kind, av) as server:
        assert _client(kind, server.url, folder).generate(torch.zeros(0, D_MODEL), **GREEDY) == []
        assert server.requests == []


@pytest.mark.parametrize("wrong", [torch.ones(1, D_MODEL - 1), torch.ones(D_MODEL)])
def test_activations_of_another_width_are_refused_here(kind, folder, wrong):
    with pytest.raises(InjectionError, match=rf"expected \[n, {D_MODEL}\]"):
        _client(kind, "http://127.0.0.1:9", folder).generate(wrong, **GREEDY)


@pytest.mark.parametrize("kind", ["sglang", "vllm"])
def test_zero_and_non_finite_activations_are_refused_here(kind, folder):
    for wrong in (torch.zeros(1, D_MODEL), torch.full((1, D_MODEL), float("nan"))):
        with pytest.raises(ActivationError, match="has no direction"):
            _client(kind, "http://127.0.0.1:9", folder).generate(wrong, **GREEDY)


# What the probe explains


@pytest.mark.invariant("11")
@pytest.mark.parametrize(
    ("kind", "remedy"),
    [("sglang", "--disable-radix-cache"), ("vllm", "--no-enable-prefix-caching")],
)
def test_a_prefix_cache_is_found_by_the_probe(kind, remedy, av, folder):
    with _stand_in(kind, av, prefix_cache=True) as server:
        with pytest.raises(EngineError, match=f"two different activations alike.*{remedy}"):
            engine_of(f"{kind}+{server.url}", folder)
        assert _client(kind, server.url, folder).generate(_activations(), **GREEDY)


def test_a_server_that_refuses_embeddings_because_of_its_cache_is_explained(av, folder):
    with (
        _stand_in("sglang", av, refuses_cache=True) as server,
        pytest.raises(EngineError, match=r"Start it with --disable-radix-cache\.$"),
    ):
        engine_of(f"sglang+{server.url}", folder)


def test_prompt_embeddings_that_are_off_are_explained(av, folder):
    with (
        _stand_in("vllm", av, embeds_off=True) as server,
        pytest.raises(EngineError, match=r"Start it with --enable-prompt-embeds\.$"),
    ):
        engine_of(f"vllm+{server.url}", folder)


def test_another_models_width_is_explained(kind, folder, lab_tokenizer):
    from tiny_models import random_model

    from gloss.models import ActivationVerbalizer

    other = make_av(lab_tokenizer, d_model=16)
    other = ActivationVerbalizer(
        random_model(vocab_size=len(lab_tokenizer), d_model=16), lab_tokenizer, other.sidecar
    )
    with _stand_in(kind, other) as server:
        expected = (
            "serves this NLA"
            if kind == "gloss"
            else f"Serve this AV itself: its embeddings are {D_MODEL} wide"
        )
        with pytest.raises(EngineError, match=expected):
            engine_of(f"{kind}+{server.url}", folder, limits=QUICK)


def test_a_server_that_has_gone_is_explained(kind, av, folder):
    with _stand_in(kind, av) as server:
        url = server.url
    with pytest.raises(
        EngineError, match=r"no server can be reached: .*3 times\. Start the server"
    ):
        engine_of(f"{kind}+{url}", folder, limits=QUICK)


def test_a_page_that_is_no_engine_is_explained(kind, av, folder):
    with (
        _stand_in(kind, av, no_json=True) as server,
        pytest.raises(EngineError, match="not answered with JSON"),
    ):
        engine_of(f"{kind}+{server.url}", folder, limits=QUICK)


@pytest.mark.parametrize(
    ("named", "served"), [("sglang", "vllm"), ("vllm", "gloss"), ("gloss", "sglang")]
)
def test_a_server_of_another_kind_is_explained(named, served, av, folder):
    with (
        _stand_in(served, av) as server,
        pytest.raises(EngineError, match=r"HTTP 404.*Check that this is"),
    ):
        engine_of(f"{named}+{server.url}", folder, limits=QUICK)


def test_a_bare_url_is_asked_what_it_is(kind, av, folder):
    with _stand_in(kind, av) as server:
        assert type(engine_of(server.url + "/", folder)) is KINDS[kind][1]


def test_a_bare_url_of_something_else_is_refused(av, folder):
    class Other(serving.SGLang):
        pages = {}

    with Other(av) as server, pytest.raises(EngineError, match="cannot be told which kind"):
        engine_of(server.url, folder, limits=QUICK)


def test_local_is_the_local_engine(av, folder):
    engine = engine_of("local", folder)
    assert engine.generate(_activations(), **GREEDY) == LocalEngine(av).generate(
        _activations(), **GREEDY
    )


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "remote",
        "ftp://host",
        "sglang",
        "sglang+host:1",
        "tgi+http://host",
        "http://",
        "http://h:x",
        "vllm+http://h/?a",
    ],
)
def test_other_names_are_refused(wrong, folder):
    with pytest.raises(ConfigError, match="unknown engine: expected local, sglang"):
        engine_of(wrong, folder)


def test_names_are_read():
    assert parse_engine("vllm+https://host:8000/base/") == ("vllm", "https://host:8000/base")
    assert parse_engine("http://host:8000") == (None, "http://host:8000")


# New weights


@pytest.fixture
def moved(tmp_path, lab_tokenizer):
    """The AV after a step of training, its embeddings and its head moved too."""
    av = make_av(lab_tokenizer)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in av.model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    save_av(av, tmp_path / "moved")
    return tmp_path / "moved"


@pytest.mark.parametrize("kind", ["sglang", "vllm"])
def test_new_weights_are_taken_over_with_the_prompts_embeddings(kind, folder, moved):
    with _stand_in(kind, load_av(folder)) as server:
        engine = _client(kind, server.url, folder)
        before = engine.generate(_activations(), **GREEDY)
        with pytest.raises(EngineError, match="weights are not those of the AV"):
            engine.check_weights(load_av(moved))
        engine.load_weights(moved)
        engine.check_weights(load_av(moved))
        after = engine.generate(_activations(), **GREEDY)
        assert server.loaded == [str(moved)]
    assert after == LocalEngine(load_av(moved)).generate(_activations(), **GREEDY) != before


@pytest.mark.parametrize("kind", ["sglang", "vllm"])
def test_a_head_that_stays_as_it_was_is_found(kind, folder, moved):
    """vLLM keeps the packed copy of a tied head, answers 200 and writes something else."""
    with _stand_in(kind, load_av(folder), keeps_head=True) as server:
        engine = _client(kind, server.url, folder)
        engine.load_weights(moved)
        with pytest.raises(EngineError, match="an update was not taken over whole"):
            engine.check_weights(load_av(moved))


@pytest.mark.parametrize(
    ("kind", "remedy"), [("sglang", "by the same path"), ("vllm", "VLLM_SERVER_DEV_MODE=1")]
)
def test_a_server_that_takes_no_new_weights_is_explained(kind, remedy, av, folder, moved, tmp_path):
    with _stand_in(kind, av, no_updates=True) as server:
        with pytest.raises(EngineError, match=f"does not take new weights.*{remedy}"):
            _client(kind, server.url, folder).load_weights(moved)
        server.faults.no_updates = False
        with pytest.raises(EngineError, match="found no weights in"):
            _client(kind, server.url, folder).load_weights(tmp_path / "nowhere")


def test_sglang_says_in_its_answer_that_it_did_not_load(av, folder, moved):
    class Unwilling(serving.SGLang):
        def update(self, _request):
            return {"success": False, "message": "out of memory"}

    with Unwilling(av) as server, pytest.raises(EngineError, match="found out of memory"):
        _client("sglang", server.url, folder).load_weights(moved)


def test_a_gloss_server_keeps_its_weights(folder, moved):
    with pytest.raises(EngineError, match="keeps the NLA that it was started with"):
        _client("gloss", "http://127.0.0.1:9", folder).load_weights(moved)


def test_the_local_engine_takes_over_a_folders_weights(folder, moved):
    av = load_av(folder)
    LocalEngine(av).load_weights(moved)
    expected = LocalEngine(load_av(moved)).generate(_activations(), **GREEDY)
    assert LocalEngine(av).generate(_activations(), **GREEDY) == expected


# Answers that cannot be used


def _altered(kind, av, change):
    class Altered(KINDS[kind][0]):
        def answer(self, request):
            return change(super().answer(request))

    return Altered(av)


def _without(*path):
    def change(answer):
        found = answer
        for key in path[:-1]:
            found = found[key]
        del found[path[-1]]
        return answer

    return change


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("sglang", _without("output_ids")),
        ("sglang", _without("meta_info", "finish_reason")),
        ("sglang", lambda answer: []),
        ("vllm", _without("choices", 0, "token_ids")),
        ("vllm", lambda answer: answer | {"choices": None}),
        ("gloss", _without("rollouts", 0, "finished")),
        ("gloss", lambda answer: "rollouts"),
    ],
)
def test_an_answer_without_what_a_response_needs_is_refused(kind, change, av, folder):
    with (
        _altered(kind, av, change) as server,
        pytest.raises(EngineError, match=r"this is no \w+ server, or one of another version"),
    ):
        _client(kind, server.url, folder).generate(_activations(1), **GREEDY)


def test_a_response_that_the_server_gave_up_is_an_error(av, folder):
    def sglang(answer):
        answer["meta_info"]["finish_reason"] = {"type": "abort", "message": "out of memory"}
        return answer

    def vllm(answer):
        answer["choices"][0]["finish_reason"] = "abort"
        return answer

    for kind, change in (("sglang", sglang), ("vllm", vllm)):
        with (
            _altered(kind, av, change) as server,
            pytest.raises(EngineError, match=r"gave up a response.*abort"),
        ):
            _client(kind, server.url, folder).generate(_activations(1), **GREEDY)


@pytest.mark.parametrize("kind", ["vllm", "gloss"])
def test_too_few_responses_are_an_error(kind, av, folder):
    key = {"vllm": "choices", "gloss": "rollouts"}[kind]
    settings = {"temperature": 1.0, "max_new_tokens": 2, "seed": 0, "num_samples": 2}
    with (
        _altered(kind, av, lambda answer: answer | {key: answer[key][:-1]}) as server,
        pytest.raises(EngineError, match="do not match: expected 2, found 1"),
    ):
        _client(kind, server.url, folder).generate(_activations(1), **settings)


# What travels


@pytest.mark.invariant("11")
@pytest.mark.parametrize("kind", ["sglang", "vllm"])
def test_embeddings_travel_and_never_ids(kind, av, folder):
    with _stand_in(kind, av) as server:
        _client(kind, server.url, folder).generate(_activations(1), **GREEDY)
        (_, body), *_ = server.requests
    embeds = {"sglang": "input_embeds", "vllm": "prompt_embeds"}[kind]
    assert embeds in json.loads(body)
    assert not {"input_ids", "text", "prompt"} & set(json.loads(body))


def test_only_the_activations_travel_to_a_gloss_server(av, folder):
    rows = torch.randn(32, 512)
    engine = GlossEngine("http://127.0.0.1:9", d_model=512)
    from gloss.engines.servers import Sampling

    (call,) = engine._calls(rows, Sampling(0.0, 200, [0] * 32))
    assert len(call.body) <= 32 * 4000
    sent = json.loads(call.body)
    assert sent["shape"] == [32, 512]
    values = torch.frombuffer(bytearray(base64.b64decode(sent["activations"])), dtype=torch.float32)
    assert torch.equal(values.reshape(32, 512), rows)
