#!/usr/bin/env bash
# The shipped models from a folder of data, in about two hours on two processor cores:
#
#   bash recipes/jinyi-tiny.sh DATA [OPTIONS of every `jinyi train`]
#
# DATA holds the sets that the four recipes name, and corpus/ with the raw text that recipes/tiny/data.py lists.
# Vocabulary and shards are made in DATA/shards, runs in ./runs: runs/jinyi-tiny-embed/best and so on are the
# models. A stopped script goes on where it was when it is started again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=$1
shift
text=$data/shards/jinyi-tiny.txt

mkdir -p "$data/shards"
if [ ! -e "$text" ]; then
    PYTHONPATH=$here/tiny python -c '
import sys, data, pathlib
for line in data.corpus(pathlib.Path(sys.argv[1])): print(line)
' "$data" > "$text.part"
    mv "$text.part" "$text"
fi
if [ ! -e "$data/shards/jinyi-tiny-vocabulary/tokenizer.json" ]; then
    jinyi vocab build --input "$text" --size 8000 --output "$data/shards/jinyi-tiny-vocabulary"
fi
if [ ! -e "$data/shards/jinyi-tiny" ]; then
    jinyi corpus shard --input "$text" --documents lines --longest 126 \
        --tokenizer "$data/shards/jinyi-tiny-vocabulary/tokenizer.json" --output "$data/shards/jinyi-tiny"
fi
for name in pretrain embed pair topic; do
    jinyi train "$here/jinyi-tiny-$name.yaml" --data "$data" --resume "$@"
done
