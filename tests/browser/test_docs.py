"""The documentation in headless Chromium: it fits narrow and wide, in light and dark, and breaks no policy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import trio
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from meshnode.api.docs.book import GROUPS, HOME
from tests.browser.test_console import FLAGS
from tests.kit.api import running_api

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PATHS = ["/docs" if name == HOME else f"/docs/{name}" for names in GROUPS.values() for name in names]
WIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture
def browser() -> Iterator[Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with Chrome(options=options, service=Service(driver)) as browser:
        yield browser


@pytest.mark.parametrize("width", [1440, 400])
async def test_every_page_fits_and_says_nothing_to_the_console(browser: Chrome, width: int) -> None:
    def look(url: str) -> None:
        browser.set_window_size(width, 900)
        for path in PATHS:
            browser.get(f"{url}{path}")
            assert browser.execute_script(WIDE) == 0, f"{path} is too wide"
            assert browser.find_element(By.TAG_NAME, "h1").is_displayed()
        assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]

    async with running_api() as api:
        await trio.to_thread.run_sync(look, api.url)


async def test_it_is_dark_where_the_reader_wants_it_dark(browser: Chrome) -> None:
    def shade(url: str, scheme: str) -> int:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        browser.get(f"{url}/docs")
        colour = browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
        return sum(int(part) for part in colour.removeprefix("rgba(").removesuffix(")").split(",")[:3])

    async with running_api() as api:
        light = await trio.to_thread.run_sync(shade, api.url, "light")
        dark = await trio.to_thread.run_sync(shade, api.url, "dark")
    assert light > 600 > 200 > dark
