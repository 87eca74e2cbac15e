"""Chromium without a window, driven by chromedriver on this machine; it can reach this machine alone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chromium.remote_connection import ChromiumRemoteConnection
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

INSTALL = "apt install chromium chromium-driver (Debian), or Google Chrome with its chromedriver"
_STARTED = re.compile(r"started successfully on port (\d+)")
_STARTS = 5
PHONE, DESKTOP = 390, 1280


def _program(*names: str) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    assert found, f"none of {', '.join(names)} is installed, and the page is tested in it: {INSTALL}"
    return found


class Browser:
    """One tab.

    Args:
        driver: of selenium.
        url: of the server whose page is opened.
    """

    def __init__(self, driver: webdriver.Remote, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self, view: str = "compare", *, width: int = DESKTOP, language: str = "zh") -> None:
        """Load the page afresh at a view and wait until its example is computed; "" leaves the language to it."""
        self.resize(width)
        if not self.driver.current_url.startswith(self.url):
            self.driver.get(self.url)
        self.script("sessionStorage.clear(); localStorage.clear()")
        if language:
            self.script("localStorage.setItem('jinyi-language', arguments[0])", language)
        self.driver.get("about:blank")  # or a change of the view alone would not load it afresh
        self.driver.get(f"{self.url}/#{view}")
        self.settle()

    def resize(self, width: int) -> None:
        """Give the tab the width of a phone or of a desktop, in pixels."""
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width == PHONE}
        self.command("Emulation.setDeviceMetricsOverride", size)

    def command(self, name: str, options: dict[str, Any]) -> Any:
        """Send a command of the DevTools protocol."""
        return self.driver.execute("executeCdpCommand", {"cmd": name, "params": options})["value"]

    def settle(self) -> None:
        """Wait until what was asked of the server is shown, or that it could not be."""
        self.wait(
            lambda: self.script(
                "const open = document.querySelector('main > section:not([hidden])');"
                "const answer = open.querySelector('.answer');"
                "return Boolean(answer ? answer.ariaBusy === 'false' && answer.firstElementChild"
                " : open.querySelector('.notice'))"
            )
        )

    def wait(self, done: Callable[[], Any]) -> Any:
        """Wait for something to become true, and return it."""
        redrawn = (StaleElementReferenceException,)  # while it was looked at
        return WebDriverWait(self.driver, 60, 0.05, redrawn).until(lambda _: done())

    def script(self, source: str, *arguments: Any) -> Any:
        """Run JavaScript in the page and return its result."""
        return self.driver.execute_script(source, *arguments)

    def module(self, name: str, source: str, *arguments: Any) -> Any:
        """Return what an expression over `module`, a module of the page, and `given` comes to."""
        wrapped = (
            "const done = arguments[arguments.length - 1]; const given = arguments;"
            f"import('/page/{name}').then((module) => done({source}), (fault) => done(String(fault)));"
        )
        return self.driver.execute_async_script(wrapped, *arguments)

    def find(self, selector: str) -> WebElement:
        """Return the first element of the shown view, or of the page."""
        inside = self.driver.find_elements(By.CSS_SELECTOR, f"main > section:not([hidden]) {selector}")
        return inside[0] if inside else self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """Return all such elements of the shown view."""
        return self.driver.find_elements(By.CSS_SELECTOR, f"main > section:not([hidden]) {selector}")

    def texts(self, selector: str) -> list[str]:
        """Return what stands in such elements."""
        return [element.get_attribute("textContent") or "" for element in self.all(selector)]

    def type(self, selector: str, text: str) -> None:
        """Replace what stands in a field, by keys."""
        field = self.find(selector)
        field.clear()
        field.send_keys(text)

    def compute(self) -> None:
        """Press the button and wait for what comes."""
        self.find(".primary").click()
        self.settle()

    def set_slider(self, selector: str, value: float) -> None:
        """Move a slider; its keys move it a step at a time, which takes long."""
        self.script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
            self.find(selector),
            value,
        )

    def call(self, form: str) -> str:
        """Return the call by code that is shown for the result: "curl", "http" or "jinyi"."""
        self.find(f".calls [data-form={form}]").click()
        return self.find(".calls code").text

    def complaints(self) -> list[str]:
        """Return what the console said since it was last asked."""
        return [entry["message"] for entry in self._log("browser")]

    def requested(self) -> list[str]:
        """Return the addresses that were asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        sent = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in sent]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.driver.execute("getLog", {"type": kind})["value"]
        return entries

    def wider_than_screen(self) -> bool:
        """Return whether the page has to be moved sideways."""
        return bool(self.script("return document.documentElement.scrollWidth > window.innerWidth"))


@contextmanager
def browsing(url: str, *, languages: str = "zh-CN,zh") -> Iterator[Browser]:
    """Start Chromium for the page of a server.

    Args:
        url: of the server.
        languages: of the browser, the first one first.
    """
    options = webdriver.ChromeOptions()
    options.binary_location = _program("chromium", "chromium-browser", "google-chrome")
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-gpu"),
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"intl.accept_languages": languages})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with _driver() as port:
        connection = ChromiumRemoteConnection(f"http://127.0.0.1:{port}", "goog", "chrome")
        driver = webdriver.Remote(connection, options=options)
        try:
            yield Browser(driver, url)
        finally:
            driver.quit()


@contextmanager
def _driver() -> Iterator[str]:
    """Start chromedriver; yields its port.

    Selenium's own start of it asks for "localhost" by name, and may download one. It takes a free port, and ends if
    another process was faster to it: then it is started again.
    """
    program = _program("chromedriver", str(Path("/usr/lib/chromium/chromedriver")))
    said: list[str] = []
    for _ in range(_STARTS):
        process = subprocess.Popen(
            [program, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                said.append(line)
                if started := _STARTED.search(line):
                    yield started[1]
                    return
        finally:
            process.terminate()
            process.wait(20)
            process.stdout.close()
    raise AssertionError("chromedriver did not start: " + "".join(said))
