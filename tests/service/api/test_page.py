"""The page at /: what is served, without a browser (see test_page_in_browser.py)."""

import re
from pathlib import Path

import pytest
from fastapi import FastAPI

from service.api.page import FOLDER
from tests.service.stand_in import application, client_of

FILES = sorted(path.name for path in FOLDER.iterdir() if path.is_file() and path.suffix != ".py")


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return application(tmp_path, {"reviews": "classify"})[0]


async def test_the_page_and_its_files_come_with_a_strict_policy(app: FastAPI) -> None:
    async with client_of(app) as client:
        for path in ["/", *(f"/page/{name}" for name in FILES)]:
            answer = await client.get(path)
            assert answer.status_code == 200, path
            policy = dict(each.strip().split(" ", 1) for each in answer.headers["content-security-policy"].split(";"))
            assert policy["default-src"] == "'none'"
            assert set(policy.values()) <= {"'none'", "'self'"}
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert (await client.get("/")).headers["content-type"] == "text/html; charset=utf-8"
        assert (await client.get("/page/page.js")).headers["content-type"] == "text/javascript; charset=utf-8"


async def test_what_is_not_of_the_page_is_not_served(app: FastAPI) -> None:
    async with client_of(app) as client:
        for path in ("/page/app.py", "/page/..%2fapp.py", "/page/%2e%2e/app.py", "/page/", "/page/%2fetc%2fpasswd"):
            assert (await client.get(path)).status_code == 404, path


async def test_the_page_can_be_turned_off(tmp_path: Path) -> None:
    app, _ = application(tmp_path, {"reviews": "classify"}, page=False)
    async with client_of(app) as client:
        assert (await client.get("/")).json()["code"] == "not_found"
        assert (await client.get("/page/page.js")).status_code == 404
        assert (await client.get("/health/live")).status_code == 200


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_fetched_from_elsewhere(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//[a-z0-9-]+\.|url\(|@import", text)


def test_the_html_has_no_script_and_no_style_of_its_own_for_the_policy_would_refuse_them() -> None:
    html = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", html)


def test_every_word_is_there_in_both_languages() -> None:
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    html = (FOLDER / "index.html").read_text(encoding="utf-8")
    chinese, english = (
        set(re.findall(r"^    (\w+):", script.split(f"  {language}: {{\n", 1)[1].split("\n  },", 1)[0], re.M))
        for language in ("zh", "en")
    )
    assert chinese == english
    assert set(re.findall(r'data-text="(\w+)"', html)) <= english


async def test_the_page_is_no_part_of_the_described_api_and_its_links_lead_somewhere(app: FastAPI) -> None:
    html = (FOLDER / "index.html").read_text(encoding="utf-8")
    async with client_of(app) as client:
        assert not {"/", "/page/{name}"} & set((await client.get("/openapi.json")).json()["paths"])
        for link in re.findall(r'href="([^"]+)"', html):
            assert (await client.get(f"/{link}")).status_code == 200, link
