"""What a server is told when it starts: models, address, limits. Checked here, before anything is opened."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from jinyi.errors import InputError, shorten

TASKS = ("embed", "pair", "topic")
"""Of the shipped models, in the order in which they are served where no model is named."""

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("auto", "json", "text")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ModelSetting:
    """One model to serve.

    Args:
        source: a name or a folder, as `jinyi.registry.find_model` takes it.
        name: what clients call it; None: the name of its folder.
    """

    source: str
    name: str | None = None


def model_setting(text: str) -> ModelSetting:
    """Read `NAME`, `FOLDER` or `NAME=FOLDER`.

    Raises:
        InputError: nothing before or behind the equals sign.
    """
    if "=" not in text or Path(text).exists():  # a folder's own name may hold an equals sign
        return ModelSetting(text)
    name, _, source = text.partition("=")
    if not name.strip() or not source.strip():
        raise InputError(
            found=shorten(text),
            expected="NAME, FOLDER or NAME=FOLDER",
            fix="Write what clients call the model, =, and its folder: --model faq=./my-model.",
            where="--model",
        )
    return ModelSetting(source.strip(), name.strip())


@dataclass(frozen=True)
class Settings:
    """All that can be set about a server; `jinyi serve --help` has the same names with dashes.

    Args:
        models: what is served; empty: the shipped models.
        host: address to listen on.
        port: 0 takes a free one.
        api_keys: any of them opens the door; empty: no key is asked for.
        max_concurrent_requests: computing requests at once; more get 429.
        max_batch_tokens: most tokens of one batch, padding included.
        max_client_batch_size: most inputs of one request.
        payload_limit: most bytes of one body.
        max_wait_s: new work that would take longer behind what is there already, as estimated, gets 429.
        request_timeout_s: a request not computed by then is given up.
        hang_s: a batch that lasts longer is taken for hung, and the worker restarted.
        body_timeout_s: the headers of a request must have arrived by then, and its body after as long again.
        drain_s: how long requests in flight may take after SIGTERM.
        ready_timeout_s: what the forward pass of a readiness check may take.
        cors_origins: origins whose pages may call the server; empty: none.
        cache_mb: memory for results of rows seen before, MB; 0: none is kept.
        precision: as in `SentenceEncoder.load`.
        threads: processor threads of the worker; None: the cores available.
        device: "cpu" or "cuda".
        log_level: one of `LOG_LEVELS`.
        log_format: "json", "text", or "auto" for text on a terminal and JSON elsewhere.

    Raises:
        InputError: a value out of its range.
    """

    models: tuple[ModelSetting, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    max_concurrent_requests: int = 512
    max_batch_tokens: int = 2048
    max_client_batch_size: int = 2048
    payload_limit: int = 8_000_000
    max_wait_s: float = 5.0
    request_timeout_s: float = 60.0
    hang_s: float = 3.0
    body_timeout_s: float = 30.0
    drain_s: float = 30.0
    ready_timeout_s: float = 2.0
    cors_origins: tuple[str, ...] = ()
    cache_mb: float = 0.0
    precision: str = "auto"
    threads: int | None = None
    device: str = "cpu"
    log_level: str = "info"
    log_format: str = "auto"

    def __post_init__(self) -> None:
        for name in ("max_concurrent_requests", "max_client_batch_size", "payload_limit"):
            _above(name, getattr(self, name), 1)
        _above("max_batch_tokens", self.max_batch_tokens, 16)
        for name in ("max_wait_s", "request_timeout_s", "hang_s", "body_timeout_s", "ready_timeout_s"):
            _above(name, getattr(self, name), 0.001)
        for name in ("drain_s", "cache_mb"):
            _above(name, getattr(self, name), 0)
        if not 0 <= self.port <= 65535:
            raise InputError(
                found=str(self.port), expected="a port from 0 to 65535", fix="Choose one.", where="port"
            )
        _one_of("log_level", self.log_level, LOG_LEVELS)
        _one_of("log_format", self.log_format, LOG_FORMATS)
        for key in self.api_keys:
            if not key or not key.isascii() or not key.isprintable() or " " in key:
                raise InputError(
                    found="an API key that is empty or holds spaces or characters outside ASCII",
                    expected="letters, digits and signs, as a header can carry them",
                    fix="Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
                    where="api_key",
                )

    @property
    def loopback(self) -> bool:
        """Whether only programs of this machine can reach the server."""
        return self.host in LOOPBACK

    def limits(self) -> dict[str, Any]:
        """Return the limits by name, as /info shows them."""
        shown = ("max_", "payload", "request_timeout", "body_timeout")
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name.startswith(shown)}


def _above(name: str, value: float, least: float) -> None:
    if not least <= value < float("inf"):
        raise InputError(
            found=shorten(value),
            expected=f"at least {least}",
            fix="Choose a value in this range.",
            where=name,
        )


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(
            found=shorten(value),
            expected=f"one of {', '.join(choices)}",
            fix="Choose one of them.",
            where=name,
        )
