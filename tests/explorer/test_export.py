"""What the page hands out: JSON, one offline HTML page, Neuronpedia's cache JSON."""

import json

import pytest

from gloss.reading.neuronpedia import from_neuronpedia, to_neuronpedia

SETUP = """
  const { ReadText, blank } = await import('http://gloss.test/js/reading.js');
  const nla = {name: 'n<b>', target: 'lab', layer: 2, d_model: 4};
  const tokens = given.tokens.map((token, position) => (
    {position, token, token_id: position + 7, fragment_index: 0, fragment_count: 1}));
  const text = new ReadText(nla, {text: given.tokens.join('')}, tokens);
  const readings = given.readings.map((one) => (
    {...blank(one.position, given.tokens[one.position]), done: true, ...one}));
"""
HOSTILE, QUOTED = "<img src=x onerror=alert(2)>", 'The hero is "Sam".'
GIVEN = {
    "tokens": ["<script>alert(1)</script>", " &amp;\n", "قط", "🦊"],
    "readings": [
        {
            "position": 0,
            "text": f"{HOSTILE}\n{QUOTED}",
            "fve": 0.81,
            "cosine": 0.9,
            "mse": 0.2,
            "norm": 23.25,
            "flags": ["early position"],
            "lines": [
                {"text": HOSTILE, "adds": 0.5, "loses": 0.1},
                {"text": QUOTED, "adds": 0.31, "loses": 0.3},
            ],
        },
        {"position": 2, "text": "تعليق", "fve": -0.2, "cosine": 0.4, "mse": 1.2, "norm": 20},
    ],
}


def in_page(modules, body):
    return modules.page.evaluate(f"async (given) => {{ {SETUP} {body} }}", GIVEN)


@pytest.fixture
def exported(modules):
    return in_page(
        modules, "return (await import('http://gloss.test/js/export.js')).asPage(text, readings);"
    )


def test_the_offline_page_opens_from_disk_without_script_or_request(browser, exported, tmp_path):
    file = tmp_path / "shared.html"
    file.write_text(exported, encoding="utf-8")
    context = browser.new_context(offline=True)
    page = context.new_page()
    requests, dialogs = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("dialog", lambda dialog: dialogs.append(dialog) or dialog.dismiss())
    page.goto(file.as_uri())
    assert requests == [file.as_uri()]
    assert not dialogs
    assert page.locator("script, img, iframe, link").count() == 0
    assert "<script>alert(1)</script>" in page.locator(".text").inner_text()
    assert "<img src=x onerror=alert(2)>" in page.locator("#p0").inner_text()
    assert "FVE 0.81" in page.locator("#p0").inner_text()
    assert page.locator("#p0 td.v").first.inner_text() == "+0.50"
    page.locator(".text a").last.click()
    assert page.url.endswith("#p2")
    assert "تعليق" in page.locator("article:target").inner_text()
    context.close()


def test_json_holds_every_number(modules):
    body = "return (await import('http://gloss.test/js/export.js')).asJson(text, readings);"
    kept = json.loads(in_page(modules, body))
    assert kept["tokens"] == GIVEN["tokens"]
    for found, given in zip(kept["explanations"], GIVEN["readings"], strict=True):
        assert {key: found[key] for key in given if key != "mse"} == {
            key: value for key, value in given.items() if key != "mse"
        }


def test_neuronpedias_cache_json_comes_back_as_it_went(modules):
    body = """
      const m = await import('http://gloss.test/js/neuronpedia.js');
      const json = m.toNeuronpedia(text, readings), back = m.fromNeuronpedia(nla, json);
      return {json, again: m.toNeuronpedia(back, [...back.readings.value.values()]), token: back.tokens[2].token};
    """
    result = in_page(modules, body)
    document, again = json.loads(result["json"]), json.loads(result["again"])
    inside = json.loads(document["resultJson"])
    assert document["sortedPositions"] == [0, 2]
    assert list(inside["results"][0]) == [
        "token",
        "token_id",
        "position",
        "l2_norm",
        "description",
        "mse",
        "cosine_similarity",
        "generated",
        "fragment_index",
        "fragment_count",
        "role",
        "section",
        "channel",
        "message_index",
    ]
    assert (inside["layer_index"], inside["prompt_length"]) == (2, 4)
    assert again == document
    assert result["token"] == "قط"
    read = from_neuronpedia(document, doc_id="shared")
    assert [(row["position"], row["text"], row["direction_mse"]) for row in read.to_dicts()] == [
        (one["position"], one["text"], one["mse"]) for one in GIVEN["readings"]
    ]
    assert to_neuronpedia(read) == document


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("{}", "not a cache document"),
        (
            json.dumps({"tokens": ["a"], "resultJson": {"results": [{"position": 9}]}}),
            "token 9; the text has 1",
        ),
    ],
)
def test_a_cache_file_that_cannot_be_read_says_why(modules, content, said):
    body = f"""
      const m = await import('http://gloss.test/js/neuronpedia.js');
      try {{ m.fromNeuronpedia(nla, {json.dumps(content)}); }} catch (error) {{ return error.message; }}
    """
    assert said in in_page(modules, body)
