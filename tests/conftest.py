"""Settings of every test run: no network, no warning unseen, and small random models as fixtures."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from hub_server import Hub
    from serve_process import Server

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "offline"))

# Before anything else is imported: child processes find the same block through PYTHONPATH.
# Workers of pytest-xdist write into the log of the process that started them, which reads it at the end.
WORKER = "PYTEST_XDIST_WORKER" in os.environ
if not WORKER:
    with tempfile.NamedTemporaryFile(prefix="jinyi-sockets-", suffix=".log", delete=False) as log:
        os.environ["JINYI_SOCKET_LOG"] = log.name
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(HERE / "offline"), os.environ.get("PYTHONPATH")])
    )
else:
    # Workers share the cores. Threads of PyTorch spin while they wait for each other: more of them than cores take
    # several times the processor time of one.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib  # noqa: E402

sys.modules.pop("sitecustomize", None)  # an interpreter may have one of its own
importlib.import_module("sitecustomize")

# Machines that run tests are busy: time limits per example only fail there.
settings.register_profile("jinyi", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("jinyi")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if WORKER:
        return
    log = Path(os.environ["JINYI_SOCKET_LOG"])
    attempts = log.read_text(encoding="utf-8")
    log.unlink()
    if attempts:
        print(f"\nSomething tried to use the network:\n{attempts}", file=sys.stderr)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def small_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small random models: embed, pair, pair1, topic, megatron."""
    from small_models import MEGATRON, write_small

    root = tmp_path_factory.mktemp("models")
    write_small(root / "embed")
    write_small(root / "pair", "pair", outputs=2, labels=["not similar", "similar"])
    write_small(root / "pair1", "pair", outputs=1)
    write_small(root / "topic", "topic", labels=["体育", "财经"])
    write_small(root / "classes", "classes", outputs=3, labels=["体育", "财经", "新闻"])
    write_small(root / "megatron", config=MEGATRON)
    return root


@pytest.fixture(scope="session")
def folders(small_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small models by name, and one of entailment, nli."""
    from small_models import write_small

    labels = ["contradiction", "neutral", "entailment"]
    nli = write_small(tmp_path_factory.mktemp("nli") / "m", "classes", outputs=3, labels=labels)
    names = ("embed", "pair", "pair1", "topic", "classes", "megatron")
    return {name: small_folders / name for name in names} | {"nli": nli}


@pytest.fixture(scope="session")
def served(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server with the small models, and three more: prompted, whitened and fitted."""
    import jinyi
    from serve_process import serving
    from small_models import whitening, write_small

    root = tmp_path_factory.mktemp("served")
    prompts = {"query": "关于：", "plain": ""}
    folders["prompted"] = write_small(root / "prompted", prompts=prompts, default_prompt_name="query")
    folders["whitened"] = write_small(root / "whitened", dense=(whitening(),))
    texts = ["今天天气很好", "心情很好", "怎么改密码", "如何修改密码"]
    fitted = jinyi.TopicClassifier.load(folders["embed"]).fit(texts, ["天气", "天气", "密码", "密码"])
    folders["fitted"] = fitted.save(root / "fitted")
    names = ("embed", "pair", "topic", "classes", "pair1", "nli", "prompted", "whitened", "fitted")
    with serving({name: folders[name] for name in names}) as server:
        yield server


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, an empty models folder, an empty cache of the library, and no settings of this machine."""
    from huggingface_hub import constants

    from hub_server import running_hub

    for name in ("HF_ENDPOINT", "HF_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JINYI_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # of 10 MB: files are small here
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    with running_hub() as running:
        yield running


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Idle PyTorch threads spin and would slow OpenVINO's down."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def embed_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A model that makes vectors, as its authors would have put it on a hub."""
    from hub_server import files_of
    from small_models import write_small

    return files_of(write_small(tmp_path_factory.mktemp("hub") / "embed", pooling="cls"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the command in this process: (exit code, standard output, standard error)."""
    from jinyi import cli

    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["jinyi", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call
