"""What a server is told: values out of range, names of models, and the command that passes them on."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from jinyi.errors import InputError, MissingExtraError
from jinyi.serve import run as running
from jinyi.serve.problems import ComputeFailed, Invalid, Overloaded, Problem, problem_of
from jinyi.serve.settings import ModelSetting, Settings, model_setting


@pytest.mark.parametrize(
    "wrong",
    [
        {"payload_limit": 0},
        {"max_concurrent_requests": 0},
        {"max_client_batch_size": -1},
        {"max_batch_tokens": 8},
        {"request_timeout_s": 0.0},
        {"max_wait_s": float("nan")},
        {"drain_s": float("inf")},
        {"port": -1},
        {"port": 65536},
        {"cache_mb": -1.0},
        {"log_level": "loud"},
        {"log_format": "xml"},
        {"api_keys": ("",)},
        {"api_keys": ("with space",)},
        {"api_keys": ("钥匙",)},
        {"api_keys": ("line\nbreak",)},
    ],
)
def test_values_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        Settings(**wrong)
    assert caught.value.where in ("api_key", *wrong)


def test_keys_are_not_shown() -> None:
    assert "s3cret" not in repr(Settings(api_keys=("s3cret",)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jinyi-tiny-embed", ModelSetting("jinyi-tiny-embed")),
        ("faq=./my-model", ModelSetting("./my-model", "faq")),
        (" faq = a=b ", ModelSetting("a=b", "faq")),
    ],
)
def test_models_by_name(text: str, expected: ModelSetting) -> None:
    assert model_setting(text) == expected


def test_a_folder_may_have_an_equals_sign(tmp_path: Path) -> None:
    folder = tmp_path / "lr=0.1"
    folder.mkdir()
    assert model_setting(str(folder)) == ModelSetting(str(folder))


@pytest.mark.parametrize("text", ["=folder", "name=", " = "])
def test_half_a_name(text: str) -> None:
    with pytest.raises(InputError, match="NAME=FOLDER"):
        model_setting(text)


def test_only_loopback_by_default() -> None:
    assert Settings().loopback
    assert not Settings(host="0.0.0.0").loopback
    assert Settings().cors_origins == ()


def test_limits_are_shown() -> None:
    limits = Settings(payload_limit=7, api_keys=("k",)).limits()
    assert limits["payload_limit"] == 7
    assert {"max_client_batch_size", "max_concurrent_requests", "max_wait_s"} <= set(limits)
    assert "api_keys" not in limits


def test_the_command_passes_everything_on(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Settings] = []
    monkeypatch.setattr(running, "serve", seen.append)
    keys = tmp_path / "keys"
    keys.write_text("one\ntwo\n", encoding="utf-8")
    monkeypatch.setenv("JINYI_API_KEY", "zero")
    monkeypatch.setenv("JINYI_PORT", "9001")
    code, _, error = run(
        *("serve", "-m", "a=x", "-m", "y", "--host", "0.0.0.0", "--api-key-file", keys, "--max-wait", "2"),
        *("--hang-timeout", "9", "--cors-origin", "https://a.example", "--cache-mb", "5", "--drain", "7"),
    )
    assert code == 0, error
    assert seen == [
        Settings(
            models=(ModelSetting("x", "a"), ModelSetting("y")),
            host="0.0.0.0",
            port=9001,
            api_keys=("zero", "one", "two"),
            max_wait_s=2.0,
            hang_s=9.0,
            cors_origins=("https://a.example",),
            cache_mb=5.0,
            drain_s=7.0,
        )
    ]


def test_the_commands_defaults_are_those_of_the_settings(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []
    monkeypatch.setattr(running, "serve", seen.append)
    assert run("serve")[0] == 0
    assert seen == [Settings()]


def test_the_guide_knows_options_and_defaults(run: Any) -> None:
    guide = (Path(__file__).parents[1] / "docs" / "serving.md").read_text(encoding="utf-8")
    code, text, _ = run("serve", "--help")
    assert code == 0
    for option in set(re.findall(r"`(--[a-z-]+)", guide)) - {"--read-only"}:
        assert option in text, option
    for variable in set(re.findall(r"JINYI_[A-Z_]+[A-Z]", guide)):
        assert variable in text, variable
    defaults = Settings()
    for option, value in re.findall(r"\| `--([a-z-]+)` \| ([\d,.]+)", guide):
        name = option.replace("-", "_")
        set_to = getattr(defaults, name, None) or getattr(defaults, f"{name}_s")
        assert float(value.replace(",", "")) == set_to, option


@pytest.mark.parametrize("content", [None, "", b"\xff\xfe"])
def test_a_file_without_keys(run: Any, tmp_path: Path, content: str | bytes | None) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    code, _, error = run("serve", "--api-key-file", path)
    assert code == 2
    assert "keys" in error


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else found(name))
    with pytest.raises(MissingExtraError, match=r'pip install "jinyi\[serve\]"') as caught:
        running.serve(Settings())
    assert "uvicorn" in caught.value.found


def test_problems_of_errors() -> None:
    wrong = InputError(found="x", expected="y", fix="z")
    assert isinstance(problem_of(wrong), Invalid)
    assert isinstance(problem_of(MissingExtraError(found="x", expected="y", fix="z")), ComputeFailed)
    assert Overloaded(0.2).headers == {"retry-after": "1"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, "authentication_error"),
        (404, "not_found_error"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (424, "server_error"),
        (503, "server_error"),
    ],
)
def test_shapes(status: int, kind: str) -> None:
    problem = Problem(status, "Validation", "m", "p", code="c")
    assert problem.body("/v1/embeddings") == {
        "error": {"message": "m", "type": kind, "param": "p", "code": "c"}
    }
    assert problem.body("/embed") == {"error": "m", "error_type": "Validation"}


def test_two_servers_never_share_a_port() -> None:
    listener = running._listen(Settings(port=0))
    with listener:
        port = listener.getsockname()[1]
        with pytest.raises(InputError, match="Choose another --port"):
            running._listen(Settings(port=port))
