"""What clients share: one batch, one forward of the same text, one row for the same request, and a
bounded memory.
"""

import threading

import pytest
import torch
from served_nla import TEXT, serving

from gloss.engines import LocalEngine
from gloss.nla import NLA
from gloss.serve.shared_work import WorkCache, num_bytes
from gloss.serve.telemetry import Telemetry


def metric(client, name, **labels):
    wanted = "".join(f'{key}="{value}"' for key, value in labels.items())
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(f"{name}{{{wanted}}} " if labels else f"{name} "):
            return float(line.split()[-1])
    return 0.0


def at_once(client, bodies, path="/v1/explain"):
    answers = [None] * len(bodies)

    def ask(i):
        answers[i] = client.post(path, json=bodies[i])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_requests_of_many_clients_run_in_one_batch_and_read_as_alone(nla):
    vectors = torch.randn(24, 32, generator=torch.Generator().manual_seed(2))
    alone = LocalEngine(nla.av).generate(vectors, temperature=0.0, max_new_tokens=40, seed=0)
    with serving(nla, max_batch_rows=7) as client:
        answers = at_once(client, [{"activations": [v]} for v in vectors.tolist()])
        assert [a.json()["explanations"][0]["response"] for a in answers] == [r.text for r in alone]
        written = sum(len(r.token_ids) for r in alone)
        assert metric(client, "gloss_tokens_total") == written
        assert metric(client, "gloss_explanations_total") == 24


def test_the_same_request_at_the_same_time_is_written_once(nla):
    with serving(nla) as client:
        answers = at_once(
            client,
            [{"text": TEXT, "positions": [4], "temperature": 1.0, "seed": 9, "samples": 2}] * 8,
        )
        assert len({a.text for a in answers}) == 1
        assert metric(client, "gloss_explanations_total") == 2


def test_a_repeated_request_is_not_worked_out_again(nla):
    with serving(nla) as client:
        body = {"text": TEXT, "samples": 2, "seed": 5}
        first = client.post("/v1/explain", json=body)
        written = metric(client, "gloss_tokens_total")
        assert client.post("/v1/explain", json=body).json() == first.json()
        assert metric(client, "gloss_tokens_total") == written
        assert metric(client, "gloss_shared_work_total", kind="reading") == 1
        for changed in ({"seed": 6}, {"temperature": 0.5}, {"max_new_tokens": 7}):
            before = metric(client, "gloss_tokens_total")
            client.post("/v1/explain", json={**body, **changed})
            assert metric(client, "gloss_tokens_total") > before, changed


def test_two_nlas_share_no_memory(nla, nla_folder, vectors):
    other = NLA(nla_folder)
    with torch.no_grad():
        other.av = LocalEngine(NLA(nla_folder).av).av
        other.av.model.get_input_embeddings().weight += 0.5
    with serving({"one": nla, "two": other}) as client:
        body = {"activations": vectors.tolist()}
        one, two = (
            client.post("/v1/explain", json={**body, "nla": name}).json() for name in ("one", "two")
        )
        assert [e["response"] for e in one["explanations"]] != [
            e["response"] for e in two["explanations"]
        ]


def test_without_a_memory_everything_still_works(nla):
    with serving(nla, cache_bytes=0) as client:
        body = {"text": TEXT, "positions": [3]}
        first, second = (
            client.post("/v1/explain", json=body).json()["explanations"][0] for _ in range(2)
        )
        assert first["response"] == second["response"]
        assert metric(client, "gloss_cache_bytes") == 0


def test_neuronpedias_sampled_explanations_differ_every_time(nla):
    with serving(nla) as client:
        vector = torch.ones(1, 32).tolist()
        found = {
            client.post("/describe", json={"activations": vector, "temperature": 3}).text
            for _ in range(4)
        }
        assert len(found) > 1


def of_bytes(count):
    """A vector whose entry in the cache takes so many bytes."""
    vector = torch.zeros(count - num_bytes(torch.empty(0)), dtype=torch.int8)
    assert num_bytes(vector) == count
    return vector


@pytest.mark.parametrize("kept", [10, 3])
def test_the_cache_drops_what_was_not_asked_for_longest(kept):
    cache = WorkCache(kept * 1000, Telemetry())
    vectors = [of_bytes(1000) for _ in range(100)]
    for i, vector in enumerate(vectors):
        cache.put(bytes([i]), vector)
        assert cache.get(b"\0") is vectors[0]
    assert cache.num_bytes <= kept * 1000
    assert len(cache) == kept
    assert cache.get(bytes([99])) is vectors[99]
    assert cache.get(bytes([50])) is None


def test_replacing_an_entry_counts_it_once_and_a_giant_is_not_kept():
    cache = WorkCache(1000, Telemetry())
    for size in (700, 500, 701):
        cache.put(b"a", of_bytes(size))
    assert cache.num_bytes == 701
    cache.put(b"b", of_bytes(5200))
    assert (len(cache), cache.get(b"b"), num_bytes(cache.get(b"a"))) == (1, None, 701)
