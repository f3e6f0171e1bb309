"""The page in a real browser, headless: what it shows, and what is done with the keyboard alone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("playwright", reason="playwright is not installed")
from serve_helpers import Client, golden_artifact, running
from serve_line_helpers import NAME, Scene, stopped, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


class Screen:
    """A page whose errors are kept."""

    def __init__(self, browser: Browser, client: Client, tab: str) -> None:
        self.errors: list[str] = []
        self.page: Page = browser.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: self.errors.append(f"dialog {dialog.message}"))
        self.page.on("console", self._console)
        self.page.goto(f"http://127.0.0.1:{client.port}/#{tab}")

    def _console(self, message: Any) -> None:
        answered = re.search(r"status of (401|404|503)", message.text)
        if message.type == "error" and not answered:
            self.errors.append(message.text)

    def close(self) -> None:
        """Nothing went wrong, such as something that the policy forbids."""
        assert self.errors == []
        self.page.close()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_streams_with_a_threshold_that_is_set_by_keyboard(scene: Scene, browser: Browser) -> None:
    from generalad.calibration import METHOD
    from generalad.spec import STATISTICS, Calibration, Reference

    quantiles = tuple(index / 100 for index in range(21))
    statistics: dict[str, tuple[float, ...]] = {name: (0.0, 255.0) for name in STATISTICS}
    reference = Reference(100, quantiles, statistics, (1, 1), (999, 999), (0.1, 10.0))
    calibration = Calibration(METHOD, images=120, target=0.01, reached=0.01, groups=100)
    golden_artifact(
        scene.folder / "washer" / "1.onnx", reference=reference, calibration=calibration
    )
    with scene.serve() as client:
        stopped(scene, client)
        screen = Screen(browser, client, "line")
        page = screen.page
        assert page.inner_text("article.stream h2").startswith(NAME)
        page.wait_for_selector(".picture img[src^='blob:']")
        assert page.locator(".plot rect.calibration").count() == 20
        assert "120 at calibration" in (page.locator(".plot svg").text_content() or "")
        assert "anomalous, score" in page.inner_text(".notices")
        slider = page.get_by_role("slider")
        assert slider.get_attribute("aria-label") == f"threshold of {NAME}"
        assert "about 0.99 % of good parts" in page.inner_text(".strip output")  # 1 / (100 + 1)
        slider.focus()
        for _ in range(3):
            page.keyboard.press("PageDown")
        wanted = float(slider.get_attribute("aria-valuenow") or "nan")
        assert wanted < 0.2
        share = 1 - wanted / 0.2
        rate = (max(0.0, min(1.0, share)) * 100 + 1) / 101 * 100
        said = re.search(r"about ([\d.]+) %", page.inner_text(".strip output"))
        assert said is not None
        assert float(said[1]) == pytest.approx(rate, rel=0.06)
        page.keyboard.press("Enter")
        stream = until(lambda: changed(client))
        assert stream["threshold"] == pytest.approx(wanted, abs=1e-5)
        screen.close()


def changed(client: Client) -> Any:
    stream = client.get("/v1/line").json["streams"][0]
    return stream if stream["threshold"] != stream["usual_threshold"] else None


def test_a_review_by_keyboard_alone(scene: Scene, browser: Browser) -> None:
    with scene.serve() as client:
        names = [entry["name"] for entry in stopped(scene, client, 3)]

        def verdicts() -> list[str | None]:
            entries = {entry["name"]: entry for entry in client.get("/v1/review").json["entries"]}
            return [entries[name]["verdict"] for name in names]

        screen = Screen(browser, client, "line")
        page = screen.page
        page.wait_for_selector("article.stream")
        page.fill("#by", "Shift A")
        page.keyboard.press("Tab")
        page.keyboard.press("2")
        page.wait_for_selector(".thumb[aria-current]")
        page.get_by_label("show what is anomalous (o)").focus()  # keys work there, too
        for key, expected in (
            ("g", ["good", None, None]),
            ("d", ["good", "defective", None]),
            ("u", ["good", None, None]),
            ("ArrowRight", ["good", None, None]),
            ("d", ["good", None, "defective"]),
            ("g", ["good", "good", "defective"]),
        ):
            page.wait_for_selector(".review[aria-busy=false]")
            page.keyboard.press(key)
            page.wait_for_selector(".review[aria-busy=false]")
            assert verdicts() == expected
        until(lambda: "Nothing is left" in page.inner_text(".left"))
        page.fill("#by", "Shift B")
        page.keyboard.press("Tab")
        page.keyboard.press("u")
        until(lambda: "nothing of yours" in page.inner_text("#toast"))
        page.set_viewport_size({"width": 800, "height": 1100})
        page.keyboard.press("4")
        page.wait_for_selector("td button")
        assert page.locator("tbody tr").count() == 5
        assert page.evaluate("document.documentElement.scrollWidth") == 800
        words = page.locator("tbody td:nth-child(4)").first.inner_text(), "Undo"
        assert words == ("verdict", page.locator("td button").first.inner_text())
        box = page.locator("td button").first.bounding_box()
        assert box is not None and box["height"] < 50  # one line
        assert {one["by"] for one in client.get("/v1/audit").json["entries"]} == {"Shift A"}
        screen.close()


def test_a_version_is_exchanged_and_what_fails_is_said(scene: Scene, browser: Browser) -> None:
    golden_artifact(scene.folder / "washer" / "0.onnx")
    golden_artifact(scene.folder / "washer" / "0-wrong.onnx", wrong=True)
    with scene.serve() as client:
        screen = Screen(browser, client, "models")
        page = screen.page
        page.get_by_role("button", name="Serve 0.onnx").click()
        page.get_by_role("button", name="Back to 1.onnx").wait_for()
        page.get_by_role("button", name="Serve 0-wrong.onnx").click()
        until(lambda: "0.onnx goes on" in page.inner_text("#toast"))
        assert client.get("/v1/models/washer").json["version"] == "0.onnx"
        screen.errors = [error for error in screen.errors if "422" not in error]
        screen.close()


def test_the_token_is_asked_for(
    tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "a-token-of-enough-letters"
    monkeypatch.setenv("GAD_TOKEN", token)
    artifact = golden_artifact(tmp_path / "model.onnx")
    with running(artifact, token=token, reference="${GAD_TOKEN}") as client:
        screen = Screen(browser, client, "models")
        page = screen.page
        for word in ("wrong", token):
            page.wait_for_selector("dialog[open]")
            page.fill("#token", word)
            page.keyboard.press("Enter")
            page.wait_for_timeout(50)
        page.wait_for_selector(".models article")
        assert page.inner_text(".models h2").startswith("model")
        page.keyboard.press("2")  # that no line runs is said once, and not with every look
        page.wait_for_selector(".empty")
        for _ in range(2):
            with page.expect_response("**/v1/review"):
                pass
        assert "no line runs here" in page.inner_text(".empty")
        assert not page.is_visible("#toast")
        screen.errors = [error for error in screen.errors if "404" not in error]
        screen.close()


def test_nothing_comes_from_elsewhere() -> None:
    folder = Path(__file__).parents[2] / "generalad" / "serve" / "static"
    for file in folder.iterdir():
        text = file.read_text(encoding="utf-8")
        addresses = set(re.findall(r"https?://[^\s\"'`]+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, file.name
        assert "innerHTML" not in text
        assert not re.search(r"\son\w+=|style=", text.replace("onclick:", "")), file.name
