"""The page in Chromium: languages, keyboard, dark mode, what it says when the server refuses, and its own algebra."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from browser import DESKTOP, PHONE, Browser, browsing
from serve_process import Server, serving

pytestmark = pytest.mark.slow

VIEWS = ["compare", "rank", "topics", "map"]
RIGHT, ENTER = "\ue014", "\ue007"


@pytest.fixture(scope="module")
def server(folders: dict[str, Path]) -> Iterator[Server]:
    small = {name: folders[name] for name in ("embed", "pair", "classes")}
    with serving({**small, "topic": "jinyi-tiny-topic"}) as running:  # the small one knows too few words
        yield running


@pytest.fixture(scope="module")
def shared(server: Server) -> Iterator[Browser]:
    with browsing(server.url, languages="en-US,en") as browser:
        yield browser


@pytest.fixture
def page(shared: Browser) -> Iterator[Browser]:
    """The browser; afterwards its console must be empty."""
    shared.complaints()
    yield shared
    assert shared.complaints() == []


def test_the_browsers_language_comes_first_and_a_choice_is_remembered(page: Browser) -> None:
    page.open("compare", language="")
    assert page.script("return document.documentElement.lang") == "en"
    assert page.find("#tab-rank").text == "Rank"
    score = page.find("#score").text
    page.find("#language").click()
    assert page.find("#tab-rank").text == "相似排序" and page.find("#score").text == score
    page.driver.refresh()
    page.settle()
    assert page.script("return document.documentElement.lang") == "zh-CN"
    assert page.find("#tab-rank").text == "相似排序"


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_view_speaks_one_language(page: Browser, language: str) -> None:
    for view in VIEWS:
        page.open(view, language=language)
        words = "return [...document.querySelectorAll('label, h2, button, .detail, .label, .cost')]"
        shown = page.script(f"{words}.filter((node) => node.offsetParent).map((node) => node.innerText)")
        own = [
            text
            for text in shown
            if text.strip() and not re.fullmatch(r"[\w ·-]+|中文|English", text, re.ASCII)
        ]
        # Sentences of users, prompts and labels are Chinese in both; what the page itself says is not.
        said = [text for text in own if "{}" not in text]
        assert all("{" not in text for text in said)
        if language == "en":
            mixed = [text for text in said if re.search(r"[\u4e00-\u9fff]", text) and text != "中文"]
            rows = page.texts(".row") + page.texts("summary")
            assert [text for text in mixed if text.replace("\n", "") not in rows] == []


def test_tabs_by_keyboard_and_by_address(page: Browser) -> None:
    page.open("compare")
    page.find("#tab-compare").send_keys(RIGHT)
    page.settle()
    assert page.script("return location.hash") == "#rank" and page.find("#rank-query").is_displayed()
    assert page.script("return document.activeElement.id") == "tab-rank"
    page.driver.back()
    page.settle()
    assert page.find("#compare-a").is_displayed()
    # All that can be used is reached by the Tab key, in the order in which it stands.
    page.find("#tab-compare").click()
    reached = []
    for _ in range(4):
        page.driver.switch_to.active_element.send_keys("\ue004")
        reached.append(page.script("return document.activeElement.id || document.activeElement.className"))
    assert reached[:3] == ["compare-a", "compare-b", "primary"]


def test_enter_computes_in_a_line_and_breaks_one_in_an_area(page: Browser) -> None:
    page.open("rank")
    page.type("#rank-texts", "今天天气很好" + ENTER + "怎么改密码")
    page.type("#rank-query", "怎么登录" + ENTER)
    page.settle()
    assert sorted(page.texts("#ranked .text")) == ["今天天气很好", "怎么改密码"]


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_light_and_dark_can_be_read(page: Browser, width: int) -> None:
    for wanted in ("light", "dark"):
        page.command(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": wanted}]}
        )
        page.open("compare", width=width)
        paper = _luminance(page.script("return getComputedStyle(document.body).backgroundColor"))
        assert (paper < 0.1) == (wanted == "dark")
        for selector in (
            "h2",
            ".detail",
            "#score",
            "#verdict",
            ".threshold label",
            ".primary",
            ".calls code",
        ):
            ink, ground = page.script(
                "let node = arguments[0]; const ink = getComputedStyle(node).color;"
                "while (getComputedStyle(node).backgroundColor === 'rgba(0, 0, 0, 0)') node = node.parentElement;"
                "return [ink, getComputedStyle(node).backgroundColor]",
                page.find(selector),
            )
            dim, bright = sorted((_luminance(ink), _luminance(ground)))
            assert (bright + 0.05) / (dim + 0.05) >= 4.5, (wanted, selector, ink, ground)  # WCAG 2, AA
    page.find("#theme").click()
    assert page.script("return document.documentElement.dataset.theme") == "light"
    page.command("Emulation.setEmulatedMedia", {"features": []})


def _luminance(colour: str) -> float:
    """Relative luminance of a CSS colour, as WCAG 2 defines it."""
    values = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("status", "headers", "body", "said"),
    [
        (
            429,
            {"retry-after": "7"},
            '{"error": "the server is at its limit", "error_type": "Overloaded"}',
            "7 s",
        ),
        (503, {}, '{"error": "the server is draining", "error_type": "Unhealthy"}', "starting or stopping"),
        (
            424,
            {},
            '{"error": {"message": "no model gives topics", "type": "server_error"}}',
            "no fitting model",
        ),
        (500, {}, "<h1>proxy</h1>", "failed (500)"),
        (0, {}, "", "does not answer"),
    ],
)
def test_refusals_are_readable_and_can_be_tried_again(
    page: Browser, status: int, headers: dict[str, str], body: str, said: str
) -> None:
    page.open("compare", language="en")
    page.script(
        "window.real = window.fetch; const [status, headers, body] = arguments;"
        "window.fetch = async () => {"
        " if (!status) throw new TypeError('Failed to fetch'); return new Response(body, { status, headers }); }",
        status,
        headers,
        body,
    )
    page.compute()
    fault = page.find(".fault")
    assert said in fault.text and fault.get_attribute("role") == "alert"
    assert "proxy" in fault.text if status == 500 else "{" not in fault.text
    page.script("window.fetch = window.real")
    page.find(".fault button").click()
    page.settle()
    assert page.all(".fault") == [] and float(page.find("#score").text) >= 0


def test_page_waits_for_a_server_that_starts(page: Browser) -> None:
    source = (
        "const real = window.fetch; let asked = 0; window.fetch = (path, options) =>"
        " path === 'page/models' && !asked++"
        ' ? Promise.resolve(new Response(\'{"error": "the server is starting"}\', { status: 503 }))'
        " : real(path, options);"
    )
    script = page.command("Page.addScriptToEvaluateOnNewDocument", {"source": source})
    page.open("compare", language="en")
    assert "starting or stopping" in page.find(".fault").text
    page.wait(lambda: page.all("#score"))
    page.command("Page.removeScriptToEvaluateOnNewDocument", script)


def test_the_latest_question_is_answered(page: Browser) -> None:
    page.open("compare")
    page.script(
        "const real = window.fetch; let first = true;"
        "window.fetch = async (path, options) => {"
        " const late = options.body?.includes('很好'); const answer = await real(path, options);"
        " if (late) await new Promise((done) => setTimeout(done, 400)); return answer; }"
    )
    page.type("#compare-b", "很好")
    page.find(".primary").click()
    page.type("#compare-b", "怎么改密码")
    page.compute()
    shown = page.find("#score").text
    page.script("return new Promise((done) => setTimeout(done, 600))")
    assert page.find("#score").text == shown and "怎么改密码" in page.call("curl")


def test_empty_fields_are_named(page: Browser) -> None:
    page.open("rank", language="en")
    page.type("#rank-query", "  ")
    page.compute()
    assert page.find(".fault").text.startswith("Please fill in: Query")


def test_server_that_asks_for_a_key_or_lacks_a_model(folders: dict[str, Path]) -> None:
    with (
        serving({"faq": folders["embed"]}, "--api-key=secret") as server,
        browsing(server.url, languages="en") as page,
    ):
        page.open("compare", language="")
        assert page.find("#key").is_displayed()
        page.type("#key-value", "wrong" + ENTER)
        page.wait(lambda: "missing or wrong" in page.find(".fault").text)
        page.type("#key-value", "secret" + ENTER)
        page.wait(lambda: page.all("#cosine"))
        assert not page.find("#key").is_displayed()
        assert "jinyi serve --model jinyi-tiny-pair" in page.find(".notice").text
        assert "secret" not in page.call("curl") and "$JINYI_API_KEY" in page.call("curl")
        assert 'load("path/to/model")' in page.call("jinyi") and str(folders["embed"]) not in page.call(
            "jinyi"
        )
        page.script("location.hash = 'topics'")
        page.settle()
        assert "No topic model is loaded" in page.find(".notice").text and page.all("form") == []
        assert [line for line in page.complaints() if "401" not in line] == []


def test_topics_a_model_was_trained_on_need_no_labels(page: Browser, server: Server) -> None:
    page.open("topics")
    page.find("#topics-way").send_keys("classes")
    page.compute()
    assert page.all("#topics-labels") == [] and "体育 · 财经 · 新闻" in page.find("form .detail").text
    text = page.texts("#topics-result .text")[0]
    [row] = server.post("/v1/classify", {"model": "classes", "input": text}).json["data"]
    assert page.texts("#topics-result > li:first-child .topic") == [score["label"] for score in row["scores"]]


def test_algebra_of_the_map(page: Browser) -> None:
    """Against numpy and scipy, on points in three heaps with two rows alike."""
    from scipy.cluster.hierarchy import fcluster, linkage

    rng = np.random.default_rng(5)
    centres = rng.normal(size=(3, 12)) * 3
    rows = centres[rng.integers(0, 3, 40)] + rng.normal(size=(40, 12))
    rows[7] = rows[3] * 2
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    given = rows.tolist()

    cosines = np.array(page_cosines(page, given)).reshape(40, 40)
    np.testing.assert_allclose(cosines, unit @ unit.T, atol=1e-6)
    plane = page.module("algebra.js", "module.principalPlane(module.unitRows(given[0]))", given)
    left, sizes, _ = np.linalg.svd(unit - unit.mean(0), full_matrices=False)
    assert plane["share"] == pytest.approx((sizes[:2] ** 2).sum() / (sizes**2).sum(), abs=1e-6)
    np.testing.assert_allclose(np.abs(plane["points"]), np.abs(left[:, :2] * sizes[:2]), atol=1e-3)

    source = (
        "(() => { const unit = module.unitRows(given[0]); const cosines = module.products(unit, unit);"
        " const merges = module.linkage(cosines, unit.rows);"
        " return { heights: merges.map((merge) => merge.height), likely: module.likelyGroups(cosines, merges, 40, 10),"
        " cuts: [1, 3, 6, 40].map((count) => module.cut(merges, 40, count)),"
        " pairs: module.nearPairs(cosines, 40, 0.999999) }; })()"
    )
    found = page.module("algebra.js", source, given)
    tree = linkage(unit, "average", metric="cosine")
    np.testing.assert_allclose(found["heights"], tree[:, 2], atol=1e-6)
    assert found["likely"] == 3
    for count, groups in zip([1, 3, 6, 40], found["cuts"], strict=True):
        expected = fcluster(tree, count, "maxclust")
        same = np.equal.outer(groups, groups)
        assert (same == np.equal.outer(expected, expected)).all() and len(set(groups)) == count
    assert [(pair["a"], pair["b"]) for pair in found["pairs"]] == [(3, 7)]


def page_cosines(page: Browser, rows: list[list[float]]) -> list[float]:
    page.open("compare")
    source = "(() => { const unit = module.unitRows(given[0]); return Array.from(module.products(unit, unit)); })()"
    cosines: list[float] = page.module("algebra.js", source, rows)
    return cosines
