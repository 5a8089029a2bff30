"""How much comes over the wire before somebody can write the text to be read."""

from urllib.parse import urlsplit

MOST_KILOBYTES = 80


def received(tab):
    """Notes what the browser receives: bytes on the wire, heads of answers included, by path."""
    wire, sizes, paths = tab.context.new_cdp_session(tab), {}, {}
    wire.send("Network.enable")
    wire.on("Network.requestWillBeSent", lambda event: paths.update({event["requestId"]: event}))

    def done(event):
        path = urlsplit(paths[event["requestId"]]["request"]["url"]).path
        sizes[path] = sizes.get(path, 0) + event["encodedDataLength"]

    wire.on("Network.loadingFinished", done)
    return sizes


def test_the_first_screen_is_light_and_loads_only_what_it_shows(tab, server):
    sizes = received(tab)
    tab.goto(server.page)
    tab.get_by_label("Text to read").wait_for()
    tab.wait_for_load_state("networkidle")
    assert {"/explore/", "/explore/js/views/read.js", "/v1/nlas"} <= sizes.keys()
    assert not [path for path in sizes if "uPlot" in path or "search-worker" in path]
    assert sum(sizes.values()) <= MOST_KILOBYTES * 1000, sizes


def test_charts_come_with_the_first_one_that_is_drawn(tab, server):
    sizes = received(tab)
    tab.goto(f"{server.page}#/runs")
    tab.locator(".uplot canvas").first.wait_for()
    assert sizes["/explore/vendor/uPlot.iife.min.js"] < 30_000
    assert "/explore/vendor/uPlot.css" in sizes
