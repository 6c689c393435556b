"""The report of a finetuning job: metrics, curves, all runs, and wrong predictions of the exported model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from training.reports import html_page
from training.reports.charts import Chart, Line, column, draw_chart
from training.reports.class_scores import class_sections
from training.reports.html_page import SERIES, percent, section, words
from training.reports.wrong_predictions import wrong_predictions

TASKS = {
    "classify": "text classification",
    "token-classification": "token classification",
    "question-answering": "question answering",
}


@dataclass(frozen=True)
class RunCurves:
    """The records of one run, as read by `training.runs.records.Records.read`."""

    seed: int
    records: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Mapping[str, Any]]


def write_report(
    path: Path,
    *,
    title: str,
    results: Mapping[str, Any],
    labels: Mapping[str, str],
    examples: Mapping[str, Sequence[Any]],
    predictions: Mapping[str, Sequence[Mapping[str, Any]]],
    curves: Sequence[RunCurves],
) -> None:
    """Writes the page. Raises WriteError.

    `results` is the content of results.json; `labels` maps the labels (or tags) of the task, in order, to display
    names; `predictions` by part are those of the exported model. Wrong predictions are shown for the part "test", or
    for the last part if there is no "test".
    """
    part = "test" if "test" in predictions else list(predictions)[-1]
    best = next(run for run in results["runs"] if run["seed"] == results["best_seed"])
    where = f"on {escape(part)}" + (f", seed {best['seed']}" if len(results["runs"]) > 1 else "")
    wrong = wrong_predictions(results, examples[part], predictions[part], labels)
    sections = (
        section("Summary", _summary(results, labels, examples), hidden=True),
        f'<div class="charts">{"".join(_charts(results["metric"], curves))}</div>',
        section("Figures", _figures(results, examples)),
        section("Teachers and student", _taught(results)),
        section("Runs", _runs(results)),
        section("Learning rates and batch sizes tried", _grid(results)),
        class_sections(where, best["figures"][part], list(labels.values())),
        section(f"Wrong predictions {where}", wrong),
        section("Settings", _settings(results)),
    )
    html_page.write_page(path, title=title, sections=sections, style=STYLE)


# Summary and figures


def _summary(results: Mapping[str, Any], labels: Mapping[str, str], examples: Mapping[str, Sequence[Any]]) -> str:
    start = results["pretrained"]
    kinds = {"classify": f"{len(labels):,} labels", "token-classification": f"{len(labels):,} tags"}
    cells = [
        ("task", TASKS[results["task"]], ""),
        ("start", start["start"], "its shape, random weights" if start.get("from_scratch") else "pretrained weights"),
        ("training examples", f"{len(examples['train']):,}", kinds.get(results["task"], "")),
    ]
    for teacher in results.get("distillation", {}).get("teachers", ()):
        cells.append(("teacher", teacher["name"], f"{html_page.short(teacher['parameters'])} parameters"))
    metric = results["metric"]
    for part, spreads in results["figures"].items():
        cells.append(
            (f"{_part(part)}: {_metric(metric)}", percent(spreads[metric]["mean"]), _deviation(spreads[metric]))
        )
    return html_page.figures(cells)


def _metric(name: str) -> str:
    return words(name).replace("f1", "F1")


def _part(name: str) -> str:
    return name.replace("_not_in_train", ", not in train")


def _deviation(spread: Mapping[str, Any]) -> str:
    """Standard deviation over the seeds, in percentage points."""
    if spread["n"] == 1:
        return "one run"
    return f"± {100 * spread['standard_deviation']:.1f} over {spread['n']} seeds"


def _figures(results: Mapping[str, Any], examples: Mapping[str, Sequence[Any]]) -> str:
    """Every metric of every part, mean and standard deviation over the seeds."""
    runs = results["runs"]
    metrics = list(next(iter(results["figures"].values())))
    group = "one run" if len(runs) == 1 else f"mean ± standard deviation of {len(runs)} seeds"
    columns = [("examples", "all"), ("examples", "in train"), *((group, _metric(metric)) for metric in metrics)]
    rows = []
    for part, spreads in results["figures"].items():
        counts = runs[0]["figures"].get(part.removesuffix("_not_in_train"), {})
        seen = counts.get("in_train", 0)
        here = (len(examples[part]), seen) if part in examples else (counts["texts"] - seen, 0)
        cells = [f"{count:,}" for count in here] + [_mean(spreads[metric]) for metric in metrics]
        rows.append((_part(part), [(cell, False) for cell in cells]))
    return html_page.grouped_table("part", columns, rows) + _overlap_note(results)


def _taught(results: Mapping[str, Any]) -> str:
    """Sizes and metrics of teachers and student; empty without teachers."""
    if not (distillation := results.get("distillation")):
        return ""
    student = next(run for run in results["runs"] if run["seed"] == results["best_seed"])
    models = [*((each["name"], each) for each in distillation["teachers"]), ("student", distillation | student)]
    keys = [(part, metric) for part, spreads in results["figures"].items() for metric in spreads]
    keys = [(part, metric) for part, metric in keys if all(part in model["figures"] for _, model in models)]
    columns = [("", "parameters"), *((_part(part), _metric(metric)) for part, metric in keys)]
    rows = [
        (
            name,
            [
                (html_page.short(model["parameters"]), False),
                *((percent(model["figures"][part][metric]), False) for part, metric in keys),
            ],
        )
        for name, model in models
    ]
    return html_page.grouped_table("model", columns, rows)


def _mean(spread: Mapping[str, Any]) -> str:
    deviation = spread["standard_deviation"]
    return percent(spread["mean"]) if deviation is None else f"{100 * spread['mean']:.1f} ± {100 * deviation:.1f} %"


def _overlap_note(results: Mapping[str, Any]) -> str:
    if not any(figures.get("in_train") for figures in results["runs"][0]["figures"].values()):
        return ""
    whole = "the context" if results["task"] == "question-answering" else "the text"
    return (
        f'<p class="note">An example counts as in train if {whole} also occurs there, ignoring case, character width '
        "and punctuation.</p>"
    )


def _runs(results: Mapping[str, Any]) -> str:
    """All runs; with several runs the best value of each metric is marked."""
    parts, runs = list(results["figures"]), results["runs"]
    metrics = list(results["figures"][parts[0]])
    columns = [("weights", "of step"), *((_part(part), _metric(metric)) for part in parts for metric in metrics)]
    keys = [(part, metric) for part in parts for metric in metrics]
    best = {(part, metric): max(run["figures"][part][metric] for run in runs) for part, metric in keys}
    rows = []
    for run in runs:
        found = {key: run["figures"][key[0]][key[1]] for key in keys}
        cells = [(percent(found[key]), len(runs) > 1 and found[key] == best[key]) for key in keys]
        exported = ", exported" if run["seed"] == results["best_seed"] else ""
        rows.append((f"{run['seed']}{exported}", [(f"{run['best_step']:,}", False), *cells]))
    return html_page.grouped_table("seed", columns, rows)


def _grid(results: Mapping[str, Any]) -> str:
    """The grid search with the first seed; empty without one."""
    tried = results.get("grid", [])
    metric = f"dev {_metric(results['metric'])}"
    best = max((each["score"] for each in tried), default=0)
    columns = [("", "batch size"), ("", metric)]
    rows = [
        (
            f"{each['learning_rate']:g}",
            [(f"{each['batch_size']:,}", False), (percent(each["score"]), each["score"] == best)],
        )
        for each in tried
    ]
    return html_page.grouped_table("learning rate", columns, rows) if tried else ""


def _charts(metric: str, curves: Sequence[RunCurves]) -> list[str]:
    """Loss and selecting metric of all runs, each run in its own colour."""
    alone = len(curves) == 1
    losses = [
        Line("training" if alone else f"seed {run.seed}", *column(run.records, "loss"), number % SERIES, smooth=alone)
        for number, run in enumerate(curves)
    ]
    scores = [
        Line("dev" if alone else f"seed {run.seed}", *column(run.evaluations, metric), number % SERIES, dots=True)
        for number, run in enumerate(curves)
    ]
    return [
        draw_chart(Chart("Loss", losses), "loss"),
        draw_chart(Chart(f"Dev {_metric(metric)}", scores, share=True), "score"),
    ]


def _settings(results: Mapping[str, Any]) -> str:
    table = html_page.settings_table(dict(html_page.flat(results["settings"])))
    start = html_page.settings_table(dict(html_page.flat(results["pretrained"])))
    folded = f"<details><summary>the pretrained model</summary>{start}</details>"
    if distillation := results.get("distillation"):
        taught = html_page.settings_table(dict(html_page.flat(distillation["settings"])))
        folded += f"<details><summary>losses of the distillation</summary>{taught}</details>"
    return table + folded


STYLE = """\
.beside { display: flex; flex-wrap: wrap; gap: 0 18px; align-items: flex-start; }
.beside > section { max-width: 100%; flex: 1 1 auto; }
.beside .hint { width: 0; min-width: 100%; }
.note { padding-top: 10px; color: var(--soft); font-size: .86rem; }
.beside .table { max-height: 50em; }
.beside .matrix { max-height: none; }
.matrix td, .matrix th { padding: 3px 5px; }
.matrix tbody td { position: relative; min-width: 2.3em; text-align: center; z-index: 0; }
.matrix tbody td::before {
  content: ""; position: absolute; inset: 1px; z-index: -1; border-radius: 4px; opacity: calc(var(--share) * .55);
}
.matrix .hits::before { background: var(--series0); }
.matrix .misses::before { background: var(--series1); }
.beside tbody th { max-width: 13em; white-space: normal; overflow-wrap: anywhere; }
.beside .matrix tbody th { max-width: 9em; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.matrix .none { color: var(--line); }
.matrix thead th { vertical-align: bottom; text-align: left; }
.matrix thead span {
  display: block; max-height: 9em; writing-mode: vertical-rl;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis;
}
.matrix thead { position: static; }
.missed { background: var(--mark-soft); color: var(--mark); text-decoration: underline dotted 1px; }
article .wrong, .hint .wrong { text-decoration: underline wavy 1px; }
article span small { margin-left: 3px; color: inherit; opacity: .8; font-size: .68em; }
article details { line-height: 1.7; }
details .settings td:last-child { width: auto; }
article ol { display: flex; flex-wrap: wrap; gap: 0 16px; list-style: none; }
"""
