from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

import jinyi.registry as registry
from folder_tools import edit
from jinyi import PairScorer, SentenceEncoder
from jinyi.errors import FolderError, InputError, ModelNotFoundError
from jinyi.folder import read_folder
from jinyi.registry import (
    DEFAULTS,
    default_model,
    facts_of,
    find_entry,
    find_model,
    list_models,
    models_home,
    published_models,
)
from small_models import write_small

SHIPPED = sorted(Path(registry.__file__).parent.glob("pretrained/*/"))
SIMCSE = "IDEA-CCNL/Erlangshen-SimCSE-110M-Chinese"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own package folder with one shipped model, an own models folder, an own working directory."""
    (tmp_path / "package" / "pretrained").mkdir(parents=True)
    write_small(
        tmp_path / "package" / "pretrained" / "jinyi-tiny-embed",
        licence="apache-2.0",
        summary="For sentences.",
    )
    monkeypatch.setattr(registry.resources, "files", lambda _: tmp_path / "package")
    monkeypatch.setenv("JINYI_HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def test_shipped_model_by_name(places: Path) -> None:
    shipped = places / "package" / "pretrained" / "jinyi-tiny-embed"
    assert find_model("jinyi-tiny-embed") == shipped
    entry = list_models()[0]
    assert (entry.name, entry.task, entry.shipped, entry.path) == ("jinyi-tiny-embed", "embed", True, shipped)
    assert (entry.layers, entry.width, entry.pooling, entry.licence) == (2, 32, "mean", "apache-2.0")
    assert entry.note == "For sentences."


def test_a_path_counts_first_if_it_is_a_model(places: Path) -> None:
    (places / "work" / "jinyi-tiny-embed").mkdir()
    assert find_model("jinyi-tiny-embed").is_absolute(), "an empty folder of that name hides nothing"
    (places / "work" / "jinyi-tiny-embed").rmdir()
    write_small(places / "work" / "jinyi-tiny-embed")
    assert find_model("jinyi-tiny-embed") == Path("jinyi-tiny-embed")
    assert find_model(places / "work" / "jinyi-tiny-embed") == places / "work" / "jinyi-tiny-embed"


def bare(path: Path, *args: object, **options: object) -> Path:
    """A folder as the authors of published models leave it: no word on pooling, labels or habits."""
    write_small(path, *args, **options)  # type: ignore[arg-type]
    for file in ("jinyi.json", "MANIFEST.sha256", "modules.json", "1_Pooling/config.json"):
        (path / file).unlink(missing_ok=True)
    edit(path / "config.json", id2label=None, label2id=None)
    return path


@pytest.mark.parametrize("name", [SIMCSE, SIMCSE.split("/")[1], SIMCSE.lower()])
def test_published_model_in_the_models_folder(name: str, places: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        find_model(name)
    assert f"`jinyi models download {SIMCSE}` (nothing is downloaded by itself)" in caught.value.fix
    assert str(models_home() / SIMCSE) in caught.value.fix
    path = write_small(models_home() / SIMCSE)
    assert find_model(name) == path
    assert [entry.path for entry in list_models() if entry.name == SIMCSE] == [path]


def test_other_names_of_published_models(places: Path) -> None:
    for name in ("bert-base-chinese", "AI-ModelScope/bert-base-chinese", "google-bert/bert-base-chinese"):
        entry = find_entry(name)
        assert entry is not None and entry.name == "google-bert/bert-base-chinese"
    assert find_entry("albert_chinese_tiny") is None, "two owners have one"
    for name in ("", "chinese", "../hfl/rbt3"):
        assert find_entry(name) is None
    for entry in published_models():
        assert find_entry(entry.name) == entry and not facts_of(f"not/{entry.name.split('/')[1]}")


def test_what_is_known_of_a_model_counts_where_its_folder_is_silent(places: Path) -> None:
    path = bare(models_home() / SIMCSE)
    encoder = SentenceEncoder.load(SIMCSE)
    assert encoder.encode("怎么改密码").shape == (32,)
    folder = read_folder(path, task="embed", facts=facts_of(SIMCSE))
    assert folder.pooling == "cls" and any("does not state its pooling" in note for note in folder.notes)
    with pytest.raises(FolderError, match="no word on pooling"):
        SentenceEncoder.load(path)
    assert read_folder(path, task="embed", pooling="mean", facts=facts_of(SIMCSE)).pooling == "mean"
    write_small(path, overwrite=True)  # one that states its pooling
    assert read_folder(path, facts=facts_of(SIMCSE)).pooling == "mean"


def test_training_knows_what_is_known_of_a_model(places: Path) -> None:
    pytest.importorskip("torch")
    from jinyi.train.distill.teacher import Teacher

    path = bare(models_home() / SIMCSE)
    assert Teacher(SIMCSE, "vectors").folder.pooling == "cls"
    with pytest.raises(FolderError, match="no word on pooling"):
        Teacher(str(path), "vectors")


def test_labels_prompts_and_segments_of_published_models(places: Path) -> None:
    pair = "IDEA-CCNL/Erlangshen-Roberta-110M-Similarity"
    path = bare(models_home() / pair, "pair", outputs=2, labels=["a", "b"], similar_label=1)
    folder = read_folder(path, facts=facts_of(pair))
    assert folder.labels == ("not similar", "similar") and folder.similar == 1
    assert folder.record["segment_ids"] == "pair"
    assert PairScorer.load(pair).predict(("怎么改密码", "如何登录")) == pytest.approx(
        PairScorer.load(path).predict(("怎么改密码", "如何登录")), abs=1e-6
    )
    edit(path / "config.json", id2label={"0": "similar", "1": "not similar"})
    assert read_folder(path, facts=facts_of(pair)).similar == 0, "what the folder says counts more"
    topic = "IDEA-CCNL/Erlangshen-TCBert-110M-Classification-Chinese"
    folder = read_folder(bare(models_home() / topic, "topic"), task="topic", facts=facts_of(topic))
    assert folder.prompts["tnews"] == "下面是一则关于{}的新闻："


def test_other_models_in_the_models_folder(places: Path) -> None:
    one, other = write_small(models_home() / "somebody" / "model"), write_small(models_home() / "mine")
    write_small(models_home() / ".downloads" / "half")
    extra = [entry for entry in list_models() if not entry.shipped and entry.path is not None]
    assert {(entry.name, entry.path) for entry in extra} == {("somebody/model", one), ("mine", other)}
    assert find_model("somebody/model") == one


def test_a_damaged_folder_does_not_hide_the_others(places: Path) -> None:
    cut, odd = write_small(models_home() / "cut"), write_small(models_home() / "odd")
    (cut / "config.json").write_text('{"num_hidden', encoding="utf-8")
    edit(odd / "jinyi.json", parameters="many")
    edit(odd / "config.json", hidden_size="wide")
    here = {entry.name: entry for entry in list_models() if not entry.shipped and entry.path is not None}
    assert set(here) == {"cut", "odd"} and "Damaged" in here["cut"].note
    assert (here["odd"].width, here["odd"].parameters) == (0, None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("jinyi-tiny-embe", "Did you mean jinyi-tiny-embed"),
        ("erlangshen-simcse-110m", "Did you mean IDEA-CCNL/Erlangshen-SimCSE-110M-Chinese"),
        ("zzz", "jinyi models list"),
        ("somebody/model", "`jinyi models download somebody/model` fetches it"),
        ("", "jinyi models list"),
        ("../home/models", "jinyi models list"),
        ("~nobody-of-that-name", "jinyi models list"),
        ("\udc80", "jinyi models list"),
        ("\0", "jinyi models list"),
        ("x" * 5000, "jinyi models list"),
    ],
)
def test_unknown_names(places: Path, name: str, words: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        find_model(name)
    assert words in caught.value.fix
    assert "jinyi-tiny-embed" in caught.value.expected
    assert len(str(caught.value)) < 700


def test_neither_text_nor_path(places: Path) -> None:
    with pytest.raises(InputError, match="None"):
        find_model(None)  # type: ignore[arg-type]


def test_a_file_is_no_model(places: Path) -> None:
    (places / "work" / "notes").write_text("x", encoding="utf-8")
    with pytest.raises(ModelNotFoundError, match="a file"):
        find_model("notes")


def test_defaults() -> None:
    assert default_model("pair") == "jinyi-tiny-pair"
    assert set(DEFAULTS) == {"embed", "pair", "topic"}
    with pytest.raises(InputError, match="cook"):
        default_model("cook")


def test_published_table_is_consistent() -> None:
    entries = published_models()
    names = [name for entry in entries for name in (entry.name, entry.modelscope, *entry.aliases) if name]
    assert len({name.casefold() for name in names}) == len(names)
    for entry in entries:
        assert entry.name.count("/") == 1 and entry.note.endswith(".")
        assert entry.task in ("embed", "pair", "topic", "mlm", "encoder")
        assert entry.architecture in ("bert", "megatron-bert", "roformer", "albert")
        assert (
            entry.pooling in ("cls", "mean") if entry.task == "embed" else entry.pooling in (None, "pooler")
        )
        assert entry.pooling != "pooler" or entry.task == "encoder"
        assert len(entry.labels) == (2 if entry.task == "pair" else 0)
        assert bool(entry.prompts) == (entry.task == "topic")
        assert all(prompt.count("{}") == 1 for prompt in entry.prompts.values())
        assert entry.segment_ids in ("pair", "zeros", None)
        assert entry.base is None or find_entry(entry.base) not in (None, entry)
        assert entry.tensorflow is None or entry.tensorflow.startswith("https://")
        assert not entry.shipped and entry.path is None and entry.parameters


@pytest.mark.parametrize(
    ("name", "vocabulary", "layers", "width", "inner", "embedding"),
    [
        ("IDEA-CCNL/Erlangshen-Roberta-110M-Similarity", 21128, 12, 768, 3072, None),
        ("hfl/chinese-macbert-large", 21128, 24, 1024, 4096, None),
        ("clue/roberta_chinese_clue_tiny", 8021, 4, 312, 1248, None),
        ("clue/roberta_chinese_3L312_clue_tiny", 8021, 3, 312, 1248, None),
        ("clue/roberta_chinese_3L768_clue_tiny", 8021, 3, 768, 3072, None),
        ("clue/roberta_chinese_clue_large", 8021, 24, 1024, 4096, None),
        ("hfl/rbt3", 21128, 3, 768, 3072, None),
        ("hfl/rbtl3", 21128, 3, 1024, 4096, None),
        ("Tongjilibo/simbert-chinese-base", 13685, 12, 768, 3072, None),
        ("Tongjilibo/simbert-chinese-tiny", 13685, 4, 312, 1248, 128),
        ("voidful/albert_chinese_tiny", 21128, 4, 312, 1248, 128),
        ("voidful/albert_chinese_base", 21128, 12, 768, 3072, 128),
    ],
)
def test_parameters_fit_the_shape(
    name: str, vocabulary: int, layers: int, width: int, inner: int, embedding: int | None
) -> None:
    """Counted from the shape: encoder with pooler."""
    entry = find_entry(name)
    assert entry is not None and (entry.layers, entry.width) == (layers, width)
    layer = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
    distinct = 1 if entry.architecture == "albert" else layers
    size = embedding or width
    words = (vocabulary + 512 + 2) * size + 2 * size + (size * width + width if embedding else 0)
    assert entry.parameters == pytest.approx(
        (words + distinct * layer + width * width + width) / 1e6, abs=0.06
    )


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_the_manifest_of_a_shipped_model_names_all_its_files(folder: Path) -> None:
    lines = (folder / "MANIFEST.sha256").read_text("utf-8").splitlines()
    hashes = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    del files["MANIFEST.sha256"]
    assert hashes == {name: sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
