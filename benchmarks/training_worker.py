"""One way of training in a process of its own, driven over pipes by training.py.

    python training_worker.py serve SPEC     set up, train one step, then answer requests line by line

Keys of a SPEC: kind ("jinyi", "trainer" or "products"), task ("mlm" or "pair"), precision, work (folder with what
training.py wrote: tokenizer.json, shards, pairs.jsonl, rows.npz), shape (sizes of the encoder), rows (of an optimiser
step), accumulate, grouped, device, threads. Request {"steps": n, "round": r}: train n steps after one that does not
count; answers seconds, processor seconds, real tokens, and the losses of the first and the last of them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np

LENGTH = 128  # most tokens of an input
MASKED = 0.15
RATE = 5e-5  # the Trainer's default, for all
MANY = 100_000  # steps of the schedules; none is that long

Spec = dict[str, Any]


class Jinyi:
    """jinyi's loop on a recipe, with batches, masks, clipping and optimiser as `jinyi train` has them."""

    def __init__(self, spec: Spec) -> None:
        from jinyi.train.build import build_task
        from jinyi.train.recipe import Machine
        from jinyi.train.run import loop
        from jinyi.train.run.machine import open_machine

        device = spec["device"]
        precision = "bf16" if spec["precision"] == "bfloat16" else "float32"
        machine = Machine(precision=precision, threads=spec["threads"], device=device)
        recipe = recipe_of(spec, machine)
        self._machine = open_machine(machine)
        accelerator = self._machine.__enter__()  # open as long as the process lives
        task = build_task(recipe)
        self._reports = loop.steps(task, recipe, accelerator, loop.start(task, recipe, accelerator))
        self._wait = waiter(device)

    def train(self, count: int, number: int) -> dict[str, Any]:
        next(self._reports)
        self._wait()
        clock, cpu = time.perf_counter(), time.process_time()
        reports = [next(self._reports) for _ in range(count)]
        self._wait()
        return {
            "seconds": time.perf_counter() - clock,
            "cpu": time.process_time() - cpu,
            "tokens": sum(report.tokens for report in reports),
            "losses": [reports[0].loss, reports[-1].loss],
        }


def recipe_of(spec: Spec, machine: Any) -> Any:
    from jinyi.train.recipe import (
        Batch,
        Data,
        Optimizer,
        PairObjective,
        PretrainObjective,
        Recipe,
        Schedule,
        Source,
        Start,
    )

    mlm = spec["task"] == "mlm"
    objective = PretrainObjective(rate=MASKED, units="tokens") if mlm else PairObjective(outputs=2)
    return Recipe(
        name="benchmark",
        task="pretrain" if mlm else "pair",
        data=Data(
            train=(Source(file="shards" if mlm else "pairs.jsonl"),), folder=spec["work"], max_length=LENGTH
        ),
        start=Start(config=spec["shape"], tokenizer=str(Path(spec["work"]) / "tokenizer.json")),
        batch=Batch(rows=spec["rows"], accumulate=spec["accumulate"], bucket=spec["grouped"]),
        schedule=Schedule(steps=MANY, warmup=0),
        objective=objective,
        optimizer=Optimizer(lr=RATE, weight_decay=0.0, clip=1.0),
        machine=machine,
    )


class HuggingFace:
    """transformers' Trainer and BERT on the same rows, with its own collators."""

    def __init__(self, spec: Spec) -> None:
        import torch
        import transformers

        torch.set_num_threads(spec["threads"])
        transformers.logging.set_verbosity_error()
        self.spec = spec
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(Path(spec["work"]) / "tokenizer.json"),
            **{f"{name.lower()}_token": f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP", "MASK")},
        )
        config = transformers.BertConfig(vocab_size=len(tokenizer), **spec["shape"])
        torch.manual_seed(0)
        rows = read_rows(spec)
        if spec["task"] == "mlm":
            self.model: Any = transformers.BertForMaskedLM(config)
            self.collator: Any = transformers.DataCollatorForLanguageModeling(
                tokenizer, mlm_probability=MASKED
            )
        else:
            self.model = transformers.BertForSequenceClassification(config)
            self.collator = transformers.DataCollatorWithPadding(tokenizer)
        self.rows = rows
        self.wait = waiter(spec["device"])

    def train(self, count: int, number: int) -> dict[str, Any]:
        import transformers

        spec, ends = self.spec, Ends(self.wait, self.model)
        options: dict[str, Any] = {}
        if spec["precision"] == "bfloat16":
            options = {"bf16": True, "optim": "adamw_torch_fused"}
        if spec["grouped"]:
            options["train_sampling_strategy"] = "group_by_length"
        trainer = transformers.Trainer(
            model=self.model,
            args=transformers.TrainingArguments(
                output_dir=str(Path(spec["work"]) / "trainer"),
                per_device_train_batch_size=spec["rows"] // spec["accumulate"],
                gradient_accumulation_steps=spec["accumulate"],
                max_steps=count + 1,
                learning_rate=RATE,
                seed=number,
                use_cpu=spec["device"] == "cpu",
                report_to="none",
                save_strategy="no",
                logging_strategy="steps",
                logging_steps=1,
                disable_tqdm=True,
                **options,
            ),
            train_dataset=self.rows,
            data_collator=self.collator,
            callbacks=[ends.callback()],
        )
        trainer.train()
        ends.hook.remove()
        # It logs the sum over the parts of a step.
        losses = [
            entry["loss"] / spec["accumulate"] for entry in trainer.state.log_history if "loss" in entry
        ]
        return {**ends.measured(), "losses": [losses[1], losses[-1]]}


class Ends:
    """Clock and real tokens from the end of a Trainer's first step to that of its last."""

    def __init__(self, wait: Any, model: Any) -> None:
        self.wait = wait
        self.tokens = 0
        self.marks: list[tuple[float, float, int]] = []
        self.hook = model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, model: Any, arguments: Any, options: dict[str, Any]) -> None:
        # Summed on the processor's side where the batch is; no more than what the Trainer does itself.
        self.tokens += int(options["attention_mask"].sum())

    def callback(self) -> Any:
        import transformers

        ends = self

        class Callback(transformers.TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                if state.global_step in (1, state.max_steps):
                    ends.wait()
                    ends.marks.append((time.perf_counter(), time.process_time(), ends.tokens))

        return Callback()

    def measured(self) -> dict[str, Any]:
        (clock, cpu, tokens), (clock_end, cpu_end, tokens_end) = self.marks
        return {"seconds": clock_end - clock, "cpu": cpu_end - cpu, "tokens": tokens_end - tokens}


def read_rows(spec: Spec) -> list[dict[str, Any]]:
    """Tokenised rows as training.py wrote them; the collators pad and mask."""
    found = np.load(Path(spec["work"]) / "rows.npz")
    if spec["task"] == "mlm":
        return [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in found["mlm"].tolist()]
    bounds, ids = found["bounds"], found["pairs"]
    rows = []
    for row, split in enumerate(found["splits"].tolist()):
        own = ids[bounds[row] : bounds[row + 1]].tolist()
        kinds = [0] * split + [1] * (len(own) - split)
        rows.append(
            {
                "input_ids": own,
                "token_type_ids": kinds,
                "attention_mask": [1] * len(own),
                "labels": int(found["labels"][row]),
            }
        )
    return rows


class Products:
    """No model: PyTorch's largest matrix products on an accelerator, as its practical limit."""

    def __init__(self, spec: Spec) -> None:
        import torch

        kind = {"float32": torch.float32, "bfloat16": torch.bfloat16}[spec["precision"]]
        self.left, self.right = (torch.randn(8192, 8192, device=spec["device"], dtype=kind) for _ in "ab")
        self.wait = waiter(spec["device"])

    def train(self, count: int, number: int) -> dict[str, Any]:
        seconds = []
        for _ in range(20):
            self.wait()
            clock = time.perf_counter()
            _ = self.left @ self.right
            self.wait()
            seconds.append(time.perf_counter() - clock)
        return {"gflops": 2 * 8192**3 / min(seconds) / 1e9}


def waiter(device: str) -> Any:
    """A function that waits until the device has done what it was given."""
    import torch

    return torch.cuda.synchronize if device == "cuda" else lambda: None


KINDS: dict[str, Any] = {"jinyi": Jinyi, "trainer": HuggingFace, "products": Products}


def serve(spec: Spec, answers: IO[str]) -> None:
    begin = time.perf_counter()
    system = KINDS[spec["kind"]](spec)
    opened = time.perf_counter()
    system.train(1, 0)
    answer(answers, {"open": opened - begin, "first": time.perf_counter() - opened})
    for line in sys.stdin:
        request = json.loads(line)
        answer(answers, system.train(request["steps"], request["round"]))


def answer(answers: IO[str], body: dict[str, Any]) -> None:
    answers.write(json.dumps(body) + "\n")
    answers.flush()


def main() -> None:
    # Libraries print to standard output; the answers have it for themselves.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")), answers)


if __name__ == "__main__":
    main()
