"""The files of the page as they are: whole, of this package alone, with words in both languages."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from serve_process import Server

FOLDER = files("jinyi.serve") / "page"
FILES = {entry.name: entry.read_text(encoding="utf-8") for entry in FOLDER.iterdir()}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}


def test_page_for_browsers_and_health_for_others(served: Server) -> None:
    page = served.get("/", headers={"accept": "text/html,application/xhtml+xml"})
    assert page.status == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.body.decode() == FILES["index.html"]
    other = served.get("/", headers={"accept": "*/*"})
    assert (other.status, other.body) == (200, b"")


@pytest.mark.parametrize("name", sorted(FILES))
def test_files_are_served_and_kept_by_browsers(served: Server, name: str) -> None:
    path, headers = f"/page/{name}", {}
    if name == "index.html":
        path, headers = "/", {"accept": "text/html"}
    reply = served.get(path, headers=headers)
    assert reply.status == 200 and reply.body.decode() == FILES[name]
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    again = served.get(path, headers={**headers, "if-none-match": reply.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/page/", "/page/nothing.js", "/page/../page.py", "/page/..%2Fpage.py", "/page.py"]
)
def test_nothing_else_is_served(served: Server, path: str) -> None:
    assert served.get(path).status == 404


def test_models_are_described(served: Server) -> None:
    about = {model["name"]: model for model in served.get("/page/models").json["models"]}
    assert list(about) == served.names
    assert about["embed"]["operations"] == ["embed", "embed_all", "tokenize"]
    assert about["classes"]["labels"] == ["体育", "财经", "新闻"]
    assert about["topic"]["prompt"] and all(model["known"] is None for model in about.values())


def test_no_outside_resource() -> None:
    for name, text in FILES.items():
        addresses = set(re.findall(r"https?://[^\s\"'`)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not addresses, f"{name}: {addresses}"
        assert not re.search(
            r"@import|url\(\s*[\"']?//|eval\(|innerHTML|insertAdjacentHTML|document\.write", text
        ), name
    assert not re.search(r"<style|<script(?! type=\"module\" src=)|\son\w+=|style=", FILES["index.html"])


def test_what_files_name_is_there() -> None:
    for name, text in SCRIPTS.items():
        for imported in re.findall(r"from \"\./([\w.]+)\"", text):
            assert imported in FILES, f"{name} imports {imported}"
    for linked in re.findall(r"(?:src|href)=\"page/([\w.]+)\"", FILES["index.html"]):
        assert linked in FILES


def test_words_are_all_there_and_all_used() -> None:
    table = FILES["words.js"].split("const WORDS = {")[1].split("\n};")[0]
    entries = re.findall(r"^  (?:\"([\w.]+)\"|(\w+)): \[((?:.|\n)*?)\],$", table, re.MULTILINE)
    words = {quoted or bare: re.findall(r"\"((?:[^\"\\]|\\.)*)\"", both) for quoted, bare, both in entries}
    assert len(words) == len(entries) > 50
    for key, both in words.items():
        assert len(both) == 2, key
        slots = [sorted(re.findall(r"\{\w+\}", text)) for text in both]
        assert slots[0] == slots[1], key
    source = "".join(
        text.split("let language")[-1] if name == "words.js" else text for name, text in FILES.items()
    )
    unused = [key for key in words if f'"{key}"' not in source and not key.startswith(("absent.", "theme."))]
    assert unused == []
    asked = set(re.findall(r"say\(\s*\"([\w.]+)\"", source)) | set(
        re.findall(r"data-t(?:-label)?=\"([\w.]+)\"", source)
    )
    assert asked <= set(words)
