"""The parts of the tiny models' recipe that can go wrong without anyone noticing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parent.parent / "recipes" / "tiny"))
import common  # noqa: E402
import embed  # noqa: E402
import pair  # noqa: E402
import pretrain  # noqa: E402
import shards  # noqa: E402
import topic  # noqa: E402

from jinyi.runtime.torch_encoder import TorchEncoder  # noqa: E402


def test_whole_words_are_masked_or_left() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(100, 200, (64, 30)).astype(np.int64)
    starts = rng.random((64, 30)) < 0.6
    inputs, places, answers = pretrain.mask_words(ids, starts, 0.2, rng)
    assert (
        inputs.shape == (64, 32)
        and (inputs[:, 0] == pretrain.CLS).all()
        and (inputs[:, -1] == pretrain.SEP).all()
    )
    chosen = places[:, 1:-1]
    assert not places[:, 0].any() and not places[:, -1].any()
    same_word = ~starts[:, 1:]
    assert (chosen[:, 1:][same_word] == chosen[:, :-1][same_word]).all()
    assert (answers == ids[chosen]).all() and (inputs[:, 1:-1][~chosen] == ids[~chosen]).all()
    assert 0.15 < chosen.mean() < 0.25
    assert 0.7 < (inputs[:, 1:-1][chosen] == pretrain.MASK).mean() < 0.9


def test_batches_hold_one_length_and_every_line() -> None:
    lengths = np.random.default_rng(0).integers(4, 12, 300)
    bounds = np.concatenate(([0], np.cumsum(lengths)))
    shard = {"ids": np.arange(bounds[-1]) % 60_000, "starts": np.ones(bounds[-1], bool), "bounds": bounds}
    seen = 0
    for ids, starts in pretrain.batches(shard, 40, 0):
        assert ids.shape == starts.shape and len(ids) * (ids.shape[1] + 2) <= 60
        seen += len(ids)
        if seen >= 250:
            break


@pytest.mark.parametrize("done", [0, 3, 200])
def test_a_resumed_run_sees_the_same_batches(done: int) -> None:
    bounds = np.arange(0, 1001, 5)
    shard = {"ids": np.arange(1000), "starts": np.ones(1000, bool), "bounds": bounds}
    whole = [ids for (ids, _), _ in zip(pretrain.batches(shard, 21, 0), range(done + 4), strict=False)]
    rest = [ids for (ids, _), _ in zip(pretrain.batches(shard, 21, done), range(4), strict=False)]
    assert all((a == b).all() for a, b in zip(whole[done:], rest, strict=True))


def test_the_last_layer_starts_as_mean_pooling() -> None:
    torch.manual_seed(0)
    encoder = TorchEncoder(pretrain.TINY).eval()
    embed.start_pooling(encoder)
    ids = torch.randint(21, 8000, (4, 12))
    lengths = torch.tensor([12, 9, 5, 12])
    with torch.no_grad():
        states = encoder(ids, lengths)
        first = common.pool(states[-1], lengths, "cls")
        mean = common.pool(states[-2], lengths, "mean")
        # What [CLS] itself adds is small; what the feed-forward layer adds too.
        assert torch.nn.functional.cosine_similarity(first, mean).min() > 0.95
        other = common.pool(states[-2], None, "mean")
        assert torch.allclose(mean[0], other[0], atol=1e-6) and not torch.allclose(
            mean[2], other[2], atol=1e-3
        )


def test_learning_rate_warms_up_stays_and_decays() -> None:
    rates = [pretrain.learning_rate(1.0, done) for done in (0.0, 0.01, 0.02, 0.3, 0.6, 0.8, 1.0)]
    assert rates == pytest.approx([0.01, 0.51, 1.0, 1.0, 1.0, 0.5, 0.0])


def test_first_heads_look_at_neighbours_at_the_start() -> None:
    torch.manual_seed(0)
    encoder = TorchEncoder(pretrain.TINY).eval()
    pretrain.start(encoder, torch.randn(pretrain.TINY.vocab_size, pretrain.TINY.hidden_size))
    own = encoder.encoder.layer[0].attention.self
    heads = pretrain.TINY.num_attention_heads
    with torch.no_grad():
        states = encoder.embeddings(torch.randint(21, 8000, (1, 24)), None, None)
        query, key = (f(states).view(24, heads, -1).transpose(0, 1) for f in (own.query, own.key))
        weights = (query @ key.transpose(1, 2) / query.shape[-1] ** 0.5).softmax(-1)
    for head, offset in enumerate(pretrain.OFFSETS):
        assert (weights[head, 4:20].argmax(-1) == torch.arange(4, 20) + offset).float().mean() > 0.9


def test_long_lines_are_cut_at_sentence_ends_and_nothing_is_lost() -> None:
    text = "今天天气很好。" * 40 + "没有句号的一长串" * 30
    parts = shards.pieces(text)
    assert "".join(parts) == text and max(map(len, parts)) <= shards.LONGEST
    assert parts[0].endswith("。")


def test_cosent_against_the_sum_it_stands_for() -> None:
    rng = np.random.default_rng(0)
    cosines, labels = rng.uniform(-1, 1, 9), rng.integers(0, 3, 9).astype(float)
    total = sum(
        np.exp(20 * (cosines[j] - cosines[i])) for i in range(9) for j in range(9) if labels[i] > labels[j]
    )
    got = embed.cosent(torch.tensor(cosines), torch.tensor(labels))
    assert got.item() == pytest.approx(np.log1p(total), abs=1e-8)


def test_info_nce_masks_equal_texts_only() -> None:
    torch.manual_seed(0)
    unit = [torch.nn.functional.normalize(torch.randn(n, 8, dtype=torch.float64), dim=-1) for n in (3, 3, 1)]
    a, b, negative = unit
    distinct = (torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6]), torch.tensor([7]))
    logits = 20 * a @ torch.cat((b, negative)).T
    plain = torch.nn.functional.cross_entropy(logits, torch.arange(3))
    assert embed.info_nce(a, b, negative, *distinct).item() == pytest.approx(plain.item(), abs=1e-9)
    twins = (torch.tensor([1, 2, 3]), torch.tensor([4, 4, 6]), torch.tensor([1]))  # b0 = b1, negative = a0
    logits[0, 1] = logits[1, 0] = logits[0, 3] = -1e4
    masked = torch.nn.functional.cross_entropy(logits, torch.arange(3))
    assert embed.info_nce(a, b, negative, *twins).item() == pytest.approx(masked.item(), abs=1e-9)


def test_supcon_against_its_definition() -> None:
    torch.manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(5, 4, dtype=torch.float64), dim=-1)
    labels = torch.tensor([0, 1, 0, 2, 1])
    losses = []
    for i in range(5):
        others = [j for j in range(5) if j != i]
        partners = [j for j in others if labels[j] == labels[i]]
        if partners:
            total = sum(torch.exp(20 * z[i] @ z[j]) for j in others)
            losses.append(
                -sum(torch.log(torch.exp(20 * z[i] @ z[p]) / total) for p in partners) / len(partners)
            )
    assert topic.supcon(z, labels).item() == pytest.approx(float(sum(losses) / len(losses)), abs=1e-8)


def test_padded_rows_and_buckets() -> None:
    ids, lengths = common.pad([[5, 6, 7], [8]])
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]] and lengths.tolist() == [3, 1]
    assert common.pad([[1, 2], [3, 4]])[1] is None
    plan = common.bucketed(np.random.default_rng(0).integers(1, 50, 103), 16, np.random.default_rng(1))
    assert sorted(np.concatenate(plan).tolist()) == list(range(103))


def test_matching_heads_find_the_same_token_on_the_other_side() -> None:
    torch.manual_seed(0)
    encoder = TorchEncoder(pretrain.TINY).eval()
    pretrain.start(encoder, torch.randn(pretrain.TINY.vocab_size, pretrain.TINY.hidden_size))
    pair.start_matching(encoder)
    words = torch.randint(21, 8000, (10,))
    ids = torch.cat((words, words.flip(0)))[None]
    segments = (torch.arange(20) >= 10).long()[None]
    own = encoder.encoder.layer[0].attention.self
    heads = pretrain.TINY.num_attention_heads
    with torch.no_grad():
        states = encoder.embeddings(ids, segments, None)
        query, key = (f(states).view(20, heads, -1).transpose(0, 1) for f in (own.query, own.key))
        found = (query @ key.transpose(1, 2)).argmax(-1)[6:10]
    assert (found == torch.arange(19, -1, -1)).float().mean() > 0.8
