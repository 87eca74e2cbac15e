"""The page in Chromium, on a real server with the shipped models: what it shows is what Python gives."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
from collections.abc import Iterator

import numpy as np
import pytest

import jinyi
from browser import DESKTOP, PHONE, Browser, browsing
from serve_process import Server, serving

pytestmark = pytest.mark.slow

A, B = "我的手机号码换了怎么办", "更换手机号怎么操作"
LINES = ["如何修改登录密码", "怎么注销账号", "忘记密码了怎么找回", "今天天气真不错", "登录密码在哪里修改"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def shared(server: Server) -> Iterator[Browser]:
    with browsing(server.url) as browser:
        yield browser


@pytest.fixture
def page(shared: Browser) -> Iterator[Browser]:
    """The browser; afterwards its console must be empty and nothing but the server asked for."""
    shared.complaints()
    shared.requested()
    yield shared
    assert shared.complaints() == []
    strange = [url for url in shared.requested() if not url.startswith((shared.url, "about:", "data:"))]
    assert strange == []


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def width(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_two_sentences(page: Browser, width: int) -> None:
    page.open("compare", width=width)
    page.type("#compare-a", A)
    page.type("#compare-b", B)
    page.compute()

    pair, encoder = jinyi.PairScorer.load(), jinyi.SentenceEncoder.load()
    score = pair.predict((A, B))
    assert float(page.find("#score").text) == pytest.approx(score, abs=6e-4)
    assert float(page.find("#cosine").text) == pytest.approx(encoder.similarity([A], [B]).item(), abs=6e-4)
    assert page.find("#verdict").text == "判为同义"
    best = pair.operating_point()
    assert page.find("output[for=threshold]").text == f"{best.threshold:.3f}"
    measured = page.find("#measured").text
    assert (
        f"{best.precision:.1%}" in measured
        and f"{best.recall:.1%}" in measured
        and f"{best.rows:,}" in measured
    )
    assert not page.wider_than_screen()

    page.type("#compare-b", "这家店的面条很好吃")
    page.find("#compare-b").send_keys("\ue009", "\ue007")  # Ctrl + Enter
    page.settle()
    assert page.find("#verdict").text == "判为不同义"


def test_threshold_is_moved(page: Browser) -> None:
    page.open("compare")
    score = float(page.find("#score").text)
    assert 0.9 < score < 0.999
    page.set_slider("#threshold", 0.999)
    assert page.find("#verdict").text == "判为不同义"
    assert "太少" in page.find("#measured").text
    point = jinyi.PairScorer.load().operating_point(precision=0.8)
    page.all(".presets button")[1].click()
    assert page.find("output[for=threshold]").text == f"{point.threshold:.3f}"
    assert f"{point.precision:.1%}" in page.find("#measured").text
    page.find("#threshold").send_keys("\ue012")  # arrow left: a step
    assert page.find("output[for=threshold]").text == f"{point.threshold - 0.001:.3f}"


def test_alignment_shows_the_cosines_of_tokens(page: Browser, server: Server) -> None:
    page.open("compare")
    body = {"model": "jinyi-tiny-topic", "inputs": [A, B]}
    sides = [np.array(rows)[1:-1] for rows in server.post("/embed_all", body).json]
    a, b = (side - side.mean(0) for side in sides)
    cosines = (a @ b.T) / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))

    shown = np.array(page.texts(".heat tbody td"), float).reshape(cosines.shape)
    np.testing.assert_allclose(shown, cosines, atol=0.0051)
    assert page.texts(".heat tbody th") == list(A) and page.texts(".heat thead th") == list(B)
    places = [(row, column) for row in range(len(A)) for column in range(len(B))]
    rings = page.script(
        "return [...document.querySelectorAll('.heat tbody td')].map((cell) => cell.className)"
    )
    ringed = {place for place, ring in zip(places, rings, strict=True) if ring == "mutual"}
    both = {
        (row, int(cosines[row].argmax()))
        for row in range(len(A))
        if cosines[:, cosines[row].argmax()].argmax() == row and cosines[row].max() >= 0.4
    }
    assert ringed == both and (A.index("换"), B.index("换")) in both

    page.find(".heat td[tabindex='0']").send_keys("\ue015\ue014")  # down, right
    assert page.find(".readout").text == f"{A[1]} 与 {B[1]}：{cosines[1, 1]:.2f}"


def test_lines_are_ranked(page: Browser, width: int) -> None:
    page.open("rank", width=width)
    query = "怎么改密码"
    page.type("#rank-query", query)
    page.type("#rank-texts", "\n".join([*LINES, "", "  "]))
    assert page.find(".count").text == "5 行"
    page.compute()
    expected = jinyi.PairScorer.load().rank(query, LINES)
    assert page.texts("#ranked .text") == [row["text"] for row in expected]
    shown = [float(text) for text in page.texts("#ranked .bar b")]
    assert shown == pytest.approx([row["score"] for row in expected], abs=6e-4)
    threshold = jinyi.PairScorer.load().threshold()
    above = sum(row["score"] >= threshold for row in expected)
    assert len(page.all("#ranked .under")) == len(LINES) - above
    assert not page.wider_than_screen()

    page.find("#rank-way").send_keys("\ue015")  # the next model: vectors
    page.compute()
    cosines = jinyi.SentenceEncoder.load().similarity([query], LINES)[0]
    page.wait(lambda: page.texts("#ranked .text") == [LINES[row] for row in np.argsort(-cosines)])
    shown = [float(text) for text in page.texts("#ranked .bar b")]
    assert shown == pytest.approx(sorted(cosines.tolist(), reverse=True), abs=6e-4)


def test_topics_are_the_readers_own(page: Browser, width: int) -> None:
    page.open("topics", width=width)
    texts, labels = ["三亚这个海滩人少景美", "高考志愿怎么填"], ["教育", "旅游", "军事"]
    page.type("#topics-texts", "\n".join(texts))
    page.type("#topics-labels", "教育，旅游 军事")
    page.compute()
    expected = jinyi.TopicClassifier.load(labels=labels).predict_proba(texts)
    for place, row in enumerate(expected):
        inside = f"#topics-result > li:nth-child({place + 1})"
        assert page.texts(f"{inside} .topic") == [labels[column] for column in np.argsort(-row)]
        shown = [float(text.rstrip("%")) / 100 for text in page.texts(f"{inside} .bar b")]
        assert shown == pytest.approx(sorted(row.tolist(), reverse=True), abs=6e-4)
    assert not page.wider_than_screen()

    page.type("#topics-prompt", "这句话说的是{}：")
    page.compute()
    other = jinyi.TopicClassifier.load(labels=labels, prompt="这句话说的是{}：").predict_proba(texts[:1])[0]
    page.wait(lambda: page.texts("#topics-result .bar b")[0] == f"{100 * other.max():.1f}%")


def test_lines_on_a_map(page: Browser, width: int) -> None:
    page.open("map", width=width)
    page.type("#map-texts", "\n".join(LINES))
    page.compute()
    vectors = jinyi.SentenceEncoder.load().encode(LINES)
    cosines = vectors @ vectors.T
    page.wait(lambda: len(page.all(".plane .point")) == len(LINES))
    spread = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False) ** 2
    assert f"{100 * spread[:2].sum() / spread.sum():.1f}%" in page.find(".map .detail").text
    members = sorted([*page.texts("#groups summary span"), *page.texts("#groups .row")])
    assert members == sorted(LINES)

    page.set_slider("#map-duplicate", 0.8)
    close = [(LINES[a], LINES[b]) for a, b in zip(*np.nonzero(np.triu(cosines, 1) >= 0.8), strict=True)]
    shown = page.texts("#duplicates .row span")
    assert close and sorted(zip(shown[::2], shown[1::2], strict=True)) == sorted(close)
    assert len(page.all(".plane .join")) == len(close)
    page.set_slider("#map-groups", 1)
    assert page.texts("#groups summary b") == ["5"]
    page.find("#groups .row").click()  # focus shows where a line lies
    assert (
        len(page.all(".plane .marked")) == 1
        and page.texts(".plane .tag text") == page.texts("#groups .row")[:1]
    )
    assert not page.wider_than_screen()


@pytest.mark.parametrize("view", ["compare", "rank", "topics", "map"])
def test_the_calls_by_code_give_what_is_shown(page: Browser, server: Server, view: str) -> None:
    page.open(view)
    if view == "compare":
        page.type("#compare-b", 'It\'s "so": 更换\\手机号')
        page.compute()
    answers = []
    for command in page.call("curl").split("\n\n"):
        words = shlex.split(command.replace("\\\n", " "))
        assert words[:2] == ["curl", "-s"]
        options = dict(zip(words[3::2], words[4::2], strict=True))
        name, _, value = options["-H"].partition(": ")
        path = words[2].removeprefix(server.url)
        reply = server.post(path, content=options["-d"].encode(), headers={name: value})
        assert reply.status == 200
        answers.append(reply.json)
    over_http, by_jinyi = (_printed(page.call(form)) for form in ("http", "jinyi"))
    if view == "compare":
        score, cosine = answers[0][0]["score"], answers[1][0]
        assert page.find("#score").text == f"{score:.3f}" and page.find("#cosine").text == f"{cosine:.3f}"
        assert [float(line) for line in over_http.splitlines()] == pytest.approx([score, cosine])
        python = [float(line) for line in by_jinyi.splitlines()]
        assert python == pytest.approx(
            [score, float(page.find("output[for=threshold]").text), cosine], abs=6e-4
        )
    elif view == "rank":
        shown = [float(text) for text in page.texts("#ranked .bar b")]
        assert [row["score"] for row in answers[0]] == pytest.approx(shown, abs=6e-4)
        assert eval(over_http) == answers[0]
        assert [row["score"] for row in eval(by_jinyi)] == pytest.approx(shown, abs=6e-4)
    elif view == "topics":
        shown = [float(text.rstrip("%")) for text in page.texts("#topics-result .first b")]
        best = [100 * row["scores"][0]["score"] for row in answers[0]["data"]]
        assert best == pytest.approx(shown, abs=0.06) and eval(over_http) == answers[0]["data"]
        assert "体育" in by_jinyi
    else:
        vectors = np.array(answers[0])
        assert vectors.shape == (len(page.all(".plane .point")), 312)
        np.testing.assert_allclose(np.array(eval(over_http)), vectors)
        assert f"{vectors[0] @ vectors[1]:.4f}"[:5] in by_jinyi


def _printed(code: str) -> str:
    """What a program prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "shown on the page", "exec"), {})
    return printed.getvalue().strip()


def test_texts_are_never_markup(page: Browser) -> None:
    text = "<img src=x onerror=alert(1)><b>粗</b> & 'it'"
    page.open("rank")
    page.type("#rank-query", text)
    page.type("#rank-texts", text)
    page.compute()
    assert page.texts("#ranked .text") == [text]
    assert text in json.loads('"' + page.call("http").split('"query": "')[1].split('",')[0] + '"')
    page.script("location.hash = 'map'")
    page.settle()
    page.type("#map-texts", "\n".join([text, "一", "二"]))
    page.compute()
    page.wait(lambda: text[:11] + "…" in page.texts(".plane .label") or text in page.texts(".plane title"))
    assert page.all("main img") == []


def test_what_was_cut_is_told(page: Browser) -> None:
    page.open("rank")
    page.script("document.querySelector('#rank-texts').value = arguments[0]", "好" * 300 + "\n" + "短句")
    page.find("#rank-texts").send_keys(" ")
    page.compute()
    assert "1 条文本超过" in page.find(".notice").text
