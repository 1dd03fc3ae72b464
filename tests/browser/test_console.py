"""The chat page in headless Chromium, against a real node with the real model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.kit.node import Node, running_node
from tests.kit.smollm2 import smollm2_path

pytestmark = [pytest.mark.browser, pytest.mark.model, pytest.mark.slow]

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-prefers-reduced-motion",
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    home = tmp_path_factory.mktemp("console") / "home"
    with running_node(home, "--model", str(smollm2_path())) as node:
        yield node


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--window-size=1100,800"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def page(browser: Chrome, node: Node) -> Chrome:
    browser.get(node.api)
    wait(browser).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#model option"))
    return browser


def wait(browser: Chrome, seconds: float = 60) -> WebDriverWait[Chrome]:
    return WebDriverWait(browser, seconds, poll_frequency=0.05)


def find(browser: Chrome, selector: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, selector)


def keep_picture(browser: Chrome, name: str) -> None:
    """Where MESHNODE_PICTURES names a folder, leave a picture there to look at."""
    if folder := os.environ.get("MESHNODE_PICTURES"):
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def set_option(browser: Chrome, name: str, value: str) -> None:
    browser.execute_script("document.getElementById('options').open = true")
    box = find(browser, f"#{name}")
    box.clear()
    box.send_keys(value)


def test_a_chat_by_keyboard_alone_streams_to_its_end(page: Chrome) -> None:
    set_option(page, "max_tokens", "24")
    focused = find(page, "#prompt")
    focused.send_keys("What is the capital of France?", Keys.ENTER)
    wait(page).until(lambda b: b.find_elements(By.CSS_SELECTOR, "article.assistant footer"))
    assert find(page, "article.assistant .body").text.strip()
    assert "tokens" in find(page, "article.assistant footer").text
    assert find(page, "#send").is_displayed()
    assert page.switch_to.active_element.get_attribute("id") == "prompt"
    keep_picture(page, "wide")


ENDLESS = """const real = window.fetch;
window.fetch = (url, options) => real(url, options && options.body
    ? {...options, body: JSON.stringify({...JSON.parse(options.body), ignore_eos: true})} : options);"""
"""The page's requests, whose answers then end only when somebody stops them."""


def test_stop_ends_the_answer_and_frees_the_slot(page: Chrome, node: Node) -> None:
    page.execute_script(ENDLESS)
    set_option(page, "max_tokens", "4000")
    find(page, "#prompt").send_keys("Count from one to ten thousand.", Keys.ENTER)
    wait(page).until(lambda b: find(b, "article.assistant .body").text.strip())
    find(page, "#stop").click()
    wait(page).until(lambda b: "stopped by you" in find(b, "article.assistant").text)
    wait(page).until(lambda _: node.status()["models"][0]["running"] == 0)


def test_markdown_is_shown_and_nothing_in_it_runs(page: Chrome) -> None:
    hostile = (
        "**bold** <img src=x onerror='window.hit=1'><script>window.hit=1</script>"
        "[link](javascript:window.hit=1) [fine](https://example.org)\n\n```py\nprint(1)\n```"
    )
    shown = page.execute_script(
        """const turn = document.createElement('div');
        const safe = {USE_PROFILES: {html: true}, FORBID_TAGS: ['img']};
        turn.innerHTML = DOMPurify.sanitize(marked.parse(arguments[0]), safe);
        document.body.append(turn); const html = turn.innerHTML; turn.remove(); return html;""",
        hostile,
    )
    assert "<strong>bold</strong>" in shown
    assert "<pre><code" in shown
    assert "javascript:" not in shown
    assert "onerror" not in shown
    assert page.execute_script("return window.hit") is None


def test_the_policy_forbids_inline_script_and_everything_foreign(page: Chrome) -> None:
    page.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.inline = 1'; document.body.append(s);"
    )
    assert page.execute_script("return window.inline") is None
    loaded = page.execute_script("return performance.getEntriesByType('resource').map((r) => new URL(r.name).origin)")
    assert set(loaded) <= {page.execute_script("return location.origin")}


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_narrow_screen_in_light_and_dark(page: Chrome, dark: bool) -> None:
    scheme = "dark" if dark else "light"
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": True},
    )
    find(page, "#prompt").send_keys("Name three colours.", Keys.ENTER)
    wait(page).until(lambda b: b.find_elements(By.CSS_SELECTOR, "article.assistant footer"))
    width = page.execute_script("return document.documentElement.scrollWidth")
    assert width <= 360
    background = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    red = int(background.split("(")[1].split(",")[0])
    assert (red < 100) is dark
    keep_picture(page, f"narrow-{scheme}")
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_node_that_went_away_is_said_plainly(page: Chrome) -> None:
    page.execute_script("window.fetch = () => Promise.reject(new TypeError('Failed to fetch'))")
    find(page, "#prompt").send_keys("Hello?", Keys.ENTER)
    wait(page).until(lambda b: b.find_elements(By.CSS_SELECTOR, "article.error"))
    assert "does not answer" in find(page, "article.error").text
    assert find(page, "article.error button").text == "Try again"
