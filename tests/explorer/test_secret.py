"""The page of a server that others can reach: its files come to anybody, everything else waits for
the secret.
"""

import httpx2
import pytest
from served_nla import running
from speaking_nla import save_speaking_nla

from gloss.explorer import PAGE_PATH, mount_page
from gloss.nla import NLA
from gloss.serve.limits import Limits
from gloss.serve.service import open_service

SECRET = "sesame, open"


@pytest.fixture(scope="module")
def address(tmp_path_factory, lab_tokenizer):
    nla = NLA(save_speaking_nla(tmp_path_factory.mktemp("locked"), lab_tokenizer))
    service = open_service({"one": nla}, limits=Limits(grace_s=2.0))
    with running(service, secret=SECRET, open_paths=[f"{PAGE_PATH}/"], add_page=mount_page) as (
        address,
        _server,
    ):
        yield address


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"{PAGE_PATH}/", 200),
        ("GET", f"{PAGE_PATH}/js/main.js", 200),
        ("POST", f"{PAGE_PATH}/parquet", 401),
        ("GET", "/v1/nlas", 401),
        ("GET", f"{PAGE_PATH}/../v1/nlas", 401),
        ("GET", f"{PAGE_PATH}/%2e%2e/v1/nlas", 404),
        ("GET", f"{PAGE_PATH}x", 401),
    ],
)
def test_only_the_pages_files_need_no_secret(address, method, path, status):
    assert httpx2.request(method, address + path).status_code == status


def test_the_page_asks_for_the_secret_and_goes_on_with_it(tab, address):
    tab.goto(f"{address}{PAGE_PATH}/#/read?t=Sam+sat+by+the+well&sel=3")
    box = tab.get_by_label("This server asks for its secret.")
    box.fill("open, barley")
    tab.get_by_role("button", name="Go on").click()
    tab.get_by_label("That was not the server's secret.").fill(SECRET)
    tab.get_by_role("button", name="Go on").click()
    tab.locator(".card > .reading").wait_for()
    assert tab.get_by_role("button", name="Go on").count() == 0
    assert SECRET not in tab.url
    tab.reload()
    tab.locator(".card > .reading").wait_for()
