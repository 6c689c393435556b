"""The page at / in headless Chromium, used as a person would use it.

Debian: apt-get install chromium fonts-noto-cjk. Another one is named by the variable CHROMIUM. Without any, these tests
are skipped. They stand apart from tests with an event loop, which Playwright's own loop would be in the way of.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from tests.service.conftest import Service


def chromium() -> str | None:
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        pytest.skip("no chromium, chromium-browser or google-chrome in PATH, and CHROMIUM names none")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(params=[375, 1280])
def width(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def page(browser: Browser, embedded: Service, width: int) -> Iterator[Page]:
    """The page in Chinese; nothing of its own may fail, and it may ask nobody but the service."""
    yield from opened(browser, embedded, width, "zh-CN")


@pytest.fixture
def english(browser: Browser, embedded: Service) -> Iterator[Page]:
    yield from opened(browser, embedded, 1280, "en-GB")


def opened(browser: Browser, service: Service, width: int, locale: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": width, "height": 720}, locale=locale)
    page = context.new_page()
    faults: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if "Content Security" in said.text else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(service.url)
    expect(page.locator("#model option")).to_have_count(1)
    yield page
    context.close()
    assert faults == []
    assert all(url.startswith(f"{service.url}/") for url in asked)


def test_a_text_is_classified_with_bars_and_timings(page: Page) -> None:
    page.get_by_label("文本", exact=True).fill("质量太差了，用了两天就坏了，非常失望。")
    page.get_by_role("button", name="分类", exact=True).click()
    rows = page.locator("#result .bar")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("negative")
    shares = [float(text.rstrip("%")) for text in page.locator("#result .share").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    track = rows.first.locator(".track").bounding_box()
    page.wait_for_function("() => document.querySelector('.track i').getAnimations().length === 0")
    filled = rows.first.locator(".track i").bounding_box()
    assert track is not None
    assert filled is not None
    assert filled["width"] / track["width"] == pytest.approx(shares[0] / 100, abs=0.02)
    for part in ("分词", "排队", "推理", "服务合计", "往返"):
        expect(page.locator("#timing")).to_contain_text(re.compile(rf"{part}\s*[\d.]+ ms"))


def test_masks_are_filled_in_place_and_alternatives_can_be_put_there(page: Page) -> None:
    page.get_by_role("tab", name="填空").click()
    page.get_by_role("button", name="中国经[MASK]发[MASK]很快。").click()
    sentence = page.locator("#result .sentence")
    first, second = sentence.locator(".mask").nth(0), sentence.locator(".mask").nth(1)
    expect(first).to_have_text("济")
    expect(first).to_have_attribute("aria-pressed", "true")
    second.click()
    expect(second).to_have_attribute("aria-pressed", "true")
    candidates = page.locator("#result button.bar")
    expect(candidates).to_have_count(5)
    other = candidates.nth(1).locator(".name").inner_text()
    candidates.nth(1).click()
    expect(sentence).to_have_text(f"中国经济发{other}很快。")
    expect(candidates.nth(1)).to_be_focused()


def test_everything_can_be_done_from_the_keyboard(english: Page) -> None:
    english.get_by_role("tab", name="Classify").focus()
    english.keyboard.press("ArrowRight")
    expect(english.get_by_role("tab", name="Fill mask")).to_be_focused()
    expect(english.get_by_role("tab", name="Fill mask")).to_have_attribute("aria-selected", "true")
    text = english.get_by_label("Text", exact=True)
    text.fill("他把钱存进了行。")
    text.focus()
    for _ in range(2):
        english.keyboard.press("ArrowLeft")
    english.get_by_role("button", name="Insert [MASK]").press("Enter")
    expect(text).to_be_focused()
    assert text.input_value() == "他把钱存进了[MASK]行。"
    english.keyboard.press("Control+Enter")
    expect(english.locator("#result .mask")).to_have_text("银")
    english.locator("#result button.bar").nth(2).press("Space")
    expect(english.locator("#result button.bar").nth(2)).to_have_attribute("aria-pressed", "true")
    english.locator("#result button.bar").nth(2).press("Shift+Tab")
    expect(english.locator("#result button.bar").nth(1)).to_be_focused()


def test_an_error_is_shown_as_its_sentence_and_goes_away(page: Page) -> None:
    page.get_by_label("文本", exact=True).fill("好" * 4000)
    page.get_by_role("button", name="分类", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("inputs[0] has 4002 tokens, more than 16 windows of 192 hold")
    expect(page.get_by_role("alert")).to_contain_text("422 · invalid_input")
    expect(page.locator("#result")).to_be_hidden()
    page.locator("#examples button").first.click()
    expect(page.locator("#result .bar")).to_have_count(2)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_text_is_shown_as_text_whatever_stands_in_it(page: Page) -> None:
    page.get_by_role("tab", name="填空").click()
    page.get_by_label("文本", exact=True).fill("<img src=x onerror=alert(1)>[MASK]</p><script>")
    page.get_by_role("button", name="填空", exact=True).click()
    expect(page.locator("#result .sentence")).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("#result img, #result script").count() == 0


def test_a_second_text_is_sent_only_while_it_is_open(english: Page) -> None:
    english.locator("#second summary").click()
    english.get_by_label("Second text", exact=True).fill("很好")
    for opened_ in (True, False):
        with english.expect_request("**/classify") as asked:
            english.get_by_role("button", name="Classify", exact=True).click()
        assert ("text_pair" in json.loads(asked.value.post_data or "")) is opened_
        expect(english.locator("#result .bar")).to_have_count(2)
        english.locator("#second summary").click()


def test_the_language_is_the_browsers_and_can_be_changed_for_good(english: Page) -> None:
    english.locator("#examples button").first.click()
    expect(english.locator("#timing")).to_contain_text("round trip")
    english.get_by_role("button", name="中文").click()
    expect(english.locator("html")).to_have_attribute("lang", "zh")
    expect(english.locator("#timing")).to_contain_text("往返")
    expect(english.locator("#result .bar")).to_have_count(2)
    english.reload()
    expect(english.get_by_role("tab", name="文本分类")).to_be_visible()
    assert not english.locator("body").filter(has_text="undefined").count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window_and_every_control_can_be_hit_with_a_finger(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.get_by_role("tab", name="填空").click()
    page.get_by_label("文本", exact=True).fill("长" * 60 + "[MASK]" + "a" * 80)
    page.get_by_role("button", name="填空", exact=True).click()
    expect(page.locator("#result button.bar")).to_have_count(5)
    page.locator("#exchange summary").click()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for control in page.locator("button:visible, select:visible, textarea:visible").all():
        box = control.bounding_box()
        assert box is not None
        assert box["height"] >= 30
    light = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(244, 245, 248)"
    assert light is (scheme == "light")


def test_a_service_that_is_gone_is_said_to_be_gone(page: Page) -> None:
    page.route("**/classify", lambda route: route.abort())
    page.get_by_role("button", name="分类", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("连不上服务")


def test_a_service_that_wants_a_key_is_given_one(browser: Browser, embedded: Service) -> None:
    with browser.new_context(locale="en-GB") as context:
        page = context.new_page()

        def guard(route: Route) -> None:
            if route.request.headers.get("authorization") == "Bearer secret":
                route.continue_()
            else:
                problem = {"status": 401, "code": "unauthorized", "detail": "this service needs an API key."}
                route.fulfill(status=401, json=problem)

        page.route(re.compile("/(models|classify)$"), guard)
        page.goto(embedded.url)
        expect(page.get_by_role("alert")).to_contain_text("this service needs an API key.")
        page.get_by_label("API key").fill("secret")
        page.get_by_label("API key").press("Tab")
        expect(page.locator("#model")).to_have_value("sentiment")
        page.get_by_role("button", name="Classify", exact=True).click()
        expect(page.locator("#result .bar")).to_have_count(2)
