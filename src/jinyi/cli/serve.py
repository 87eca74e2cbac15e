"""`jinyi serve`: models behind HTTP, and a page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jinyi.cli.common import read_option
from jinyi.errors import InputError


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="[NAME=]MODEL",
            help="Name or folder, repeatable; NAME= is what clients call it. Default: the three shipped models.",
            envvar="JINYI_MODELS",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="0.0.0.0 lets other machines in.", envvar="JINYI_HOST")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", envvar="JINYI_PORT")] = 8000,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            help="Asked of every client (Authorization: Bearer KEY), repeatable; better by the variable, which other "
            "users of the machine do not see.",
            envvar="JINYI_API_KEY",
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="One key a line.", envvar="JINYI_API_KEY_FILE")
    ] = None,
    max_concurrent_requests: Annotated[
        int, typer.Option(help="More get 429.", envvar="JINYI_MAX_CONCURRENT_REQUESTS")
    ] = 512,
    max_client_batch_size: Annotated[
        int, typer.Option(help="Inputs of one request.", envvar="JINYI_MAX_CLIENT_BATCH_SIZE")
    ] = 2048,
    max_batch_tokens: Annotated[
        int, typer.Option(help="Tokens computed at once, padding included.", envvar="JINYI_MAX_BATCH_TOKENS")
    ] = 2048,
    payload_limit: Annotated[
        int, typer.Option(help="Bytes of one body.", envvar="JINYI_PAYLOAD_LIMIT")
    ] = 8_000_000,
    max_wait: Annotated[
        float,
        typer.Option(
            help="Seconds; new work that would take longer behind what is there gets 429.",
            envvar="JINYI_MAX_WAIT",
        ),
    ] = 5.0,
    request_timeout: Annotated[
        float,
        typer.Option(
            help="Seconds; a request not computed by then is given up.", envvar="JINYI_REQUEST_TIMEOUT"
        ),
    ] = 60.0,
    body_timeout: Annotated[
        float,
        typer.Option(help="Seconds for headers to arrive, and for a body.", envvar="JINYI_BODY_TIMEOUT"),
    ] = 30.0,
    hang_timeout: Annotated[
        float,
        typer.Option(
            help="Seconds, scaled by tokens; a batch that takes longer hangs, and the worker is started anew.",
            envvar="JINYI_HANG_TIMEOUT",
        ),
    ] = 3.0,
    ready_timeout: Annotated[
        float,
        typer.Option(help="Seconds for the forward pass of /readyz.", envvar="JINYI_READY_TIMEOUT"),
    ] = 2.0,
    drain: Annotated[
        float, typer.Option(help="Seconds for requests in flight after SIGTERM.", envvar="JINYI_DRAIN")
    ] = 30.0,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Origin whose pages may call the server, repeatable; default: none.",
            envvar="JINYI_CORS_ORIGINS",
        ),
    ] = None,
    cache_mb: Annotated[
        float,
        typer.Option("--cache-mb", help="Memory for results of rows seen before.", envvar="JINYI_CACHE_MB"),
    ] = 0.0,
    precision: Annotated[
        str,
        typer.Option(
            help="auto, float32, bfloat16, int8, int8-weights or int8-dynamic.", envvar="JINYI_PRECISION"
        ),
    ] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(help="Processor threads; default: the cores available.", envvar="JINYI_THREADS"),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.", envvar="JINYI_DEVICE")] = "cpu",
    log_level: Annotated[
        str, typer.Option(help="debug, info, warning or error.", envvar="JINYI_LOG_LEVEL")
    ] = "info",
    log_format: Annotated[
        str, typer.Option(help="json, text, or auto: text on a terminal.", envvar="JINYI_LOG_FORMAT")
    ] = "auto",
) -> None:
    """Serve models over HTTP, with a page at /; every option can be set by its variable.

    jinyi serve

    jinyi serve --model faq=./my-model --host 0.0.0.0 --port 8080
    """
    from jinyi.serve.run import serve as run
    from jinyi.serve.settings import Settings, model_setting

    keys = list(api_key or ())
    if api_key_file is not None:
        keys += _keys(api_key_file)
    run(
        Settings(
            models=tuple(map(model_setting, model or ())),
            host=host,
            port=port,
            api_keys=tuple(keys),
            max_concurrent_requests=max_concurrent_requests,
            max_batch_tokens=max_batch_tokens,
            max_client_batch_size=max_client_batch_size,
            payload_limit=payload_limit,
            max_wait_s=max_wait,
            request_timeout_s=request_timeout,
            hang_s=hang_timeout,
            body_timeout_s=body_timeout,
            drain_s=drain,
            ready_timeout_s=ready_timeout,
            cors_origins=tuple(cors_origin or ()),
            cache_mb=cache_mb,
            precision=precision,
            threads=threads,
            device=device,
            log_level=log_level,
            log_format=log_format,
        )
    )


def _keys(path: Path) -> list[str]:
    keys = read_option("--api-key-file", path, "a text file with one key a line").split()
    if not keys:
        raise InputError(
            found="no key in the file",
            expected="one key a line",
            fix="Write a key into it, or leave the option out.",
            where=str(path),
        )
    return keys
