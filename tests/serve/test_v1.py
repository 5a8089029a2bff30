"""Gloss's own paths."""

import base64
import io
import json
import random
import threading
import time

import httpx2
import numpy as np
import pytest
import torch
from safetensors.torch import save as safetensors_bytes
from served_nla import TEXT, frames, serving

from gloss.engines import LocalEngine
from gloss.evaluate import JudgedClaim
from gloss.nla import NLA
from gloss.nla.trust import agreement, share_making

SAYING = "the mood is calm\nthe place is the harbor"


def post(client, path, **body):
    answer = client.post(f"/v1/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def encoded(vectors):
    return {
        "activations": base64.b64encode(vectors.numpy().astype("<f4").tobytes()).decode(),
        "shape": list(vectors.shape),
    }


# ---- explain


def test_explain_answers_as_the_local_nla(client, nla):
    answer = post(client, "explain", text=TEXT, positions="3,7-9")
    local = nla.explain(TEXT, positions="3,7-9")
    found = answer["explanations"]
    assert [(e["position"], e["token"], e["text"], e["flags"]) for e in found] == [
        (e.position, e.token, e.text, list(e.flags)) for e in local
    ]
    assert [e["fve"] for e in found] == pytest.approx([e.fve for e in local], abs=1e-4)
    assert [e["norm"] for e in found] == pytest.approx([e.norm for e in local], rel=1e-4)


def test_samples_differ_by_seed_and_come_back_with_it(client, vectors):
    body = {
        "activations": (0.3 * vectors + torch.ones(32)).tolist(),
        "samples": 3,
        "temperature": 2.0,
    }
    first, again, other = (
        post(client, "explain", **body, seed=seed)["explanations"] for seed in (1, 1, 2)
    )
    assert first == again
    assert [e["response"] for e in first] != [e["response"] for e in other]
    assert len({e["response"] for e in first}) > 4
    assert [(e["position"], e["sample"]) for e in first] == [
        (i, s) for i in range(4) for s in range(3)
    ]


def test_a_stream_ends_in_what_is_answered_whole(client):
    body = {"text": TEXT, "positions": [2, 5], "samples": 2, "temperature": 1.0, "seed": 77}
    start, *rest = frames(client, "/v1/explain", {**body, "stream": True})
    assert start == {"nla": "tiny", "layer": 2, "total": 4, "num_tokens": 17}
    finished = sorted((f for f in rest if f["done"]), key=lambda f: (f["position"], f["sample"]))
    assert finished == post(client, "explain", **body)["explanations"]
    assert all(set(f) == {"position", "sample", "text", "done"} for f in rest if not f["done"])


def test_no_activations_have_no_explanations(client):
    assert post(client, "explain", activations=[])["explanations"] == []
    assert [
        frame["total"]
        for frame in frames(client, "/v1/explain", {"activations": [], "stream": True})
    ] == [0]
    assert client.post("/describe", json={"activations": []}, timeout=5).status_code in (200, 422)


def test_base64_and_lists_mean_the_same_vectors(client, vectors):
    assert post(client, "explain", **encoded(vectors)) == post(
        client, "explain", activations=vectors.tolist()
    )


def test_what_cannot_be_extracted_is_flagged_and_unscored(client, vectors):
    (found,) = post(client, "explain", activations=vectors[:1].tolist(), max_new_tokens=2)[
        "explanations"
    ]
    assert found["text"] is None
    assert found["flags"] == ["extraction failed"]
    assert found["fve"] is found["cosine"] is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"text": TEXT, "activations": [[1.0] * 32]}, "found both"),
        ({}, "text or messages"),
        ({"activations": "AAAA"}, "shape"),
        ({"activations": "AAAA", "shape": [1, 32]}, "128 bytes"),
        ({"activations": "?", "shape": [1, 32]}, "base64"),
        ({"text": TEXT, "positions": "7-"}, "cannot read positions"),
        ({"text": TEXT, "nla": "../other"}, "no such NLA"),
        ({"activations": [[1.0] * 32] * 64, "samples": 16}, "at most 512"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(client, body, said):
    answer = client.post("/v1/explain", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]


def test_unknown_fields_are_refused(client):
    answer = client.post("/v1/explain", json={"text": TEXT, "sampels": 3})
    assert answer.status_code == 422
    assert "sampels" in answer.text


def test_no_pattern_keeps_the_server_busy(client):
    body = {"text": "a" * 200 + "!", "tokens": "regex:(a|aa)+$"}
    started = time.monotonic()
    asked = threading.Thread(target=lambda: client.post("/v1/explain", json=body))
    asked.start()
    time.sleep(0.3)
    assert client.get("/healthz").status_code == 200
    assert time.monotonic() - started < 1.8
    asked.join()
    answer = client.post("/v1/explain", json=body)
    assert answer.status_code == 400
    assert "takes too long" in answer.text
    assert time.monotonic() - started < 30


# ---- rollouts, reconstruct, score, activations


def test_greedy_rollouts_are_those_of_the_local_engine(client, nla, vectors):
    mixed = torch.cat([vectors, vectors.flip(0) * 2 + 0.5, vectors[:2] - vectors[2:]])
    answer = post(
        client,
        "rollouts",
        **encoded(mixed),
        temperature=0.0,
        max_new_tokens=30,
        seeds=list(range(len(mixed))),
        num_samples=1,
    )
    local = LocalEngine(nla.av).generate(mixed, temperature=0.0, max_new_tokens=30, seed=0)
    assert [(tuple(r["token_ids"]), r["text"], r["finished"]) for r in answer["rollouts"]] == [
        (r.token_ids, r.text, r.finished) for r in local
    ]


def test_more_tokens_than_the_server_writes_are_refused_to_engines(client, vectors):
    answer = client.post(
        "/v1/rollouts", json={**encoded(vectors), "seeds": [0] * 4, "max_new_tokens": 5000}
    )
    assert answer.status_code == 422
    assert "4096" in answer.text


def test_reconstruct_gives_the_ars_vectors(client, nla):
    answer = post(client, "reconstruct", explanations=["it rains", SAYING])
    found = np.frombuffer(base64.b64decode(answer["activations"]), "<f4").reshape(answer["shape"])
    np.testing.assert_allclose(found, nla.reconstruct(["it rains", SAYING]).numpy(), atol=1e-5)


def test_scores_are_those_of_the_local_nla(client, nla, vectors):
    texts = ["it rains", SAYING, "a", "b"]
    answer = post(client, "score", explanations=texts, **encoded(vectors))
    local = nla.score(texts, vectors)
    assert [s["fve"] for s in answer["scores"]] == pytest.approx([s.fve for s in local], abs=1e-5)
    assert [s["direction_mse"] for s in answer["scores"]] == pytest.approx(
        [s.direction_mse for s in local], abs=1e-5
    )
    at_token = post(client, "score", explanations=["it rains"], text=TEXT, position=4)["scores"][0]
    (local_at,) = nla.score(["it rains"], nla.activations(TEXT)[4])
    assert at_token["cosine"] == pytest.approx(local_at.cosine, abs=1e-4)
    assert at_token["percentile"] is None


def test_percentile_and_baseline_come_from_what_the_checkpoint_records(nla_folder, vectors):
    own = NLA(nla_folder)
    own.recorded = own.recorded.model_copy(update={"mean_direction": vectors[0].tolist()})
    own.evaluation = {"heldout_errors": [0.0, 1.0, 3.9, 4.0]}
    with serving(own) as client:
        (score,) = post(
            client, "score", explanations=["it rains"], activations=vectors[:1].tolist()
        )["scores"]
        assert score["percentile"] == 50.0
        (found,) = post(client, "explain", activations=vectors[:1].tolist())["explanations"]
        assert found["baseline"] == pytest.approx(1.0, abs=1e-5)
        controls = post(client, "trust", text=TEXT)["controls"]
        assert controls[0]["name"] == "mean direction"
        assert controls[0]["fve"] is not None


def test_activations_are_exact(client, nla):
    answer = post(client, "activations", text=TEXT, positions=[-1, 2])
    found = np.frombuffer(base64.b64decode(answer["activations"]), "<f4").reshape(answer["shape"])
    np.testing.assert_allclose(found, nla.activations(TEXT)[[16, 2]].numpy(), atol=1e-5)


# ---- trust


def test_trust_prefixes_end_in_the_whole_and_lost_shares_are_differences(client, nla):
    answer = post(
        client, "trust", text=TEXT, position=5, explanation=SAYING, samples=3, neighbours=1
    )
    vector = nla.activations(TEXT)[5]
    lines = SAYING.split("\n")

    def fve(text):
        return nla.score([text], vector)[0].fve

    assert answer["fve"] == pytest.approx(fve(SAYING), abs=1e-4)
    assert [c["text"] for c in answer["claims"]] == lines
    assert answer["claims"][0]["prefix_fve"] == pytest.approx(fve(lines[0]), abs=1e-4)
    assert answer["claims"][-1]["prefix_fve"] == pytest.approx(answer["fve"], abs=1e-4)
    assert answer["claims"][0]["fve_lost"] == pytest.approx(fve(SAYING) - fve(lines[1]), abs=1e-4)
    controls = {c["name"]: c["fve"] for c in answer["controls"]}
    assert controls["empty text"] == pytest.approx(fve(""), abs=1e-4)
    assert controls["mean direction"] is None
    assert set(controls) == {
        "mean direction",
        "empty text",
        "shuffled words",
        "texts of other tokens",
    }
    assert [n["position"] for n in answer["neighbours"]] == [4, 6]
    assert len(answer["samples"]) == 3
    assert 0 <= answer["agreement"] <= 1


def test_agreement_is_the_share_of_words_in_common():
    assert agreement(["a b", "a b"]) == 1
    assert agreement(["a b c", "a d e"]) == pytest.approx(1 / 5)
    assert agreement(["a b"]) is None
    assert share_making("the mood is calm", ["The mood is calm.\nit rains", "it snows"]) == 0.5
    assert share_making("x", []) is None


# ---- steer, compare


def test_steering_continues_as_the_local_nla(client, nla):
    answer = post(
        client,
        "steer",
        text=TEXT,
        positions=[-1],
        original="it rains",
        edit=["rains", "snows"],
        alphas=[1.0, 3.0],
        seed=4,
    )
    local = nla.steer(
        TEXT,
        positions=-1,
        original="it rains",
        edit=("rains", "snows"),
        alphas=(1.0, 3.0),
        seed=4,
    )
    mine = [(c["edit"], c["alpha"], c["text"]) for c in answer["continuations"]]
    assert mine == [(c.edit, c.alpha, c.text) for c in local.continuations]
    assert {c["alpha"] for c in answer["continuations"] if c["edit"] == "unrelated"} <= {1.0, 3.0}


def test_several_tokens_move_together_and_probabilities_are_those_of_the_next_token(client, nla):
    body = {
        "text": TEXT,
        "positions": [3, -1],
        "original": "it rains",
        "edited": "the gulls sleep",
        "alphas": [4.0],
    }
    answer = post(client, "steer", **body, unrelated=["a", "b"], top_tokens=3)
    assert answer["positions"] == [3, 16]
    (next_tokens,) = answer["next"]
    ids = nla.tokens(TEXT).token_ids
    before = nla.target.model(torch.tensor([ids])).logits[0, -1].softmax(dim=-1)
    for token in next_tokens["tokens"]:
        assert token["before"] == pytest.approx(float(before[token["token_id"]]), abs=1e-4)
    first = {c["edit"]: c["text"] for c in answer["continuations"]}
    likeliest = max(next_tokens["tokens"], key=lambda t: t["after"])["token"]
    assert first["edit"].startswith(likeliest)
    (alone,) = nla.steer(
        TEXT, original="it rains", edited="the gulls sleep", alphas=(4.0,), top_tokens=50
    ).next
    of_one = {t.token_id: t.after for t in alone.tokens}
    together = {t["token_id"]: t["after"] for t in next_tokens["tokens"]}
    assert together.keys() & of_one.keys()
    assert max(abs(together[i] - of_one[i]) for i in together.keys() & of_one.keys()) > 1e-4


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"original": "it rains", "edited": "it rains"}, "no direction"),
        ({"original": "it rains", "edit": ["snow", "x"]}, "does not hold"),
        ({"original": "it rains"}, "which edit"),
        ({"original": "it rains", "edited": "a", "positions": [99]}, "no such token"),
    ],
)
def test_an_edit_that_cannot_be_made_is_refused(client, fields, said):
    answer = client.post("/v1/steer", json={"text": TEXT, **fields})
    assert answer.status_code == 400
    assert said in answer.json()["detail"]


def test_compare_explains_the_difference_and_both_sides(client, nla):
    answer = post(
        client, "compare", sides=[{"text": TEXT, "position": 2}, {"text": TEXT, "position": 9}]
    )
    activations = nla.activations(TEXT)
    difference = activations[2] - activations[9]
    assert answer["norm"] == pytest.approx(float(difference.norm()), rel=1e-4)
    similarity = torch.nn.functional.cosine_similarity(activations[2], activations[9], dim=0)
    assert answer["similarity"] == pytest.approx(float(similarity), abs=1e-4)
    assert answer["text"] == nla.explain(difference)[0].text
    assert [s["text"] for s in answer["sides"]] == [
        nla.explain(TEXT, positions=p)[0].text for p in (2, 9)
    ]


def test_a_thing_compared_with_itself_has_no_difference_to_explain(client, vectors):
    side = {"activation": vectors[0].tolist()}
    answer = post(client, "compare", sides=[side, side])
    assert answer["text"] is None
    assert answer["norm"] == 0
    assert answer["similarity"] == pytest.approx(1, abs=1e-5)


# ---- vectors, runs, nlas


def uploads(vectors, tmp_path, tokenizer):
    from tiny_nla import write_rows

    buffer = io.BytesIO()
    np.save(buffer, vectors.numpy())
    yield buffer.getvalue()
    yield safetensors_bytes({"activations": vectors})
    yield write_rows(tmp_path / "rows.parquet", tokenizer, vectors.numpy()).read_bytes()


def upload(client, data):
    return client.post(
        "/v1/vectors?nla=tiny", content=data, headers={"Content-Type": "application/octet-stream"}
    )


def test_vectors_of_every_kind_of_file_come_back(client, vectors, tmp_path, lab_tokenizer):
    for data in uploads(vectors, tmp_path, lab_tokenizer):
        answer = upload(client, data)
        assert answer.status_code == 200, answer.text
        np.testing.assert_allclose(answer.json()["vectors"], vectors.numpy(), rtol=1e-6)
        assert answer.json()["num_rows"] == 4


def test_an_upload_is_never_unpickled_and_names_no_path(client, tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for data in (
        buffer.getvalue(),
        b"PAR1 and nothing",
        b"\x93NUMPY",
        b"hello",
        b"",
        b"x" * 8 + b"{broken",
    ):
        answer = upload(client, data)
        assert answer.status_code == 400, data
        assert "/tmp" not in answer.text
        assert "gloss-upload" not in answer.text


def test_vectors_of_another_width_are_refused(client):
    answer = upload(client, safetensors_bytes({"activations": torch.ones(2, 7)}))
    assert answer.status_code == 400
    assert "expected 32, found 7" in answer.text


def test_texts_whose_truth_is_known_are_looked_up_once(nla):
    class Known:
        asked = 0

        def texts(self, _nla):
            time.sleep(0.2)
            self.asked += 1
            return {"lab-1": TEXT}

        def verdicts(self, text, end, explanation):
            return [JudgedClaim("word", text[:end], 0, 1, "right")] if text == TEXT else None

    known = Known()
    with serving(nla, known_truth=known) as client:
        threads = [
            threading.Thread(target=lambda: client.get("/v1/examples?nla=tiny")) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.get("/v1/examples").json() == {
            "examples": [{"doc_id": "lab-1", "text": TEXT}]
        }
        assert known.asked == 1
        asked = {"text": TEXT, "position": 0, "explanation": "a"}
        assert post(client, "trust", **asked)["truth"] == [
            {"kind": "word", "value": "Leo", "verdict": "right"}
        ]
        assert post(client, "trust", **{**asked, "text": "a"})["truth"] is None


def test_runs_are_listed_and_read_while_they_are_written(nla, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    rows = [{"stage": "joint", "step": s, "fve_sampled": 0.1 * s} for s in range(3)]
    (tmp_path / "a" / "b" / "metrics.jsonl").write_text(
        "\n".join(map(json.dumps, rows)) + '\n{"stage": "jo'
    )
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "results.json").write_text(json.dumps({"fve": {"rl": 0.9}}))
    (tmp_path / "done" / "config.json").write_text(json.dumps({"name": "smoke"}))
    (tmp_path / "secret.txt").write_text("x")
    with serving(nla, runs=tmp_path) as client:
        found = {run["id"]: run for run in client.get("/v1/runs").json()["runs"]}
        assert set(found) == {"a/b", "done"}
        assert (found["a/b"]["state"], found["done"]["state"]) == ("unfinished", "finished")
        assert (found["done"]["fve"], found["done"]["preset"]) == (0.9, "smoke")
        run = client.get("/v1/runs/a%2Fb").json()
        assert (run["metrics"], run["results"]) == (rows, None)
        for wrong in ("..", "..%2F..%2Fetc", "%2Fetc%2Fpasswd", "secret.txt", "a"):
            answer = httpx2.get(f"{client.base_url}/v1/runs/{wrong}")
            assert answer.status_code in (307, 400, 404), wrong
            assert "root" not in answer.text


def test_without_a_folder_of_runs_there_are_none(client):
    assert client.get("/v1/runs").json() == {"runs": []}
    assert client.get("/v1/runs/x").status_code == 400


def test_several_nlas_are_served_at_once_and_named(nla, nla_folder, tmp_path, vectors):
    halved = NLA(av=nla_folder / "av")
    halved.target = nla.target
    with serving({"whole": nla, "av-only": halved}) as client:
        infos = client.get("/v1/nlas").json()["nlas"]
        assert [(i["name"], i["has_ar"]) for i in infos] == [("whole", True), ("av-only", False)]
        assert infos[0]["max_new_tokens"] == 40
        (found,) = post(client, "explain", nla="av-only", activations=vectors[:1].tolist())[
            "explanations"
        ]
        assert (found["text"], found["fve"]) == (SAYING, None)
        answer = client.post("/v1/reconstruct", json={"nla": "av-only", "explanations": ["a"]})
        assert answer.status_code == 503
        assert "the AR is not loaded" in answer.json()["detail"]


def test_the_target_of_a_named_nla_goes_on(nla, client):
    body = {"text": TEXT, "max_new_tokens": 6, "temperature": 0}
    theirs = {"text": TEXT, "completion_tokens": 6, "temperature": 0}
    whole = client.post("/completion", json=theirs).json()

    def as_theirs(answer):
        tokens = [{name: t[name] for name in whole["tokens"][0]} for t in answer["tokens"]]
        return {**answer, "tokens": tokens}

    assert as_theirs(post(client, "continue", **body)) == whole
    assert as_theirs(post(client, "continue", **theirs)) == whole
    with serving({"one": nla, "two": nla}) as several:
        assert as_theirs(post(several, "continue", nla="two", **body)) == whole
        assert (
            frames(several, "/v1/continue", {**body, "nla": "two", "stream": True})[-1]["text"]
            == whole["text"]
        )
        assert several.post("/v1/continue", json={**body, "nla": "three"}).status_code == 400


def test_the_descriptions_and_their_page_need_nothing_from_elsewhere(client):
    assert "/explain" in client.get("/v1/openapi.json").json()["paths"]
    page = client.get("/v1/docs").text
    assert "/v1/steer" in page
    assert "http" not in page.replace("<html", "")
    assert "<script" not in page


def test_texts_with_every_kind_of_character_are_read(client):
    generator = random.Random(1)
    odd = [
        "<script>alert(1)</script>",
        "مرحبا بالعالم",
        "e\u0301 🙂‍🔥",
        "\ud800",
        "\x00\x1b[2J",
        "".join(chr(generator.randrange(1, 0x3000)) for _ in range(60)),
    ]
    for text in odd:
        answer = client.post(
            "/v1/explain",
            content=json.dumps({"text": text, "positions": -1}),
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code in (200, 422), (text, answer.text)
