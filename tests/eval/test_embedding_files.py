import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import make_features

from oodml.errors import DataError
from oodml.eval.embedding_files import content_digest, read_embeddings

VALUES = np.arange(12, dtype=np.float32).reshape(6, 2)
CLASSES = ["dog", "cat", "dog", "cat", "ant", "ant"]


def saved(folder, labels, values=VALUES, header="label"):
    np.save(folder / "e.npy", values)
    (folder / "e.csv").write_text("\n".join([header, *labels]) + "\n")
    return folder / "e.npy"


def test_rows_keep_their_class(tmp_path):
    found = read_embeddings(saved(tmp_path, CLASSES))
    assert found.class_names == ("ant", "cat", "dog")
    assert [found.class_names[label] for label in found.labels] == CLASSES
    assert (found.values == VALUES).all()
    assert (found.source.backbone, found.source.dataset) == ("embeddings", "e")


def test_sample_names_give_the_class_and_the_order(tmp_path):
    names = ["b/2.png", "b/1.png", "deep/a/9.png", "b/0.png", "deep/a/1.png", "deep/a/0.png"]
    found = read_embeddings(saved(tmp_path, names, header="path"))
    assert found.sample_names == tuple(sorted(names))
    assert [found.class_names[label] for label in found.labels] == ["b"] * 3 + ["a"] * 3
    assert found.values[:3, 0].tolist() == [6, 2, 0]
    both = [f"{name},{label}" for name, label in zip(names, CLASSES, strict=True)]
    found = read_embeddings(saved(tmp_path, both, header="path,label"))
    assert found.class_names == ("ant", "cat", "dog")


def test_labels_may_lie_elsewhere(tmp_path):
    path = saved(tmp_path, CLASSES)
    (tmp_path / "e.csv").rename(tmp_path / "other.csv")
    assert len(read_embeddings(path, tmp_path / "other.csv")) == 6
    with pytest.raises(DataError, match=r"e\.csv"):
        read_embeddings(path)


def test_npz_keeps_labels_and_fingerprint(tmp_path):
    features = make_features(6, 3)
    features.save(tmp_path / "f.npz")
    found = read_embeddings(tmp_path / "f.npz")
    assert (found.values == features.values).all() and found.class_names == features.class_names
    assert found.source.fingerprint == features.source.fingerprint
    assert (found.source.backbone, found.source.weights) == ("embeddings", content_digest(features))


def test_the_digest_is_of_values_and_classes_only(tmp_path):
    found = read_embeddings(saved(tmp_path, CLASSES))
    order = np.array([4, 0, 1, 2, 5, 3])
    shuffled = read_embeddings(saved(tmp_path, [CLASSES[i] for i in order], VALUES[order]))
    assert shuffled.source.weights == found.source.weights and len(found.source.weights) == 64
    wide = read_embeddings(saved(tmp_path, CLASSES, VALUES.astype(np.float64)))
    assert wide.source.weights == found.source.weights
    renamed = ["dag" if name == "dog" else name for name in CLASSES]
    assert read_embeddings(saved(tmp_path, renamed)).source.weights != found.source.weights
    backwards = replace(found, labels=2 - found.labels, class_names=found.class_names[::-1])
    assert content_digest(backwards) == found.source.weights
    moved = replace(found, values=found.values + np.float32(1))
    assert content_digest(moved) != found.source.weights


@pytest.mark.parametrize(
    ("values", "labels", "words"),
    [
        (VALUES[:5], CLASSES, "5 .* 6 "),
        (np.where(VALUES == 3, np.nan, VALUES), CLASSES, "1 of 6 "),
        (VALUES.astype(np.float64) * 1e300, CLASSES, "infinity"),
        (VALUES[:, 0], CLASSES, r"array of shape \(6,\)"),
        (VALUES.astype(str), CLASSES, "type <U"),
        (VALUES, [*CLASSES[:5], '""'], "label.* row 5"),
        (VALUES[:0], [], "needed are"),
    ],
)
def test_hostile_values_get_one_line(tmp_path, values, labels, words):
    with pytest.raises(DataError, match=words) as error:
        read_embeddings(saved(tmp_path, labels, values))
    assert "\n" not in str(error.value)


def test_hostile_files_get_one_line(tmp_path):
    with pytest.raises(DataError, match=r"absent\.npy"):
        read_embeddings(tmp_path / "absent.npy")
    (tmp_path / "e.txt").write_text("1 2")
    with pytest.raises(DataError, match=r"\.npz"):
        read_embeddings(tmp_path / "e.txt")
    (tmp_path / "e.npy").write_bytes(b"\x93NUMPY nonsense")
    (tmp_path / "e.csv").write_text("label\nx\n")
    with pytest.raises(DataError, match=r"e\.npy"):
        read_embeddings(tmp_path / "e.npy")
    np.save(tmp_path / "e.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"e\.npy"):
        read_embeddings(tmp_path / "e.npy")
    with pytest.raises(DataError, match="colour"):
        read_embeddings(saved(tmp_path, CLASSES, header="colour"))
    (tmp_path / "e.csv").write_bytes(b"label\n\xff\xfe\n")
    with pytest.raises(DataError, match="UTF-8"):
        read_embeddings(tmp_path / "e.npy")


def test_parquet_without_pyarrow_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "e.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"pip install 'oodml\[parquet\]'"):
        read_embeddings(tmp_path / "e.parquet")


def test_parquet_holds_the_same_as_npy(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    same = read_embeddings(saved(tmp_path, CLASSES))
    flat = pyarrow.array(VALUES.ravel())
    for vectors in (
        pyarrow.FixedSizeListArray.from_arrays(flat, 2),
        pyarrow.array(VALUES.tolist()),
    ):
        table = pyarrow.table({"vector": vectors, "label": CLASSES})
        parquet.write_table(table, tmp_path / "e.parquet", row_group_size=2)
        found = read_embeddings(tmp_path / "e.parquet")
        assert (found.values == same.values).all()
        assert found.source.weights == same.source.weights


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"vector": [[1.0, 2.0], [3.0]], "label": ["a", "b"]}, "2 lengths"),
        ({"vector": [[1.0, 2.0], None], "label": ["a", "b"]}, "or gaps"),
        ({"vector": [[1.0, None], [2.0, 3.0]], "label": ["a", "b"]}, "or gaps"),
        ({"vector": [["x"], ["y"]], "label": ["a", "b"]}, "string"),
        ({"vector": [[1.0], [2.0]], "other": [[1.0], [2.0]], "label": ["a", "b"]}, "2 columns"),
        ({"label": ["a", "b"]}, "0 columns of vectors"),
        ({"vector": [[1.0], [2.0]], "kind": ["a", "b"]}, "vector, kind"),
        ({"vector": [[1.0], [2.0]], "label": ["a", None]}, "empty label"),
    ],
)
def test_hostile_parquet_gets_one_line(tmp_path, columns, words):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), tmp_path / "e.parquet")
    with pytest.raises(DataError, match=words):
        read_embeddings(tmp_path / "e.parquet")
    (tmp_path / "e.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match=r"e\.parquet"):
        read_embeddings(tmp_path / "e.parquet")
