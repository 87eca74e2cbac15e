"""One system under test in a process of its own, driven over pipes by inference.py.

Thread pools of two runtimes disturb each other within one process, so every system has its own process and is kept
alive while the others run. This file runs in any environment that holds the system: it imports nothing else of
jinyi's repository, and each system imports its library only when it is opened.

    python worker.py probe NAME...     versions and sizes of installed distributions, as JSON
    python worker.py prepare SPEC      what is done once per model: export, optimise
    python worker.py serve SPEC        open the model, compute one text, then answer requests line by line
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

TOKEN_BUDGET = 2048  # padded tokens in a batch of the plain loops, about the best for a tiny model

# The same as inference.py's systems: "kind" of a SPEC names one of KINDS at the end of this file. Other keys of a
# SPEC: model (folder), prepared (folder for what `prepare` makes), task ("embed" or "pair"), precision, max_length,
# backend, symmetric, similar (index of the output that means similar), first (a text or a pair).
Spec = dict[str, Any]


class Jinyi:
    """jinyi as a user calls it."""

    def __init__(self, spec: Spec) -> None:
        import jinyi

        self.spec = spec
        model_class = jinyi.SentenceEncoder if spec["task"] == "embed" else jinyi.PairScorer
        self.model: Any = model_class.load(spec["model"], precision=spec["precision"])

    def many(self, inputs: list[Any]) -> Any:
        if self.spec["task"] == "embed":
            return self.model.encode(inputs, max_length=self.spec["max_length"], show_progress=False)
        return self.model.predict(
            inputs, symmetric=self.spec["symmetric"], calibrated=False, show_progress=False
        )

    def one(self, item: Any) -> Any:
        return self.many(item)

    @staticmethod
    def prepare(spec: Spec) -> None:
        """Nothing is prepared."""


class SentenceTransformers:
    """sentence-transformers with its defaults: SentenceTransformer.encode or CrossEncoder.predict, batch 32."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        folder = spec["model"] if spec["backend"] == "torch" else backend_folder(spec)
        self.model = open_sentence_transformers(spec, folder)
        if spec["precision"] == "bfloat16" and spec["backend"] == "torch":
            self.model.bfloat16()

    def many(self, inputs: list[Any]) -> Any:
        if self.spec["task"] == "embed":
            return self.model.encode(inputs, show_progress_bar=False)
        return probabilities(self.model.predict(inputs, show_progress_bar=False), self.spec["similar"])

    def one(self, item: Any) -> Any:
        if self.spec["task"] == "embed":
            return self.model.encode(item, show_progress_bar=False)
        return probabilities(self.model.predict([item], show_progress_bar=False), self.spec["similar"])

    @staticmethod
    def prepare(spec: Spec) -> None:
        if spec["backend"] != "torch" and not backend_folder(spec).exists():
            model = open_sentence_transformers(spec, spec["model"])
            model.save_pretrained(str(backend_folder(spec)))


def open_sentence_transformers(spec: Spec, folder: str | Path) -> Any:
    from sentence_transformers import CrossEncoder, SentenceTransformer

    options: dict[str, Any] = {"device": "cpu", "backend": spec["backend"], "local_files_only": True}
    if spec["backend"] == "openvino":
        options["model_kwargs"] = {"device": "CPU"}
    if spec["task"] == "pair":
        return CrossEncoder(str(folder), max_length=spec["max_length"], **options)
    model = SentenceTransformer(str(folder), **options)
    model.max_seq_length = spec["max_length"]
    return model


def backend_folder(spec: Spec) -> Path:
    return Path(spec["prepared"]) / f"sentence-transformers-{spec['backend']}-{spec['task']}"


def probabilities(outputs: Any, similar: int) -> Any:
    """P(similar): one output has been through a sigmoid already, several are logits."""
    import numpy as np

    outputs = np.asarray(outputs, np.float32)
    if outputs.ndim == 1:
        return outputs
    shares = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return shares[:, similar] / shares.sum(axis=1)


class OnnxRuntime:
    """onnxruntime on the exported graph, its own BERT fusions applied, with tokenizers and a sorting loop."""

    def __init__(self, spec: Spec) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        self.spec = spec
        self.tokenizer = Tokenizer.from_file(str(Path(spec["model"]) / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(spec["max_length"])
        self.session = onnxruntime.InferenceSession(
            str(onnx_file(spec, spec["precision"])), providers=["CPUExecutionProvider"]
        )
        self.inputs = [node.name for node in self.session.get_inputs()]

    def many(self, inputs: list[Any]) -> Any:
        import numpy as np

        encoded = self.tokenizer.encode_batch(inputs)
        order = sorted(range(len(encoded)), key=lambda row: -len(encoded[row].ids))
        outputs: Any = None
        start = 0
        while start < len(order):
            width = len(encoded[order[start]].ids)
            rows = order[start : start + max(1, TOKEN_BUDGET // width)]
            start += len(rows)
            feed = {name: np.zeros((len(rows), width), np.int64) for name in self.inputs}
            for place, row in enumerate(rows):
                item = encoded[row]
                for name, values in (
                    ("input_ids", item.ids),
                    ("attention_mask", item.attention_mask),
                    ("token_type_ids", item.type_ids),
                ):
                    if name in feed:
                        feed[name][place, : len(values)] = values
            result = self._pool(self.session.run(None, feed)[0], [len(encoded[row].ids) for row in rows])
            if outputs is None:
                outputs = np.empty((len(order), *result.shape[1:]), np.float32)
            outputs[rows] = result
        if self.spec["task"] == "embed":
            return outputs
        if outputs.shape[1] == 1:
            return 1 / (1 + np.exp(-outputs[:, 0]))
        return probabilities(outputs, self.spec["similar"])

    def one(self, item: Any) -> Any:
        return self.many([item])

    def _pool(self, states: Any, lengths: list[int]) -> Any:
        import numpy as np

        if self.spec["task"] == "pair":
            return states
        if self.spec["pooling"] == "cls":
            return states[:, 0]
        real = np.arange(states.shape[1]) < np.asarray(lengths)[:, None]
        return (states * real[:, :, None]).sum(axis=1) / real.sum(axis=1, keepdims=True)

    @staticmethod
    def prepare(spec: Spec) -> None:
        SentenceTransformers.prepare({**spec, "backend": "onnx"})
        exported = backend_folder({**spec, "backend": "onnx"}) / "onnx" / "model.onnx"
        config = json.loads((Path(spec["model"]) / "config.json").read_text(encoding="utf-8"))
        fused = onnx_file(spec, "float32")
        if not fused.exists():
            from onnxruntime.transformers.optimizer import optimize_model

            model = optimize_model(
                str(exported),
                model_type="bert",
                num_heads=config["num_attention_heads"],
                hidden_size=config["hidden_size"],
            )
            model.save_model_to_file(str(fused))
        if spec["precision"] == "int8" and not onnx_file(spec, "int8").exists():
            from onnx import TensorProto
            from onnxruntime.quantization import QuantType, quantize_dynamic

            # ONNX infers no types behind the fused operators.
            options = {"DefaultTensorType": TensorProto.FLOAT}
            quantize_dynamic(
                fused, onnx_file(spec, "int8"), weight_type=QuantType.QInt8, extra_options=options
            )


def onnx_file(spec: Spec, precision: str) -> Path:
    return Path(spec["prepared"]) / f"fused-{spec['task']}-{precision}.onnx"


class MatrixProducts:
    """No model: the fastest products of large matrices this processor does, its practical limit.

    `many([])` returns GFLOP/s of one library and precision, the best of some tries.
    """

    def __init__(self, spec: Spec) -> None:
        rows, inner, columns = 2048, 768, 3072
        self.flops = 2 * rows * inner * columns
        self.product = self._openvino if spec["backend"] == "openvino" else self._numpy
        self.call = self.product(rows, inner, columns, spec["precision"])

    def many(self, inputs: list[Any]) -> Any:
        import numpy as np

        self.call()
        seconds = []
        for _ in range(20):
            start = time.perf_counter()
            self.call()
            seconds.append(time.perf_counter() - start)
        return np.array([self.flops / min(seconds) / 1e9], np.float32)

    def one(self, item: Any) -> Any:
        return self.many([])

    @staticmethod
    def _numpy(rows: int, inner: int, columns: int, precision: str) -> Callable[[], object]:
        import numpy as np

        rng = np.random.default_rng(0)
        left = rng.normal(size=(rows, inner)).astype(np.float32)
        right = rng.normal(size=(inner, columns)).astype(np.float32)
        out = np.empty((rows, columns), np.float32)
        return lambda: np.matmul(left, right, out=out)

    @staticmethod
    def _openvino(rows: int, inner: int, columns: int, precision: str) -> Callable[[], object]:
        import numpy as np

        if importlib.util.find_spec("jinyi"):  # without the telemetry of a plain import
            from jinyi.runtime.openvino_api import load_openvino

            openvino = load_openvino()
        else:
            import openvino

        rng = np.random.default_rng(0)
        ops = openvino.opset13
        states = ops.parameter([rows, inner], np.float32)
        weight = ops.constant(rng.normal(size=(columns, inner)).astype(np.float32))
        graph = openvino.Model([ops.matmul(states, weight, False, True)], [states])
        hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
        options = {"INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": "1"}
        request = openvino.Core().compile_model(graph, "CPU", options).create_infer_request()
        request.set_input_tensor(openvino.Tensor(rng.normal(size=(rows, inner)).astype(np.float32)))
        return lambda: request.infer()

    @staticmethod
    def prepare(spec: Spec) -> None:
        """Nothing is prepared."""


KINDS: dict[str, Any] = {
    "jinyi": Jinyi,
    "sentence-transformers": SentenceTransformers,
    "onnxruntime": OnnxRuntime,
    "products": MatrixProducts,
}


def serve(spec: Spec, answers: IO[str]) -> None:
    """Open the system, compute the first input, then answer requests until the pipe closes.

    Requests: {"load": FILE} reads {name: [input, ...]}; {"many": name, "save": FILE or null} computes all of them
    and answers seconds of clock and processor; {"one": name, "start", "stop"} computes them one by one and answers
    the seconds of each.
    """
    begin = time.perf_counter()
    system = KINDS[spec["kind"]](spec)
    opened = time.perf_counter()
    system.one(spec["first"])
    done = time.perf_counter()
    answer(answers, {"open": opened - begin, "first": done - opened})
    work: dict[str, list[Any]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            work = read_work(request["load"])
            answer(answers, {})
        elif "many" in request:
            cpu, clock = time.process_time(), time.perf_counter()
            outputs = system.many(work.get(request["many"], []))
            result = {"seconds": time.perf_counter() - clock, "cpu": time.process_time() - cpu}
            if request.get("save"):
                save(request["save"], outputs)
            answer(answers, result)
        else:
            inputs = work[request["one"]][request["start"] : request["stop"]]
            answer(answers, {"seconds": [seconds_of(system.one, item) for item in inputs]})


def read_work(file: str) -> dict[str, list[Any]]:
    """Read workloads; pairs become tuples, which every library takes."""
    work = json.loads(Path(file).read_text(encoding="utf-8"))
    return {
        name: [tuple(item) if isinstance(item, list) else item for item in items]
        for name, items in work.items()
    }


def seconds_of(call: Callable[[Any], Any], item: Any) -> float:
    start = time.perf_counter()
    call(item)
    return time.perf_counter() - start


def save(file: str, outputs: Any) -> None:
    import numpy as np

    np.save(file, np.asarray(outputs, np.float32))


def answer(answers: IO[str], body: dict[str, Any]) -> None:
    answers.write(json.dumps(body) + "\n")
    answers.flush()


def probe(names: list[str]) -> dict[str, Any]:
    """Versions of distributions (absent ones are left out) and MB of each with all it needs."""
    from importlib import metadata

    found: dict[str, Any] = {}
    for name in names:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        found[name] = {"version": version, "sizes": closure_sizes(name)}
    return found


def closure_sizes(root: str) -> dict[str, int]:
    """Bytes of a distribution and of everything it requires, by name; compiled .pyc files do not count."""
    from importlib import metadata

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    sizes: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(root, "")]
    while waiting:
        name, extra = waiting.pop()
        key = canonicalize_name(name)
        if (key, extra) in seen:
            continue
        seen.add((key, extra))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # required on other systems only
        if key not in sizes:
            sizes[key] = distribution_size(distribution)
        for text in distribution.requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(needed.name, part) for part in ("", *needed.extras)]
    return sizes


def distribution_size(distribution: Any) -> int:
    """Bytes of the installed files; of an editable install, those of the package it points to."""
    from importlib.util import find_spec

    files = [Path(distribution.locate_file(file)) for file in distribution.files or ()]
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        package = find_spec(distribution.name)
        places = package.submodule_search_locations if package is not None else None
        files += [file for place in places or () for file in Path(place).rglob("*")]
    return sum(file.stat().st_size for file in files if file.suffix != ".pyc" and file.is_file())


def main() -> None:
    # Libraries print to standard output; the answers have it for themselves.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    command, arguments = sys.argv[1], sys.argv[2:]
    if command == "probe":
        answer(answers, probe(arguments))
        return
    spec = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    if isinstance(spec["first"], list):
        spec["first"] = tuple(spec["first"])
    if command == "prepare":
        KINDS[spec["kind"]].prepare(spec)
        answer(answers, {})
    else:
        serve(spec, answers)


if __name__ == "__main__":
    main()
