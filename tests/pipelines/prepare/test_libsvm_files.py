"""libsvm and libfm files: query ids, group sizes, fixed places."""

from ranker.config import build
from tests.pipelines.prepare.small_files import experiment, read_all, read_rejected, rows_of, run, tidy

SVM = {"label": "label >= 1", "request": ["qid"], "split": {"by": "hash", "of": "qid", "eval": 0.3}}


def svm(tmp_path, name="f.svm", groups=False, start=0):
    text = ["# made by x"]
    for n in range(40):
        query = "" if groups else f" qid:{n // 4}"
        text.append(f"{n % 3}{query} 1:{n} 3:{n / 2} {10 + n % 5}:1 # doc{n + start}")
    (tmp_path / name).write_text("\n".join(text) + "\n")
    return text


def svm_features(*names):
    features = {name: {"kind": "numeric", "role": "item"} for name in names}
    return {"features": {**features, "document": {"kind": "categorical", "role": "item"}}}


def without_defaults(config):
    tree = config.model_dump(mode="json")
    for name in ("user", "item", "price"):
        del tree["features"][name]
    return build(tree, "test")


def test_libsvm_with_query_ids(tmp_path):
    svm(tmp_path)
    with (tmp_path / "f.svm").open("a") as sink:
        sink.write("1 qid:3 1:x 3:1\n1 qid:3 1\n2 qid:3 1:1 1:2\n")
    changes = {**SVM, **svm_features("f1", "f3", "f12", "f99")}
    config = without_defaults(experiment(tmp_path, {"path": "f.svm", "row_id": "document"}, **changes))
    read_all(config, tmp_path / "run")
    rows = rows_of(tmp_path / "run", "__request__", "__label__", "f1", "f3", "f12", "f99")
    assert rows == tidy(
        (str(n // 4), float(n % 3 >= 1), float(n), n / 2, float(n % 5 == 2), 0.0) for n in range(40)
    )
    assert [(e["line"], e["reason"]) for e in read_rejected(tmp_path / "run")] == [
        (42, "has an entry that is not index:number: '1:x'"),
        (43, "has an entry that is not index:number: '1'"),
        (44, "has an index twice: 1"),
    ]
    assert len({row[0] for row in rows_of(tmp_path / "run", "document")}) == 40


def test_libsvm_with_a_file_of_group_sizes_and_a_split_by_file(tmp_path):
    for name in ("rank.train", "rank.test"):
        svm(tmp_path, name, groups=True)
        text = (tmp_path / name).read_text().replace("# made by x\n", "")
        (tmp_path / name).write_text(text)
        (tmp_path / f"{name}.query").write_text("5\n15\n20\n")
    split = {"by": "file", "train": ["rank.train"], "eval": ["*.test"]}
    events = {
        "path": ["rank.train", "rank.test"],
        "format": "svmlight",
        "groups": ".query",
        "row_id": "document",
    }
    changes = {**SVM, **svm_features("f1..f3"), "split": split}
    config = without_defaults(experiment(tmp_path, events, **changes))
    assert list(config.features) == ["f1", "f2", "f3", "document"]
    counted = read_all(config, tmp_path / "run")
    assert (counted.counts["train"], counted.counts["eval"]) == (40, 40)
    requests = [request for (request,) in rows_of(tmp_path / "run", "__request__", split="eval")]
    assert {name: requests.count(name) for name in set(requests)} == {
        "rank.test:0": 5,
        "rank.test:1": 15,
        "rank.test:2": 20,
    }


def test_libfm_with_fixed_places(tmp_path):
    text = [f"{n % 2 * 2 - 1} {n}:1 {100 + n % 9}:1 {200 + n % 3}:0.5\n" for n in range(50)]
    (tmp_path / "f.libfm").write_text("".join(text) + "1 2:1\n")
    events = {"path": "f.libfm", "columns": ["label", "user", "item", "price"]}
    features = {"price": {"kind": "categorical", "role": "item"}}
    counted, rows = run(tmp_path, events, features=features)
    assert rows == tidy((str(n), str(100 + n % 9), float(n % 2), f"{200 + n % 3}:0.5") for n in range(50))
    assert counted.counts["rejected"] == 1
