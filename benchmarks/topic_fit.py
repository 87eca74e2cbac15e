"""`TopicClassifier.fit` with a few labelled texts of each class: its options beside each other, several draws.

    python benchmarks/topic_fit.py DATA/cic DATA/thucnews_titles --each 4,16,all --fit "" --fit C=1 --draws 3

A set is a folder with `train`, `dev` and, where label words shall count, `labels.json`, as `jinyi evaluate topics`
reads it. A draw takes so many training texts of each class (all of a class that has fewer) by its number, the same ones
for all options. `--fit` holds options of `TopicClassifier` as NAME=VALUE, blanks between them; "" is what users get.
Printed: accuracy x100 on the dev rows, mean and standard deviation over the draws, then the log loss, and what was
chosen: C and the weight of the label words.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from command import write_result
from report import mean_cell, table

from jinyi import TopicClassifier
from jinyi.evals.topic_data import TopicData, TopicRows, read_topic_data


def options_of(text: str) -> dict[str, Any]:
    """{"C": 1.0} for "C=1"; numbers where they are some."""
    found: dict[str, Any] = {}
    for part in text.split():
        name, _, value = part.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = value
    return found


def drawn(rows: TopicRows, each: int | None, seed: int) -> npt.NDArray[np.int64]:
    """Places of up to `each` texts of every class, by chance; all without it."""
    order = np.random.default_rng(seed).permutation(len(rows))
    if each is None:
        return order
    kept = [order[rows.targets[order] == target][:each] for target in np.unique(rows.targets)]
    return np.concatenate(kept)


def run(data: TopicData, model: str, options: dict[str, Any], each: int | None, seed: int) -> dict[str, Any]:
    """Fit on one draw; scores on the set's dev rows."""
    (fold,) = data.choose(None)
    if fold.train is None:
        raise SystemExit(f"{data.name}: no training rows")
    places = drawn(fold.train, each, seed)
    words = {"labels": data.labels.by_word} if data.labels.words else {}
    if data.labels.prompts:
        words["prompt"] = data.labels.prompts[0]
    classifier = TopicClassifier.load(model, **{**words, **options})
    classifier.fit([fold.train.texts[place] for place in places], fold.train.targets[places].tolist())
    proba = classifier.predict_proba(fold.scored.texts, show_progress=False)
    column = {label: place for place, label in enumerate(classifier.classes_.tolist())}
    right = np.array([column.get(target, -1) for target in fold.scored.targets.tolist()])
    given = proba[np.arange(len(right)), right][right >= 0]
    return {
        "accuracy": 100 * float(np.mean(proba.argmax(axis=1) == right)),
        "loss": float(-np.log(np.maximum(given, np.finfo(np.float32).tiny)).mean()),
        "texts": len(places),
        "C": classifier.C_,
        "word_weight": classifier.state().get("word_weight", 0.0),
    }


def row_of(name: str, each: int | None, fit: str, done: list[dict[str, Any]]) -> list[str]:
    chosen = ", ".join(f"{one['C']:g}" if one["C"] else "" for one in done)
    weights = ", ".join(f"{one['word_weight']:.2f}" for one in done)
    scores = mean_cell([one["accuracy"] for one in done], 1), mean_cell([one["loss"] for one in done], 2)
    return [name, "all" if each is None else str(each), fit or "default", *scores, chosen, weights]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--model", default="jinyi-tiny-topic")
    parser.add_argument("--each", default="4,16", help="texts of a class, commas between; all takes all")
    parser.add_argument("--fit", action="append", help="options of a fit; repeatable")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write every run here")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # texts that are cut: said by `jinyi evaluate topics`
    rows, runs = [], []
    for place in args.sets:
        data = read_topic_data(place)
        for each in [None if each == "all" else int(each) for each in args.each.split(",")]:
            for fit in args.fit or [""]:
                options = options_of(fit)
                draws = range(1 if each is None else args.draws)
                done = [run(data, args.model, options, each, seed) for seed in draws]
                rows.append(row_of(data.name, each, fit, done))
                runs += [{"set": data.name, "each": each, "fit": fit, **one} for one in done]
                print("  ".join(rows[-1]), flush=True)
                write_result(args.json, {"model": args.model, "runs": runs})
    header = ["set", "texts of a class", "fit", "accuracy", "log loss", "C", "weight of words"]
    print(f"\n{args.model}; draws 0 to {args.draws - 1}.\n\n{table(header, rows)}")


if __name__ == "__main__":
    main()
