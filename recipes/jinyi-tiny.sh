#!/usr/bin/env bash
# The shipped models from a folder of data, on two processor cores:
#
#   bash recipes/jinyi-tiny.sh DATA [OPTIONS of every `jinyi train`]
#
# DATA holds the sets that the six recipes name, tnews/unlabeled.jsonl, and corpus/ with the raw text listed here.
# Vocabulary and shards are made in DATA/shards, pairs of raw text in DATA/lexical, everyday ones in DATA/everyday,
# DATA/opposites and DATA/contrast, pairs labelled by models in DATA/taught, rows for topics in DATA/pseudo,
# DATA/keywords, DATA/titles and DATA/shortened, runs in ./runs: runs/jinyi-tiny-embed/last and so on are the models.
# A stopped script goes on where it was when it is started again. The environment variable TAUGHT is the number of
# pairs of questions that models label, 200,000 if it is not set; those of raw text follow it. EACH is the number of
# pairs drawn for either label of an intent, 25 if it is not set; a line of opposites has twice that number, of both
# labels together. SEEDS are those of the last stage of vectors, pairs and topics, "1 2 3" if it is not set: the
# models are the mean of their weights.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=$1
shift
shards=${SHARDS:-$data/shards}
text=$shards/jinyi-tiny.txt

# Characters of each source at --scale 1, leaning towards everyday language. Left out because of their terms:
# simclue_corpus (shares sentences with OCNLI and CMNLI), dl500 (GPL-3.0).
mix=(
    task_texts=9000000 zhihu_hot=1500000 baidu_hot=600000 site_titles=600000 weibo_hot=600000 finance=700000
    medical_qa=800000 kdconv=400000 crosswoz=200000 nlpcc_kbqa=300000 kgclue=300000 zhihu_search=300000 sms=400000
    subtitles=700000 forum_posts=600000 news_briefs=300000 reviews=500000 sohu=400000 chid=300000
    cluecorpussmall=500000 cmrc2018=400000 smile=300000 cctv_news=400000 peoples_daily=300000 car_reviews=300000
    tatoeba=200000 egret_qa=100000 instructions=100000 howtocook=100000 weibo_comments=400000 dotnet_docs=200000
    histories=200000 laws=100000
)

mkdir -p "$shards"
if [ ! -e "$text" ]; then
    takes=()
    for part in "${mix[@]}"; do takes+=(--take "$data/corpus/${part%=*}.txt.xz=${part#*=}"); done
    jinyi corpus mix "${takes[@]}" --documents lines --scale 3 --output "$text"
fi
if [ ! -e "$shards/jinyi-tiny-vocabulary/tokenizer.json" ]; then
    jinyi vocab build --input "$text" --size 8000 --output "$shards/jinyi-tiny-vocabulary"
fi
if [ ! -e "$shards/jinyi-tiny" ]; then
    jinyi corpus shard --input "$text" --documents lines --longest 126 \
        --tokenizer "$shards/jinyi-tiny-vocabulary/tokenizer.json" --output "$shards/jinyi-tiny"
fi
# Sentences of raw text with the share of their characters that they have in common, for the vectors.
if [ ! -e "$data/lexical/train.jsonl" ]; then
    mkdir -p "$data/lexical"
    takes=()
    for part in baidu_hot cctv_news news_briefs finance peoples_daily cmrc2018 subtitles forum_posts tatoeba; do
        takes+=("$data/corpus/$part.txt.xz")
    done
    python "$here/lexical_pairs.py" --rows 120000 --seed 1 "${takes[@]}" > "$data/lexical/train.jsonl.part"
    mv "$data/lexical/train.jsonl.part" "$data/lexical/train.jsonl"
fi
# Everyday sentences from patterns of our own; those that models are measured by stay out.
each=${EACH:-25}
measured=(--without "$here/../benchmarks/everyday.jsonl" --without "$here/../benchmarks/opposites.jsonl")
if [ ! -e "$data/everyday/train.jsonl" ]; then
    mkdir -p "$data/everyday"
    python "$here/everyday_pairs.py" "$here"/everyday/*.txt --each "$each" "${measured[@]}" \
        > "$data/everyday/train.jsonl.part"
    mv "$data/everyday/train.jsonl.part" "$data/everyday/train.jsonl"
fi
# Plain statements with opposites, from lists of our own.
if [ ! -e "$data/opposites/train.jsonl" ]; then
    mkdir -p "$data/opposites"
    python "$here/opposite_pairs.py" "$here"/opposites/*.txt --each "$((2 * each))" "${measured[@]}" \
        > "$data/opposites/train.jsonl.part"
    mv "$data/opposites/train.jsonl.part" "$data/opposites/train.jsonl"
fi
# Sentences in which one word decides, or none.
if [ ! -e "$data/contrast/train.jsonl" ]; then
    mkdir -p "$data/contrast"
    takes=()
    for part in tatoeba crosswoz kdconv subtitles zhihu_search news_briefs reviews; do
        takes+=("$data/corpus/$part.txt.xz")
    done
    python "$here/contrast_pairs.py" --rows 60000 --pairs \
        "$data"/{afqmc,atec,bq,covid_pairs}/train.jsonl.xz "$data"/{lcqmc,oppo_xiaobu,bustm,stsb}/train.jsonl \
        "$data"/{qbqtc,snli_zh}/train.jsonl.xz --texts "${takes[@]}" > "$data/contrast/train.jsonl.part"
    mv "$data/contrast/train.jsonl.part" "$data/contrast/train.jsonl"
fi
# Data with its stated terms and limits, for the model cards.
card=$(python -c 'import json, pathlib, sys; print(json.dumps(pathlib.Path(sys.argv[1]).read_text("utf-8")))' \
    "$here/jinyi-tiny-card.md")
train() { jinyi train "$here/jinyi-tiny-$1.yaml" --data "$data" --resume --set "output.card=$card" "${@:2}"; }
# The last stage of a model: a run for each seed, and their mean.
read -ra seeds <<< "${SEEDS:-1 2 3}"
train_seeds() {
    local seed parts=()
    if [ ${#seeds[@]} = 1 ]; then
        train "$@" --set "seed=${seeds[0]}"
        return
    fi
    for seed in "${seeds[@]}"; do
        train "$@" --run "runs/jinyi-tiny-$1/seed$seed" --set "seed=$seed"
        parts+=("runs/jinyi-tiny-$1/seed$seed/last")
    done
    jinyi average "${parts[@]}" --name "jinyi-tiny-$1" --card "$here/jinyi-tiny-card.md" --overwrite \
        --output "runs/jinyi-tiny-$1/last"
}

train pretrain "$@"
train embed-labelled "$@"
train pair-labelled "$@"
# What scorer and vectors say together of labelled pairs, of sentences near each other and of raw text.
taught() {
    if [ -e "$data/taught/$1.jsonl" ]; then return; fi
    mkdir -p "$data/taught"
    python "$here/taught_pairs.py" --scorer runs/jinyi-tiny-pair-labelled/last \
        --vectors runs/jinyi-tiny-embed-labelled/last \
        --dev "$data"/{afqmc,atec,bq,lcqmc,oppo_xiaobu,covid_pairs}/dev.jsonl "${@:2}" > "$data/taught/$1.jsonl.part"
    mv "$data/taught/$1.jsonl.part" "$data/taught/$1.jsonl"
}
taught=${TAUGHT:-200000}
questions=(
    "$data"/{afqmc,atec,atec_ccks,bq,covid_pairs}/train.jsonl.xz "$data"/{lcqmc,oppo_xiaobu,bustm}/train.jsonl
)
taught labelled --labelled "${questions[@]}"
taught near --texts "${questions[@]}" "$data/qbqtc/train.jsonl.xz" --triplets "$data/triclue/train.jsonl.xz" \
    --rows "$taught" --seed 1
taught lexical --pairs "$data/lexical/train.jsonl=$((taught / 4))" "$data/snli_zh/train.jsonl.xz" "$data/pawsx/train.jsonl"
taught news --texts "$data/lexical/train.jsonl=$((taught / 4))" "$data/snli_zh/train.jsonl.xz" "$data/stsb/train.jsonl" \
    "$data/pawsx/train.jsonl" --rows "$((taught / 5))" --seed 2
train_seeds embed "$@"
train_seeds pair "$@"
# Titles that nobody has labelled, with the topics that n-grams and the encoder's vectors say. FewCLUE's are scored.
if [ ! -e "$data/pseudo/tnews.jsonl" ]; then
    mkdir -p "$data/pseudo"
    without=(--without "$data/tnews/dev.jsonl")
    for part in dev_few_all.json test.json; do
        if [ -e "$data/fewclue/tnews/$part" ]; then without+=(--without "$data/fewclue/tnews/$part"); fi
    done
    titles=(site_titles=80000 weibo_hot=110000 zhihu_hot=70000 baidu_hot=50000 zhihu_search=10000 news_briefs=8000)
    python "$here/pseudo_labels.py" --train "$data/tnews/train.jsonl.xz" "${without[@]}" \
        --model runs/jinyi-tiny-pretrain/last "$data/tnews/unlabeled.jsonl" \
        $(for part in "${titles[@]}"; do echo "$data/corpus/${part%=*}.txt.xz=${part#*=}"; done) \
        > "$data/pseudo/tnews.jsonl.part"
    mv "$data/pseudo/tnews.jsonl.part" "$data/pseudo/tnews.jsonl"
fi
# Keywords of the labelled titles, alone and behind them.
mkdir -p "$data/keywords" "$data/titles"
python "$here/keyword_rows.py" "$data/tnews/train.jsonl.xz" > "$data/keywords/tnews.jsonl"
python "$here/keyword_rows.py" "$data/tnews/train.jsonl.xz" --with-text > "$data/titles/tnews.jsonl"
mkdir -p "$data/shortened"
for set in csldcp iflytek; do
    python "$here/shortened_texts.py" "$data/$set/train.jsonl.xz" --copies 4 > "$data/shortened/$set.jsonl"
done
train_seeds topic "$@"

# Ranges for 8-bit arithmetic, and what it costs on dev.
samples() { for set in "$@"; do echo --samples "$data/$set"; done; }
dev() { for set in "$@"; do echo --data "$set=$data/$set/dev.jsonl"; done; }
pairs=(afqmc/train.jsonl.xz bq/train.jsonl.xz lcqmc/train.jsonl stsb/train.jsonl)
# shellcheck disable=SC2046  # the names have no blanks
{
    jinyi quantize -m runs/jinyi-tiny-embed/last $(samples "${pairs[@]}") $(dev atec bq lcqmc pawsx afqmc stsb)
    jinyi quantize -m runs/jinyi-tiny-pair/last $(samples "${pairs[@]}") $(dev atec bq lcqmc pawsx afqmc)
    jinyi quantize -m runs/jinyi-tiny-topic/last $(samples {tnews,csldcp,iflytek}/train.jsonl.xz) $(dev tnews) \
        --data "csldcp=$data/csldcp/dev.jsonl.xz" --data "iflytek=$data/iflytek/dev.jsonl.xz"
}

# P(similar) that holds, and thresholds. PAWS-X is left out: the model cannot tell its pairs apart.
# shellcheck disable=SC2046
jinyi calibrate -m runs/jinyi-tiny-pair/last $(dev afqmc atec bq lcqmc oppo_xiaobu covid_pairs)
