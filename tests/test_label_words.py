"""Label words of the packaged sets."""

from __future__ import annotations

import pytest

import jinyi
from jinyi.label_words import SETS, label_words
from jinyi.tokens import Tokenizer


@pytest.mark.parametrize(("name", "size"), [("tnews", 15), ("csldcp", 67), ("iflytek", 119)])
def test_complete_and_unique(name: str, size: int) -> None:
    own = label_words(name)
    words = list(own.words.values())
    assert len(words) == len(set(words)) == len(set(own.names.values())) == size
    assert all(len(word) == 2 for word in words)
    assert set(own.names) == set(own.words)
    assert len(own.prompts) == 2 and all(prompt.count("{}") == 1 for prompt in own.prompts)
    assert all(set(prompt).isdisjoint(":,") for prompt in own.prompts)  # full-width punctuation


def test_every_character_is_in_the_shipped_vocabulary() -> None:
    model = jinyi.TopicClassifier.load()
    tokenizer = Tokenizer.from_folder(model.path)
    for name in SETS:
        own = label_words(name)
        for text in (*own.words.values(), *own.prompts):
            ids = tokenizer.ids_of_word(text.replace("{}", ""))
            assert tokenizer.unk_id not in ids
        assert all(len(tokenizer.ids_of_word(word)) == 2 for word in own.words.values())


def test_words_by_label_name_and_place() -> None:
    news, science, apps = map(label_words, SETS)
    assert news.words["116"] == news.word(116) == news.word("news_game") == news.word(14) == "电竞"
    assert news.word(0) == news.word("100") == "故事"
    assert science.word("理论经济学") == science.word(6) == "理经"
    assert list(science.words)[0] == "材料科学与工程" and list(science.words)[-1] == "植物保护"
    assert apps.word(52) == apps.word("成人") == "两性"  # a name wins: 成人 is also the word of 59
    assert apps.word(59) == apps.word("成人教育") == "成人"
    assert list(apps.words) == [str(number) for number in range(119)]
    assert apps.names["61"] == "语言(非英语)"


def test_errors() -> None:
    with pytest.raises(jinyi.InputError, match="found set 'afqmc'; expected one of tnews"):
        label_words("afqmc")
    with pytest.raises(jinyi.InputError, match="found label 105"):
        label_words("tnews").word(105)


def test_words_go_into_the_classifier() -> None:
    news = label_words("tnews")
    model = jinyi.TopicClassifier.load(labels=news.words, prompt=news.prompts[0])
    assert model.predict("国足主场一比零战胜对手") == "103"
