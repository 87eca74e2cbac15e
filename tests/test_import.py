"""What importing costs, and which parts may know of which."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jinyi

ROOT = Path(jinyi.__file__).parent
ROOMS = ("train", "evals", "clue", "convert", "serve", "search", "scale", "pipelines", "adapters")
# A room that stands on others.
UPPER = {"clue": ("train", "evals")}
# The core's files and folders along the path: each imports none that stands behind it.
CORE = (
    *("errors", "arguments", "hashes", "scratch", "metrics", "label_words"),
    *("config", "text", "wordpiece", "tokens", "batches", "runtime", "folder", "registry"),
    *("models", "files", "vocab"),
)
# The one file that opens a connection: benchmark data by their official addresses.
NETWORK = {"clue/download.py": "urllib"}
# Clients of model hubs, for downloads alone.
HUBS = ("huggingface_hub", "modelscope", "filelock")
# A script for a process of its own, in any environment: it may import what it measures, and nothing imports it.
SCRIPT = "evals/speed/peer.py"
# Readers of pickles execute them; the one file that reads the pickles of others executes nothing.
PICKLES = ("pickle", "pickletools", "marshal", "shelve", "dill", "joblib")
UNPICKLER = "convert/unpickle.py"
# The server's libraries.
SERVER = ("fastapi", "starlette", "uvicorn", "pydantic", "orjson", "prometheus_client")
HEAVY = (
    *SERVER,
    "torch",
    "transformers",
    "openvino",
    "numpy",
    "tokenizers",
    "safetensors",
    "rich",
    "sklearn",
    "pyarrow",
    "nncf",
    "onnx",
    "onnxruntime",
)
FILES = sorted(ROOT.rglob("*.py"))
# Where PyTorch may be imported: modules that only train/ and the CUDA engine load.
TORCH = tuple(
    f"runtime/torch_{part}.py" for part in ("attention", "dropout", "encoder", "engine", "packing", "rotary")
)

# The doors from the core into rooms: fit(method="prompt") trains, when it is called and by the training room alone, so
# that users of the class need no second one for it; and `jinyi.pipeline` is loaded when it is first used.
DOORS = {"models/tuned.py": "jinyi.train.prompt_fit", "__init__.py": "jinyi.pipelines"}


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """Imported modules of a file, with whether the import runs when the file is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef))
        or (isinstance(outer, ast.If) and ast.unparse(outer.test) == "TYPE_CHECKING")
        for inner in ast.walk(outer)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in lazy) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append((node.module or "", id(node) not in lazy))
    return found


def room_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first if first in ROOMS else "cli" if first in ("cli", "__main__.py") else "core"


# `jinyi/__init__.py` hands out names of models and is no part of the path.
INSIDE = [path for path in FILES if room_of(path) == "core" and path != ROOT / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_who_may_import_whom(path: Path) -> None:
    own = room_of(path)
    for module, now in imports_of(path):
        parts = module.split(".")
        if parts[0] == "jinyi" and len(parts) > 1:
            door = not now and DOORS.get(path.relative_to(ROOT).as_posix()) == module
            below = parts[1] in UPPER.get(own, ())
            assert parts[1] not in ROOMS or own in (parts[1], "cli") or door or below, (
                f"{own} imports room {parts[1]}"
            )
            assert parts[1] != "cli" or own == "cli", f"{own} imports the command line"
            assert not (own == "cli" and now) or parts[1] in ("cli", "errors"), (
                "commands import when they run"
            )
        if parts[0] == "torch" and own == "core":
            assert path.relative_to(ROOT).as_posix() in TORCH
        assert parts[0] not in ("transformers", "requests", "httpx")
        assert parts[0] != "sentence_transformers" or path.relative_to(ROOT).as_posix() == SCRIPT
        assert module != "jinyi." + SCRIPT.removesuffix(".py").replace("/", "."), "the script is imported"
        assert parts[0] != "urllib" or NETWORK.get(path.relative_to(ROOT).as_posix()) == "urllib"
        assert parts[0] not in PICKLES or path.relative_to(ROOT).as_posix() == UNPICKLER
        assert parts[0] not in SERVER or own == "serve"
        if parts[0] in HUBS:
            assert path.relative_to(ROOT).as_posix().startswith("convert/hub/") and not now


@pytest.mark.parametrize("path", INSIDE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_core_imports_along_the_path(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert own in CORE, f"{own} has no place on the path"
    for module, _ in imports_of(path):
        parts = module.split(".")
        if parts[0] == "jinyi" and len(parts) > 1 and parts[1] in CORE:
            assert CORE.index(parts[1]) <= CORE.index(own), f"{own} imports {parts[1]}, which comes later"


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_loads_nothing_heavy() -> None:
    assert not loaded_by("import jinyi").intersection(HEAVY)
    assert not loaded_by("import jinyi.cli").intersection(set(HEAVY) - {"rich"})


def test_models_load_no_training_library() -> None:
    code = "import jinyi; jinyi.SentenceEncoder, jinyi.PairScorer, jinyi.TopicClassifier"
    loaded = loaded_by(code)
    assert "numpy" in loaded
    assert not loaded.intersection({"torch", "transformers", "sklearn", "pyarrow", "rjieba", "nncf"})


def test_names() -> None:
    assert set(jinyi.__all__) == set(dir(jinyi))
    for name in jinyi.__all__:
        assert getattr(jinyi, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = jinyi.nothing


def test_every_file_is_opened_with_an_encoding() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("read_text", "write_text"):
                assert any(keyword.arg == "encoding" for keyword in node.keywords), f"{path}:{node.lineno}"
            if name == "open" and isinstance(node.func, ast.Name):
                modes = [
                    arg.value
                    for arg in node.args
                    if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
                ]
                binary = any("b" in mode for mode in modes)
                assert binary or any(keyword.arg == "encoding" for keyword in node.keywords), (
                    f"{path}:{node.lineno}"
                )
