"""The linear model on vectors and n-grams: sparse rows, TF-IDF and the least squares fit, against scikit-learn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from jinyi.models import joint_head, ngrams
from jinyi.models.heads import left_out_rows, softmax
from jinyi.models.joint_head import JointHead
from jinyi.models.logistic import fit_logistic
from jinyi.models.ngrams import NgramWeights, SparseRows, find_ngrams, stack

VOCAB = 30


def random_ids(count: int, seed: int = 0, length: int = 12) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [[2, *rng.integers(5, VOCAB, rng.integers(0, length)).tolist(), 3] for _ in range(count)]


def ngrams_of(ids: list[list[int]], lead: bool = True) -> SparseRows:
    return find_ngrams([row[1:-1] for row in ids], VOCAB, lead=lead)


def dense(rows: SparseRows) -> np.ndarray:
    table = np.zeros((len(rows), rows.width), np.float32)
    np.add.at(table, (np.repeat(np.arange(len(rows)), np.diff(rows.starts)), rows.columns), rows.values)
    return table


def test_weights_are_scikit_learns_by_what_they_say_of_the_class() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    ids = random_ids(200)
    targets = np.random.default_rng(1).choice(4, 200, p=[0.6, 0.3, 0.1, 0.0])  # the last one has no text
    words = [" ".join(f"t{token}" for token in row[1:-1]) for row in ids]
    theirs = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, norm=None)
    table = theirs.fit_transform(words).toarray()
    prior = np.bincount(targets, minlength=4)[:3] / 200
    with_it = np.eye(4)[targets].T[:3] @ (table > 0)
    share = (with_it + prior[:, None]) / (with_it.sum(0) + 1)
    said = (share * np.log(share / prior[:, None])).sum(0) / np.log(4)
    expected = table * (0.5 + said)
    expected /= np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1e-9)
    grams = ngrams_of(ids, lead=False)
    weights = NgramWeights.fit(grams, targets, 4, most=10**6)
    ours = dense(weights.transform(grams))
    names = {f"t{token}": token for token in range(VOCAB)}
    keys = []
    for name in theirs.get_feature_names_out():
        parts = [names[part] for part in name.split()]
        keys.append(parts[0] if len(parts) == 1 else (parts[0] + 1) * VOCAB + parts[1])
    assert sorted(keys) == weights.keys.tolist()
    assert np.allclose(ours[:, np.searchsorted(weights.keys, keys)], expected, atol=1e-6)
    assert said.min() >= 0 and said.max() > 5 * said.mean() / 4


def test_the_most_frequent_ngrams_stay() -> None:
    grams = ngrams_of(random_ids(200))
    targets = np.arange(200) % 3
    _, texts = np.unique(grams.columns, return_counts=True)
    kept = NgramWeights.fit(grams, targets, 3, most=20)
    assert len(kept.keys) == 20 and (np.diff(kept.keys) > 0).all()
    frequent = np.bincount(grams.columns, minlength=grams.width)[kept.keys]
    assert sorted(frequent, reverse=True) == sorted(texts, reverse=True)[:20]
    everything = NgramWeights.fit(grams, targets, 3, most=10**6)
    assert np.array_equal(kept.worth, everything.worth[np.isin(everything.keys, kept.keys)])
    assert len(NgramWeights.fit(grams, targets, 3, most=0).transform(grams)) == 200


def test_classes_of_texts_left_out_are_not_in_the_weights() -> None:
    """Labels by chance: weights that knew them would tell 73 % of the texts left out."""
    rng = np.random.default_rng(0)
    grams = find_ngrams(rng.integers(5, 100, (900, 12)).tolist(), 100)
    targets = rng.integers(0, 2, 900)
    _, left_out = JointHead.fit(np.empty((900, 0), np.float32), grams, targets, 2, 1.0)
    right = np.mean(left_out.proba.argmax(1) == targets[left_out.rows])
    assert len(left_out.rows) == 900 and abs(right - 0.5) < 0.07


def test_pairs_do_not_run_from_text_to_text() -> None:
    table = dense(find_ngrams([[7, 8, 8], [], [9, 5]], VOCAB, lead=False))
    assert table[0, 8] == pytest.approx(1 + np.log(2)) and table[0, 7] == table[2, 9] == table[2, 5] == 1
    assert table[0, 8 * VOCAB + 8] == table[0, 9 * VOCAB + 8] == table[2, 10 * VOCAB + 5] == 1
    assert (table != 0).sum() == 7


def test_what_stands_first_counts_most() -> None:
    rng = np.random.default_rng(3)
    texts = [rng.integers(5, VOCAB, length).tolist() for length in (300, 0, 2, 40)]
    plain, lead = (find_ngrams(texts, VOCAB, lead=lead) for lead in (False, True))
    assert (plain.columns == lead.columns).all() and (plain.starts == lead.starts).all()
    for row, ids in enumerate(texts):
        pairs = [(first + 1) * VOCAB + second for first, second in itertools.pairwise(ids)]
        for place in range(lead.starts[row], lead.starts[row + 1]):
            column = int(lead.columns[place])
            said = ids if column < VOCAB else pairs
            times, first = said.count(column), said.index(column)
            assert plain.values[place] == pytest.approx(1 + np.log(times), rel=1e-6)
            factor = 1 + 1 / (1 + (first / 60) ** 2)
            assert lead.values[place] == pytest.approx((1 + np.log(times)) * factor, rel=1e-6)


def test_a_head_says_whether_places_count() -> None:
    """Heads saved before places counted were fitted on plain counts, and go on with these."""
    vectors, grams, targets = topics(200, 3)
    head, _ = JointHead.fit(vectors, grams, targets, 4, 1.0)
    assert JointHead.from_arrays(head.arrays(), head.settings()).lead
    assert not JointHead.from_arrays(head.arrays(), {"C": 1.0}).lead


@pytest.mark.parametrize("gathered", [1, 40, 1 << 23])
def test_sparse_rows_multiply_like_dense_ones(monkeypatch, gathered: int) -> None:
    monkeypatch.setattr(ngrams, "_GATHERED", gathered)
    rows = ngrams_of([[2, 3], *random_ids(40), [2, 3]])
    right = np.random.default_rng(0).normal(size=(rows.width, 4)).astype(np.float32)
    assert np.allclose(rows @ right, dense(rows) @ right, atol=1e-4)
    assert (dense(rows.transposed()) == dense(rows).T).all()
    order = np.array([5, 0, 5, 41])
    assert (dense(rows.take(order)) == dense(rows)[order]).all()
    assert (dense(stack([rows, rows.take(order)])) == np.concatenate([dense(rows), dense(rows)[order]])).all()


def topics(count: int, seed: int) -> tuple[np.ndarray, SparseRows, np.ndarray]:
    """Vectors and tokens that each tell a part of the class, which is wrong in one row of ten."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 4, count)
    vectors = rng.normal(size=(count, 8)).astype(np.float32)
    vectors[np.arange(count), targets // 2] += 2
    ids = [[2, *rng.integers(5, 25, 6).tolist(), 25 + int(target) % 2, 3] for target in targets]
    wrong = rng.random(count) < 0.1
    return vectors, ngrams_of(ids), np.where(wrong, rng.integers(0, 4, count), targets)


@pytest.mark.parametrize(("penalty", "count"), [(0.3, 300), (3.0, 300), (1.0, 24)])
def test_fit_is_ridge_regression(monkeypatch, penalty: float, count: int) -> None:
    from sklearn.linear_model import Ridge

    monkeypatch.setattr(joint_head, "_ROUNDS", 200)
    monkeypatch.setattr(joint_head, "_TOLERANCE", 1e-12)
    vectors, grams, targets = topics(count, 0)
    head, _ = JointHead.fit(vectors, grams, targets, 4, 1 / penalty)
    centred = vectors - vectors.mean(0)
    share = joint_head._vector_share(count, 4)
    unit = np.sqrt(share / np.mean(np.sum(centred**2, axis=1)))
    design = np.column_stack([centred * unit, np.sqrt(1 - share) * dense(head.ngrams.transform(grams))])
    wanted = np.eye(4)[targets]
    theirs = Ridge(alpha=penalty, fit_intercept=False).fit(design, wanted - wanted.mean(0))
    expected = design @ theirs.coef_.T + wanted.mean(0)
    scores = np.log(head.proba(vectors, grams))
    ours, theirs = (table - table.mean(1, keepdims=True) for table in (scores, expected))
    factor = (ours * theirs).sum() / (theirs**2).sum()
    assert np.abs(ours - factor * theirs).max() < 2e-3 * np.abs(ours).max()


@pytest.mark.parametrize("count", [200, 5000])
def test_both_are_better_than_either_and_probabilities_are_honest(count: int) -> None:
    vectors, grams, targets = topics(count, 1)
    test_vectors, test_counts, test_targets = topics(2000, 2)
    accuracy = {}
    for name, columns in {"both": 8, "ngrams": 0}.items():
        head, left_out = JointHead.fit(vectors[:, :columns], grams, targets, 4, 1.0)
        proba = head.proba(test_vectors[:, :columns], test_counts)
        accuracy[name] = np.mean(proba.argmax(1) == test_targets)
        assert abs(proba.max(1).mean() - accuracy[name]) < 0.08, "as sure as it is right"
        right = left_out.proba.argmax(1) == targets[left_out.rows]
        assert abs(right.mean() - accuracy[name]) < 0.1, "texts left out are as new ones"
        assert len(np.unique(left_out.rows)) == len(left_out.rows) == (200 if count == 200 else 1000)
        again, _ = JointHead.fit(vectors[:, :columns], grams, targets, 4, 1.0)
        assert (again.proba(test_vectors[:, :columns], test_counts) == proba).all()
    assert accuracy["both"] > accuracy["ngrams"] + 0.1


def one_design(count: int) -> tuple[joint_head._Design, np.ndarray]:
    vectors, grams, targets = topics(count, 4)
    rows = NgramWeights.fit(grams, targets, 4, most=10**6).transform(grams)
    return joint_head._Design(vectors - vectors.mean(0), rows, np.float32(0.9)), targets


@pytest.mark.parametrize("rounds", [3, 20, 200])
def test_penalties_solved_together_are_those_solved_alone(monkeypatch, rounds: int) -> None:
    monkeypatch.setattr(joint_head, "_ROUNDS", rounds)
    monkeypatch.setattr(joint_head, "_TOLERANCE", 0.0)
    design, targets = one_design(150)
    choices = (0.1, 3.0, 0.01, 1.0)
    together, prior = design.solve(targets, 4, choices)
    for weight, choice in zip(together, choices, strict=True):
        (alone,), _ = design.solve(targets, 4, (choice,))
        assert np.isfinite(weight).all()
        assert np.abs(weight - alone).max() < 1e-3 * np.abs(alone).max()
    assert prior.sum() == pytest.approx(1)


def test_a_class_that_is_solved_at_once_stays_solved(monkeypatch) -> None:
    """Without texts of its own a class asks for nothing: all its numbers are 0 while the others go on."""
    monkeypatch.setattr(joint_head, "_TOLERANCE", 0.0)
    design, targets = one_design(60)
    wide, _ = design.solve(targets, 5, (0.1, 1.0))
    for weight, narrow in zip(wide, design.solve(targets, 4, (0.1, 1.0))[0], strict=True):
        assert np.isfinite(weight).all() and not weight[:, 4].any()
        assert np.allclose(weight[:, :4], narrow, atol=1e-6)


def test_every_class_is_left_out_in_equal_parts() -> None:
    targets = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [40, 25, 3, 2]))
    seen = np.zeros(len(targets), int)
    for kept, left_out in left_out_rows(targets):
        assert sorted([*kept, *left_out]) == list(range(len(targets)))
        seen[left_out] += 1
        grams = np.bincount(targets[left_out], minlength=4)
        assert grams[0] == 8 and grams[1] == 5 and grams[2] <= 1 and grams[3] <= 1
    assert (seen == 1).all()
    assert [len(left_out) for _, left_out in left_out_rows(np.array([0, 1]))] == [1, 1]
    many = np.random.default_rng(0).integers(0, 3, 50_000)
    ((kept, left_out),) = left_out_rows(many)
    assert len(left_out) == pytest.approx(4000, rel=0.1) and len(kept) + len(left_out) == 50_000
    shares = np.bincount(many[left_out]) / len(left_out)
    assert np.allclose(shares, np.bincount(many) / 50_000, atol=1e-3)


def test_wrong_labels_get_a_strong_penalty_and_right_ones_a_weak_one() -> None:
    """Four of ten labels are wrong; a weak penalty learns them by heart."""
    vectors, grams, targets = topics(2000, 5)
    rng = np.random.default_rng(6)
    wrong = np.where(rng.random(2000) < 0.4, rng.integers(0, 4, 2000), targets)
    right = np.repeat(np.arange(4), 500)
    ids = [[2, *rng.integers(5, 25, 6).tolist(), 25 + int(target), 3] for target in right]
    noisy, _ = JointHead.fit(vectors, grams, wrong, 4)
    clean, _ = JointHead.fit(vectors[:, :0], ngrams_of(ids), right, 4)
    assert noisy.C < clean.C
    assert noisy.C in joint_head._CHOICES and clean.C in joint_head._CHOICES
    seen = topics(2000, 7)
    right_by = {
        C: np.mean(JointHead.fit(vectors, grams, wrong, 4, C)[0].proba(*seen[:2]).argmax(1) == seen[2])
        for C in joint_head._CHOICES
    }
    assert right_by[noisy.C] >= max(right_by.values()) - 0.01


def test_vectors_are_worth_two_examples_of_each_class() -> None:
    shares = [joint_head._vector_share(4 * each, 4) for each in (1, 2, 8, 1000)]
    assert shares == pytest.approx([0.5, 0.5, 0.2, 0.05])


def test_a_few_texts_told_rightly_make_nobody_certain() -> None:
    ids = [[2, 5 + place, 3] for place in np.repeat([0, 1, 2], 8)]
    targets = np.repeat([0, 1, 2], 8)
    head, left_out = JointHead.fit(np.empty((24, 0), np.float32), ngrams_of(ids), targets, 3)
    assert (left_out.proba.argmax(1) == targets[left_out.rows]).all()
    assert 0.8 < left_out.proba.max(1).mean() < 0.99


def test_two_texts_are_enough() -> None:
    vectors, grams, _ = topics(2, 3)
    proba = JointHead.fit(vectors, grams, np.array([0, 1]), 2, 1.0)[0].proba(vectors, grams)
    assert proba.argmax(1).tolist() == [0, 1] and np.isfinite(proba).all()


def test_logistic_regression_in_float32_reaches_the_optimum() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2000, 20)) @ rng.normal(size=(20, 20)) + 5  # correlated, not centred
    targets = (vectors @ rng.normal(size=(20, 5)) / 5 + rng.gumbel(size=(2000, 5))).argmax(1)
    quick = fit_logistic(vectors.astype(np.float32), targets, 5)
    exact = fit_logistic(vectors, targets, 5, tolerance=1e-8, rounds=1000)
    quick_scores, exact_scores = (vectors @ weight.T + bias for weight, bias in (quick, exact))
    losses = [
        np.mean(np.log(np.exp(scores - scores[np.arange(2000), targets][:, None]).sum(1)))
        for scores in (quick_scores, exact_scores)
    ]
    assert abs(losses[0] - losses[1]) < 1e-4
    assert np.mean(quick_scores.argmax(1) == exact_scores.argmax(1)) > 0.99


def test_probabilities_of_many_classes_are_those_of_the_optimum() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2000, 312)) * np.linspace(0.2, 1, 312)
    targets = (vectors @ rng.normal(size=(312, 67)) * 0.3 + rng.gumbel(size=(2000, 67))).argmax(1)
    vectors = (vectors - vectors.mean(0)) / vectors.std(0)
    quick, exact = (
        vectors @ weight.T + bias
        for weight, bias in (
            fit_logistic(vectors, targets, 67),
            fit_logistic(vectors, targets, 67, tolerance=1e-8, rounds=1000),
        )
    )
    assert np.abs(softmax(quick) - softmax(exact)).max() < 0.01


def test_heads_of_before_the_weights_knew_classes_are_read() -> None:
    vectors, grams, targets = topics(60, 0)
    head, _ = JointHead.fit(vectors, grams, targets, 4, 1.0)
    arrays = head.arrays()
    assert (
        JointHead.from_arrays(arrays, {"C": 1.0}).proba(vectors, grams) == head.proba(vectors, grams)
    ).all()
    arrays["rarity"] = arrays.pop("worth")
    assert (JointHead.from_arrays(arrays, {}).proba(vectors, grams) == head.proba(vectors, grams)).all()
