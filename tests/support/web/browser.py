"""A headless Chromium for tests and pictures of pages, driven by selenium through Debian's chromedriver.

Keys are real input events, and nothing waits for a page that loads unless it is asked to: what is typed while one page
gives way to the next arrives as it does from a person.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

#: Flags of a Chromium that shows no window, asks nobody anything and fetches nothing by itself.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

#: Windows' numbers of keys that have no character; Chromium acts on Tab and Enter only with them.
CODES = {"Backspace": 8, "Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}


class Programs(NamedTuple):
    """Paths of a Chromium and of the chromedriver that drives it."""

    chromium: str
    driver: str


def find_programs() -> Programs | None:
    """Find Chromium and chromedriver; None where one of them is not installed. Nothing is ever downloaded."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    return Programs(chromium, driver) if chromium and driver else None


class Browser:
    """One Chromium with a new profile, before the site at ``root``."""

    def __init__(self, programs: Programs, root: str) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        self.root = root
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        options = webdriver.ChromeOptions()
        options.binary_location = programs.chromium
        options.page_load_strategy = "none"
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for flag in (*FLAGS, f"--user-data-dir={self._profile.name}"):
            options.add_argument(flag)
        self.driver = webdriver.Chrome(options=options, service=Service(programs.driver))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the Chrome DevTools Protocol; its answer."""
        return self.driver.execute_cdp_cmd(method, parameters)

    def visit(self, path: str) -> None:
        """Open a page of the site, or a whole address, and wait until it is loaded."""
        self.call("Page.navigate", url=path if path.startswith("http") else self.root + path)
        self.wait("performance.getEntriesByType('navigation')[0].loadEventEnd > 0", 60)

    def evaluate(self, script: str) -> Any:
        """Run a script in the page; the value of its last expression, of a promise when it is kept."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(
                f"{script[:200]}: {answer['exceptionDetails'].get('exception', {}).get('description')}"
            )
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 15) -> None:
        """Wait until a script is true; while one page gives way to the next nothing is."""
        from selenium.common.exceptions import WebDriverException

        until = time.monotonic() + seconds
        while True:
            with contextlib.suppress(WebDriverException):  # the page was left while it was asked
                if self.evaluate(script):
                    return
            if time.monotonic() > until:
                raise AssertionError(f"never true: {script}\non {self.path}:\n{self.text[:2000]}")
            time.sleep(0.03)

    @property
    def path(self) -> str:
        return str(self.evaluate("location.pathname"))

    @property
    def text(self) -> str:
        """What the page says, as it is shown."""
        return str(self.evaluate("document.body.innerText"))

    def press(self, *keys: str) -> None:
        """Press keys one after the other, by their characters or names ("Tab", "ArrowLeft")."""
        # Selenium's own keys wait for a page that is on its way, and a person does not.
        for key in keys:
            more: dict[str, Any] = (
                {"text": key} if len(key) == 1 else {"windowsVirtualKeyCode": CODES[key], "code": key}
            )
            if key == "Enter":
                more["text"] = "\r"
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **more)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def choose_files(self, selector: str, files: Iterable[Path]) -> None:
        """Choose files of this machine, as in the window that the browser opens."""
        self.driver.find_element("css selector", selector).send_keys("\n".join(map(str, files)))

    def drop(self, selector: str, paths: Iterable[Path]) -> None:
        """Drag files and folders of this machine over an element and let them go there."""
        middle = self.evaluate(
            f"(() => {{ const zone = document.querySelector({selector!r}); zone.scrollIntoView({{ block: 'center' }});"
            " const box = zone.getBoundingClientRect();"
            " return { x: box.left + box.width / 2, y: box.top + box.height / 2 }; })()"
        )
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for step in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=step, data=data, **middle)

    def log(self) -> list[dict[str, Any]]:
        """What the browser logged since this was last asked: errors of scripts, of the policy and of the network."""
        return self.driver.get_log("browser")

    def close(self) -> None:
        self.driver.quit()
        self._profile.cleanup()
