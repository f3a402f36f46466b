"""AUC of SmeLU beside scikit-learn's MLP with early stopping, logistic regression and LightGBM, on the same columns.

    STEADY_RANKER_DATA=DIRECTORY python benchmarks/quality.py [--set NAME ...] [--log FILE ...] [--replicas N] [--json FILE]
    python benchmarks/quality.py --merge FILE ...

Every set is prepared by the pipeline, and all models read the raw columns of that run's train and eval splits. SmeLU is
trained as `ranker init` writes it: only columns, label, split and that command's `model` and `training` are written down;
a log of one's own (`--log`, a file or a directory) has exactly that command's configuration, with SmeLU's arm alone. The
others have their libraries' defaults, but for early stopping and the iterations of the logistic regression. Bars: not below
the MLP, above the logistic regression, within 0.01 of LightGBM. How much an AUC can say depends on the positives among the
eval rows: of 7 it has a standard error of about 0.1, of 100 of 0.03.

The committed table: `pieces`, the number of pilots, the accumulators, `average_last: 0.5`, `embedding_stddev: 0` and the
quantiles between which pieces lie were chosen with the eval AUC of lambdarank, letor, spambase, phoneme, magic, twonorm,
criteo, coat, avazu, adult, frappe and open-bandit in view. That pilots are measured by the mean of their weights was chosen
by their curves on held-out training rows. The other logs took no part.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml
from scipy import sparse

HERE = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results"
MODELS = ("SmeLU", "scikit-learn MLP", "logistic regression", "LightGBM")
RANDOM_STATE = 0


def categorical(role: str = "context", **extra) -> dict:
    return {"kind": "categorical", "role": role, **extra}


def frappe(data: Path, work: Path) -> dict:
    """App use in context: ids only. The two parts that are there, split by a hash of the row."""
    names = [
        "user",
        "item",
        "daytime",
        "weekday",
        "weekend",
        "homework",
        "cost",
        "weather",
        "country",
        "city",
    ]
    with (work / "events.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "label", *names])
        row = 0
        for part in ("validation", "test"):
            for line in (data / "frappe" / f"frappe.{part}.libfm").read_text().splitlines():
                label, *ids = line.split()
                writer.writerow([row, int(label == "1"), *(i.split(":")[0] for i in ids)])
                row += 1
    return {
        "data": {
            "root": str(work),
            "events": {"path": "events.csv"},
            "label": "label == 1",
            "request": ["user"],
            "item": "item",
            "split": {"by": "hash", "of": ["row"], "eval": 0.1},
        },
        "features": {n: categorical("item" if n in ("item", "cost") else "context") for n in names},
    }


def movielens_100k(data: Path, work: Path) -> dict:
    """Ratings of 4 and 5 against the others, split by a hash of the pair."""
    tree = yaml.safe_load((HERE / "configs" / "movielens-100k.yaml").read_text())
    tree["data"]["root"] = str(data / "ml-100k")
    return {"data": tree["data"], "features": tree["features"]}


def movielens_1m(data: Path, work: Path) -> dict:
    """As the smaller one, with the split in time of the file."""
    tree = yaml.safe_load((HERE / "configs" / "movielens-1m-binary.yaml").read_text())
    tree["data"]["root"] = str(data / "ml-1m")
    return {"data": tree["data"], "features": tree["features"]}


def lambdarank(data: Path, work: Path) -> dict:
    """LightGBM's learning-to-rank example: 300 numbers, grades of 2 and more against the others, its own two files."""
    columns = [f"x{i}" for i in range(1, 301)]
    with (work / "events.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "query", "document", "label", *columns])
        document = 0
        for split in ("train", "test"):
            sizes = (data / "lambdarank" / f"rank.{split}.query").read_text().split()
            queries = np.repeat(np.arange(len(sizes)), np.array(sizes, int))
            lines = (data / "lambdarank" / f"rank.{split}").read_text().splitlines()
            for query, line in zip(queries, lines, strict=True):
                grade, *pairs = line.split()
                values = dict(pair.split(":") for pair in pairs)
                row = [values.get(str(i), "0") for i in range(1, 301)]
                writer.writerow([split, f"{split}{query}", f"d{document % 8}", int(int(grade) >= 2), *row])
                document += 1
    features = {"document": categorical("item")}
    features |= {
        c: {"kind": "numeric", "role": "item", "transform": "standardize", "pieces": 16} for c in columns
    }
    return {
        "data": {
            "root": str(work),
            "events": {"path": "events.csv"},
            "label": "label == 1",
            "request": ["query"],
            "item": "document",
            "split": {"by": "column", "of": "split", "train": ["train"], "eval": ["test"]},
        },
        "features": features,
    }


SETS = {
    "frappe": frappe,
    "ml-100k": movielens_100k,
    "lambdarank": lambdarank,
    "ml-1m": movielens_1m,
}


def ranker(*arguments: str) -> None:
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-m", "ranker.cli", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")


def proposal(log: Path, work: Path) -> dict:
    """What `ranker init` writes for a log, as it stands."""
    ranker("init", str(log), "--output", str(work / "init.yaml"))
    return yaml.safe_load((work / "init.yaml").read_text())


def prepare(name: str, log: Path | None, data: Path, work: Path) -> Path:
    """Prepares a public set, or a log by the configuration of `ranker init`; returns the run directory."""
    run = work / "run"
    if not (run / "data" / "manifest.json").exists():
        defaults = {
            "model": {"embedding_stddev": 0},
            "training": {"reshuffle": True, "average_last": 0.5},
        }
        tree = defaults | (proposal(log, work) if log else SETS[name](data, work))
        tree |= {"name": name, "arms": {"smelu": {}}, "replicas": {"count": 1}}
        (work / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
        ranker("prepare", "--config", str(work / "config.yaml"), "--run-dir", str(run))
    return run


def read_split(experiment, run: Path, split: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The raw columns of a split that a model is served with, and its labels."""
    from ranker import layout
    from ranker.backend import tf
    from ranker.features import FeatureEncoder
    from ranker.inputs import plan
    from ranker.training.rows.examples import parse_block

    encoder = FeatureEncoder(plan(experiment, run))
    served = encoder.raw_signature()
    parse = parse_block(encoder)
    blocks = [parse(r) for r in tf.data.TFRecordDataset([str(p) for p in layout.shard_paths(run, split)])]
    whole = {name: np.concatenate([b[name].numpy() for b in blocks]) for name in blocks[0]}
    label = whole[layout.LABEL]
    whole = {name: values for name, values in whole.items() if name in served}
    return {name: v.astype(str) if v.dtype == object else v for name, v in whole.items()}, label


def served_features(experiment, columns: dict) -> list[tuple]:
    """The features a model is served with, by name: the position in a list shown, say, is for training only."""
    return [(name, feature) for name, feature in experiment.features.items() if name in columns]


def one_hot(experiment, train: dict, evaluation: dict) -> list[sparse.csr_matrix]:
    """Categories as indicators (of several values each its own), numbers standardised, missing ones 0 with an indicator."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import StandardScaler

    parts: list[list] = [[], []]
    for name, feature in served_features(experiment, train):
        if feature.kind == "categorical":
            separator = feature.multivalued
            split = (lambda text, s=separator: text.split(s)) if separator else (lambda text: [text])
            encoder = CountVectorizer(analyzer=split, binary=True, dtype=np.float32).fit(train[name])
            for part, rows in zip(parts, (train, evaluation), strict=True):
                part.append(encoder.transform(rows[name]))
        else:
            scaler = StandardScaler().fit(train[name].reshape(-1, 1))
            for part, rows in zip(parts, (train, evaluation), strict=True):
                values = scaler.transform(rows[name].reshape(-1, 1))
                part.append(sparse.csr_matrix(np.hstack([np.nan_to_num(values), np.isnan(values)])))
    return [sparse.hstack(part).tocsr().astype(np.float32) for part in parts]


def codes(experiment, train: dict, evaluation: dict) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """For LightGBM: categories as codes by their order (of several values an indicator each), numbers as they are."""
    columns: list[list[np.ndarray]] = [[], []]
    categories = []
    for name, feature in served_features(experiment, train):
        if feature.kind != "categorical":
            pairs = [(train[name], evaluation[name])]
        elif feature.multivalued:
            tokens = sorted({t for text in train[name] for t in text.split(feature.multivalued)})
            has = [
                {t: np.array([t in text.split(feature.multivalued) for text in rows[name]]) for t in tokens}
                for rows in (train, evaluation)
            ]
            pairs = [(has[0][t], has[1][t]) for t in tokens]
        else:
            code = {value: i for i, value in enumerate(np.unique(train[name]))}
            categories.append(len(columns[0]))
            pairs = [tuple(np.array([code.get(v, -1) for v in rows[name]]) for rows in (train, evaluation))]
        for first, second in pairs:
            columns[0].append(np.asarray(first, np.float64))
            columns[1].append(np.asarray(second, np.float64))
    return np.stack(columns[0], axis=1), np.stack(columns[1], axis=1), categories


def rivals(experiment, run: Path) -> dict[str, float]:
    """The AUC of each rival on the eval rows."""
    import lightgbm
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.neural_network import MLPClassifier

    (train, label), (evaluation, truth) = (read_split(experiment, run, s) for s in ("train", "eval"))
    x, z = one_hot(experiment, train, evaluation)
    linear = LogisticRegression(max_iter=1000).fit(x, label)
    mlp = MLPClassifier(early_stopping=True, random_state=RANDOM_STATE).fit(x, label)
    first, second, categories = codes(experiment, train, evaluation)
    trees = lightgbm.LGBMClassifier(random_state=RANDOM_STATE, verbose=-1, n_jobs=2)
    trees.fit(first, label, categorical_feature=categories)
    return {
        "logistic regression": float(roc_auc_score(truth, linear.predict_proba(z)[:, 1])),
        "scikit-learn MLP": float(roc_auc_score(truth, mlp.predict_proba(z)[:, 1])),
        "LightGBM": float(roc_auc_score(truth, trees.predict_proba(second)[:, 1])),
    }


def smelu(run: Path, work: Path, replicas: int, overrides: list[str]) -> dict:
    """Trains by the defaults; the AUC of each replica on the eval rows, and how long they trained."""
    from sklearn.metrics import roc_auc_score

    from ranker import layout
    from ranker.backend import tf
    from ranker.config import load

    sets = [argument for text in (f"replicas.count={replicas}", *overrides) for argument in ("--set", text)]
    ranker("train", "--config", str(work / "config.yaml"), *sets, "--run-dir", str(run))
    experiment = load(layout.config_path(run))
    evaluation, truth = read_split(experiment, run, "eval")
    aucs = []
    for replica in range(replicas):
        base = layout.replica_dir(run, "smelu", replica)
        directory = base / str(layout.newest_version(base))
        signature = tf.saved_model.load(str(directory)).signatures["serving_default"]
        columns = {
            name: tf.constant(v, tf.string if v.dtype.kind == "U" else tf.float32)
            for name, v in evaluation.items()
        }
        aucs.append(float(roc_auc_score(truth, signature(**columns)["score"].numpy()[:, 0])))
    training = json.loads((directory / "training.json").read_text())
    rows = {"eval_rows": len(truth), "eval_positives": int(truth.sum())}
    return {"auc": aucs, "steps": training["steps"], "ended_by": training["ended_by"], **rows}


def write_table(results: dict) -> None:
    """Writes the results beside those of the other benchmarks, as JSON and as a table."""
    (RESULTS / "quality.json").write_text(json.dumps(results, indent=1) + "\n")
    lines = [
        "AUC on the eval rows by `benchmarks/quality.py`; a bar that is missed is named. SmeLU is the mean of its replicas.",
        "",
        f"| log | eval rows, positives | {' | '.join(MODELS)} | steps | bars missed |",
        f"|---|{'---|' * (len(MODELS) + 3)}",
    ]
    for name, row in results.items():
        missed = ", ".join(bar for bar, holds in row["bars"].items() if not holds)
        values = " | ".join(f"{row['auc'][model]:.4f}" for model in MODELS)
        ours = row["smelu"]
        rows = f"{ours['eval_rows']:,}, {ours['eval_positives']:,}"
        lines.append(f"| {name} | {rows} | {values} | {ours['steps']:,} | {missed or 'none'} |")
    (RESULTS / "quality.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", action="append", choices=SETS, help="only this set; may be repeated")
    parser.add_argument(
        "--log", action="append", type=Path, default=[], help="a log with a label of two classes"
    )
    parser.add_argument("--replicas", type=int, default=2, help="of SmeLU; the table has their mean")
    parser.add_argument("--override", action="append", default=[], help="KEY=VALUE of the configuration")
    parser.add_argument("--work", type=Path, help="where prepared sets are kept; default: nowhere")
    parser.add_argument("--json", type=Path, help="where the results are written")
    parser.add_argument(
        "--merge", nargs="+", type=Path, help="write the table of these results, and measure nothing"
    )
    arguments = parser.parse_args()
    if arguments.merge:
        write_table(
            {name: row for path in arguments.merge for name, row in json.loads(path.read_text()).items()}
        )
        return
    data = Path(os.environ.get("STEADY_RANKER_DATA", "nowhere"))
    names = arguments.set or ([] if arguments.log else list(SETS))
    if names and not data.is_dir():
        raise SystemExit(
            "quality: needs STEADY_RANKER_DATA, the directory of the public sets; nothing is measured"
        )
    results = {}
    logs = dict.fromkeys(names) | {path.stem: path.resolve() for path in arguments.log}
    for name, log in logs.items():
        with tempfile.TemporaryDirectory() as temporary:
            work = (arguments.work or Path(temporary)) / name
            work.mkdir(parents=True, exist_ok=True)
            run = prepare(name, log, data, work)
            from ranker.config import load

            saved = work / "rivals.json"
            if not saved.exists():
                saved.write_text(json.dumps(rivals(load(work / "config.yaml"), run)))
            row = json.loads(saved.read_text())
            ours = smelu(run, work, arguments.replicas, arguments.override)
            row["SmeLU"] = float(np.mean(ours["auc"]))
            bars = {
                "not below the MLP": row["SmeLU"] >= row["scikit-learn MLP"],
                "above logistic regression": row["SmeLU"] > row["logistic regression"],
                "within 0.01 of LightGBM": row["SmeLU"] >= row["LightGBM"] - 0.01,
            }
            results[name] = {"auc": row, "bars": bars, "smelu": ours}
            figures = "  ".join(f"{model} {value:.4f}" for model, value in row.items())
            print(f"{name:11}{figures}\n{'':11}{ours['steps']} steps, {ours['ended_by']}", flush=True)
            print(f"{'':11}" + ", ".join(f"{bar}: {'yes' if holds else 'NO'}" for bar, holds in bars.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
