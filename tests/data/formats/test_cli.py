"""The commands `dhmd data` and `dhmd import` in a small repository."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dhmd.base.label_sets import decode_sets
from dhmd.base.text import text_table
from dhmd.cli import main
from dhmd.cli.layout import format_percentage, format_size, histogram
from dhmd.data.aligned import Corpus, read_corpus
from dhmd.data.csd import write_sequence
from dhmd.data.download import download, read_file_records
from dhmd.data.formats import align_dataset
from dhmd.recipes import Recipe, load_recipe
from dhmd.settings import load_params
from tests.data.formats.files import array_splits, mmsa_splits, write_pickle

ROOT = Path(__file__).parents[3]
NEXT = (
    "next: git add recipes/mine.yaml recipes/sources/mine.json && dvc exp run -S 'datasets=[mine]'"
)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Create a project with params.yaml and two recipes."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    (tmp_path / "recipes" / "folds").mkdir(parents=True)
    for name in ("demo", "mosi_real"):
        shutil.copy(ROOT / "recipes" / f"{name}.yaml", tmp_path / "recipes" / f"{name}.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    """Run `dhmd`, and return the exit status and both outputs."""
    status = main(arguments)
    output = capsys.readouterr()
    return status, output.out, output.err


def download_and_align(root: Path, name: str) -> Path:
    """Run the stages download and align, and return the aligned features file."""
    settings = load_params(root).for_dataset(name)
    raw, output = root / "data" / "raw" / name, root / "data" / "aligned" / f"{name}.h5"
    override = settings.data.sources.get(name)
    download(settings.recipe, override=override, root=root, output=raw)
    align_dataset(settings, raw, output, root=root, recipes=root / "recipes")
    return output


def test_a_new_mmsa_file_is_imported(repository, tmp_path_factory, capsys):
    source = write_pickle(tmp_path_factory.mktemp("mine") / "my 'features'.pkl", mmsa_splits())
    status, out, err = run(capsys, "import", "mmsa", str(source), "--dataset", "mine")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "placed data/placed/mine/my 'features'.pkl",
        "wrote recipes/mine.yaml: check it",
        NEXT,
    ]
    recipe = load_recipe("mine", repository)
    assert recipe.sequences["pickle"].bytes == source.stat().st_size
    assert (recipe.labels.low, recipe.labels.high) == (-3.0, 3.0)
    assert run(capsys, "config", "check", "mine")[0] == 0
    assert run(capsys, "data", "check", "mine")[:2] == (0, "mine has no problems\n")
    corpus = read_corpus(download_and_align(repository, "mine"))
    assert len(corpus.ids) == 22
    before = (repository / "params.yaml").read_text()
    again = run(capsys, "import", "mmsa", str(source), "--dataset", "mine")
    assert again[1].splitlines() == [
        "placed data/placed/mine/my 'features'.pkl",
        NEXT,
    ]
    assert (repository / "params.yaml").read_text() == before


def test_importing_an_unaligned_file_prints_the_setting(repository, capsys):
    source = write_pickle(repository / "u.pkl", mmsa_splits(aligned=False))
    status, out, _ = run(capsys, "import", "mmsa", str(source), "--dataset", "mine")
    assert status == 0
    assert out.endswith(f"{NEXT} -S data.alignment=none\n")
    recipe = load_recipe("mine", repository)
    assert recipe.align["max_steps_unaligned"] == {"text": 10, "audio": 30, "vision": 20}
    placed = repository / "data" / "placed" / "mine" / "u.pkl"
    assert run(capsys, "data", "check", "mine")[2].startswith(
        f"dhmd data: {placed} is unaligned, each modality has its own steps: set data.alignment to"
    )


def test_importing_for_an_existing_recipe_checks_its_hash(repository, capsys):
    source = write_pickle(repository / "f.pkl", mmsa_splits())
    assert run(capsys, "import", "mmsa", str(source), "--dataset", "mine")[0] == 0
    other = write_pickle(repository / "f.pkl.new", mmsa_splits(seed=1))
    other.replace(source)
    status, out, err = run(capsys, "import", "mmsa", str(source), "--dataset", "mine")
    assert (status, out) == (1, "")
    assert (
        f"{source} is not the file that recipes/mine.yaml names: the sha256 of the file is" in err
    )
    assert "set bytes and sha256 of sequences.pickle to null" in err
    status, _, err = run(capsys, "import", "mmsa", str(source), "--dataset", "mosi_real")
    assert status == 1
    assert "recipes/mosi_real.yaml is of format csd, not mmsa" in err


def test_importing_a_damaged_file_lists_all_problems_and_writes_nothing(repository, capsys):
    content = mmsa_splits()
    content["train"]["id"][0] = "nonsense"
    content["test"]["id"][0] = "train2$_$9"
    source = write_pickle(repository / "f.pkl", content)
    before = sorted(repository.rglob("*"))
    status, out, err = run(capsys, "import", "mmsa", str(source), "--dataset", "mine")
    assert (status, out) == (1, "")
    assert err.splitlines() == [
        f"dhmd import: {source}: train.id 'nonsense' is not video$_$clip",
        "dhmd import: mine: video 'train2' is in both train and test, but splits must not share a "
        "video; if these are different videos, give them different ids",
    ]
    assert sorted(repository.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("mmsa", "absent.pkl", "--dataset", "mine"), "absent.pkl does not exist"),
        (("mmsa", "params.yaml", "--dataset", "mine"), "params.yaml is not a whole pickle"),
        (("mmsa", "params.yaml", "--dataset", "../x"), "--dataset is '../x', but must be a letter"),
        (("mmsa", "params.yaml", "--dataset", "null"), "--dataset is 'null', but must be a letter"),
        (("arrays", "recipes", "--dataset", "mine"), "recipes has no train.npz and no train.h5"),
    ],
)
def test_invalid_arguments_of_import_are_errors(repository, capsys, words, expected):
    status, out, err = run(capsys, "import", *words)
    assert (status, out) == (1, "")
    assert expected in err
    assert err.count("\n") == 1


def test_arrays_are_imported(repository, capsys):
    folder = repository / "mine"
    folder.mkdir()
    for split, part in array_splits().items():
        np.savez(folder / f"{split}.npz", **part)
    status, out, err = run(capsys, "import", "arrays", "mine", "--dataset", "own")
    assert (status, err) == (0, "")
    assert "placed data/placed/own/train.npz" in out
    corpus = read_corpus(download_and_align(repository, "own"))
    assert len(corpus.ids) == 22
    status, out, _ = run(capsys, "data", "show", "mine/train.npz")
    assert status == 0
    assert "audio_offsets" in out


def write_labels(folder: Path, key: str, labels: Callable[[int], Any]) -> None:
    folder.mkdir()
    for split, part in array_splits().items():
        np.savez(folder / f"{split}.npz", **part | {key: labels(len(part["ids"]))})


def import_arrays(repository: Path, capsys: Any, *words: str) -> tuple[Recipe, Corpus]:
    status, _, err = run(capsys, "import", "arrays", "mine", "--dataset", "own", *words)
    assert (status, err) == (0, "")
    return load_recipe("own", repository), read_corpus(
        download_and_align(repository, "own"), test_labels=True
    )


def test_labels_on_another_scale_are_imported(repository, capsys):
    write_labels(repository / "mine", "rating", lambda n: 1 + np.arange(n) % 5)
    recipe, corpus = import_arrays(
        repository, capsys, "--label-key", "rating", "--label-range", "1", "5"
    )
    assert (recipe.labels.column, recipe.labels.scale) == ("rating", (1.0, 5.0))
    assert corpus.labels_N[:5].tolist() == [-3.0, -1.5, 0.0, 1.5, 3.0]


def test_classes_under_another_key_are_imported(repository, capsys):
    write_labels(repository / "mine", "emotion", lambda n: np.arange(n) % 4)
    words = ("import", "arrays", "mine", "--dataset", "own", "--label-key", "emotion")
    status, out, err = run(capsys, *words)
    assert (status, out) == (1, "")
    assert "all labels are whole numbers from 0 to 3; name the classes with --classes" in err
    names = "angry,happy,sad,neutral"
    recipe, corpus = import_arrays(repository, capsys, "--label-key", "emotion", "--classes", names)
    assert recipe.labels.task == corpus.task == "classification"
    assert corpus.class_names == tuple(names.split(","))
    assert corpus.labels_N[:5].tolist() == [0, 1, 2, 3, 0]
    status, _, err = run(capsys, *words, "--classes", names)
    assert status == 1
    assert "recipes/own.yaml exists, but --classes and --label-key" in err


def test_several_labels_are_imported(repository, capsys):
    rng = np.random.default_rng(0)
    write_labels(repository / "mine", "emotions", lambda n: rng.integers(0, 2, (n, 3)))
    names = ("--label-key", "emotions", "--multi-label", "--classes", "happy,sad,angry")
    _, corpus = import_arrays(repository, capsys, *names)
    with np.load(repository / "mine" / "train.npz") as train:
        labels_NC = train["emotions"]
    assert decode_sets(corpus.labels_N)[: len(labels_NC)].tolist() == (labels_NC > 0).tolist()
    out = run(capsys, "data", "show", "own")[1]
    assert "happy" in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--multi-label",), "--classes names the classes of a classification or of --multi-label"),
        (("--label-range", "5", "1"), "--label-range is 5 1, but LOW must be below HIGH"),
        (("--label-key", "x"), "train.npz: x is missing; it has ids, labels"),
        (("--classes", "a,b,c", "--multi-label"), "must have shape [12, 3]"),
    ],
)
def test_labels_that_do_not_fit_are_errors(repository, capsys, words, expected):
    write_labels(repository / "mine", "labels", lambda n: np.arange(n) % 4)
    status, out, err = run(capsys, "import", "arrays", "mine", "--dataset", "own", *words)
    assert (status, out) == (1, "")
    assert expected in err
    assert not (repository / "recipes" / "own.yaml").exists()


def test_showing_a_dataset_depends_on_the_stages_that_have_run(repository, capsys):
    source = write_pickle(repository / "f.pkl", mmsa_splits())
    run(capsys, "import", "mmsa", str(source), "--dataset", "mine")
    status, out, _ = run(capsys, "data", "show", "mine")
    assert status == 0
    assert "not downloaded yet" in out
    assert "data/placed/mine" in out
    settings = load_params(repository).for_dataset("mine")
    raw = repository / "data" / "raw" / "mine"
    download(settings.recipe, override=None, root=repository, output=raw)
    out = run(capsys, "data", "show", "mine")[1]
    assert f"downloaded to {raw}" in out
    output = download_and_align(repository, "mine")
    out = run(capsys, "data", "show", "mine")[1]
    assert "22 segments of 11 videos" in out
    assert "valid         4       2" in out
    assert "labels of train and valid" in out
    assert run(capsys, "data", "show", str(output))[0] == 0


def test_show_describes_files(repository, capsys):
    write_pickle(repository / "f.pkl", mmsa_splits())
    out = run(capsys, "data", "show", "f.pkl")[1]
    assert "train.audio                  float32  12×10×5" in out
    nested = {f"id{n}": {"rows": [[1.0], [2.0]]} for n in range(100)}
    write_pickle(repository / "n.pkl", nested)
    out = run(capsys, "data", "show", "n.pkl")[1]
    assert "id0.rows" in out
    assert "id1.rows" not in out
    entries = [("v1", np.array([[1.0, -np.inf], [0.0, 0.0]]), np.array([[0, 0.5], [0.5, 1]]))]
    write_sequence(Path("a.csd"), root_name="a", entries=entries)
    out = run(capsys, "data", "show", "a.csd")[1]
    assert "1 entries of 1 videos, 2 rows" in out
    assert "rows per second: median 2.00" in out
    assert "width 2, not finite 25.0 %, rows of zeros 50.0 %" in out


@pytest.mark.parametrize("name", ["x.csd", "x.pkl", "x.npz", "x.h5"])
def test_showing_damaged_files_is_an_error(repository, capsys, name):
    status, _, err = run(capsys, "data", "show", name)
    assert (status, err) == (1, f"dhmd data: {name} does not exist\n")
    Path(name).write_bytes(b"nonsense")
    status, out, err = run(capsys, "data", "show", name)
    assert (status, out) == (1, "")
    assert name in err
    assert err.count("\n") == 1


def csd_recipe(repository: Path) -> Path:
    """Write the recipe and the files of a small corpus of sequences; return their folder."""
    sequences = {name: {"path": f"{name}.csd"} for name in ("words", "glove", "labels")}
    recipe = {
        "title": "t", "format": "csd", "provenance": "p", "sources": None, "generator": None,
        "options": None, "sequences": sequences,
        "modalities": {"text": "glove"}, "reference": "words",
        "labels": {"sequence": "labels", "low": -3, "high": 3, "column": 0},
        "planted": None, "folds": {"file": "folds/t.json"},
    }  # fmt: skip
    recipe |= dict.fromkeys(("align", "model", "kd", "pretrain", "train", "ablate"))
    (repository / "recipes" / "t.yaml").write_text(yaml.safe_dump(recipe))
    folds = {"train": ["a"], "valid": ["b"], "test": ["c"]}
    (repository / "recipes" / "folds" / "t.json").write_text(json.dumps(folds))
    folder = repository / "data" / "placed" / "t"
    folder.mkdir(parents=True)
    interval = np.array([[0.0, 1.0]])
    for name, value in (("words", "so"), ("glove", [1.0, 2.0]), ("labels", [1.0])):
        features = np.array([[value]], dtype=object) if name == "words" else np.array([value])
        write_sequence(
            folder / f"{name}.csd",
            root_name=name,
            entries=[(video, features, interval) for video in "abc"],
        )
    return folder


def test_checking_sequences_lists_all_problems_at_once(repository, capsys):
    folder = csd_recipe(repository)
    assert run(capsys, "data", "check", "t") == (0, "t has no problems\n", "")
    interval = np.array([[0.0, 1.0]])
    write_sequence(
        folder / "labels.csd",
        root_name="labels",
        entries=[("a", np.array([[9.0]]), interval), ("d", np.array([[1.0]]), interval)]
        + [(video, np.array([[1.0]]), interval) for video in "bc"],
    )
    folds = {"train": ["a"], "valid": ["b"], "test": ["b"]}
    (repository / "recipes" / "folds" / "t.json").write_text(json.dumps(folds))
    status, out, err = run(capsys, "data", "check", "t")
    assert (status, out) == (1, "")
    assert "video 'b' is in both valid and test" in err
    assert "the label of 'a[0]' is 9" in err
    assert err.endswith("dhmd data: t has 2 problems\n")
    (folder / "glove.csd").write_bytes((folder / "glove.csd").read_bytes()[:-100])
    (folder / "words.csd").unlink()
    err = run(capsys, "data", "check", "t")[2]
    assert "glove.csd: it is not a whole HDF5 file" in err
    assert (
        "words (words.csd) of t has no local file: data/placed/t: this folder has no file words.csd"
        in err
    )


def test_check_compares_downloads_with_their_manifest(repository, capsys):
    csd_recipe(repository)
    recipe = load_recipe("t", repository)
    raw = repository / "data" / "raw" / "t"
    download(recipe, override=None, root=repository, output=raw)
    assert run(capsys, "data", "check", "t")[0] == 0
    with open(raw / "glove.csd", "ab") as stream:
        stream.write(b"more")
    (raw / "words.csd").unlink()
    err = run(capsys, "data", "check", "t")[2]
    assert "glove.csd has" in err
    assert "words.csd is missing: run the download stage again" in err
    (raw / "sources.json").write_text("{}")
    err = run(capsys, "data", "check", "t")[2]
    assert err.count("is not listed in sources.json") == 3


def test_check_reports_generated_data_that_are_absent(repository, capsys):
    status, _, err = run(capsys, "data", "check", "demo")
    assert status == 1
    assert "run `dvc repro download@demo` to generate it" in err


def test_pin_writes_into_the_recipe(repository, capsys):
    csd_recipe(repository)
    recipe = load_recipe("t", repository)
    download(recipe, override=None, root=repository, output=repository / "data" / "raw" / "t")
    status, out, _ = run(capsys, "data", "pin", "t")
    assert status == 0
    assert "written to recipes/t.yaml; run `dvc commit -f download@t`" in out
    pinned = load_recipe("t", repository)
    records = read_file_records(repository / "data" / "raw" / "t")
    for name in ("words", "glove", "labels"):
        assert pinned.sequences[name].sha256 == records[f"{name}.csd"].sha256
        assert pinned.sequences[name].bytes == records[f"{name}.csd"].bytes
    assert run(capsys, "data", "check", "t")[0] == 0


def test_tables_and_histograms_are_formatted():
    assert text_table(["a", "bb"], [["x", 1], ["long", 22]]) == [
        "  a     bb",
        "  x      1",
        "  long  22",
    ]
    assert histogram({"no": 1, "yes": 2}, width=4) == ["   no  1  ██", "  yes  2  ████"]
    assert histogram({}) == []
    assert [
        format_percentage(0, 10),
        format_percentage(1, 100_000),
        format_percentage(1, 2),
        format_percentage(0, 0),
    ] == [
        "0 %",
        "<0.1 %",
        "50.0 %",
        "–",
    ]
    assert [format_size(3), format_size(2048), format_size(5 * 2**40)] == [
        "3 B",
        "2.0 KiB",
        "5.0 TiB",
    ]
