"""The report of a finetuning: the figures of its results and its mistakes, the worst first, whatever texts hold."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.training.finetuning.test_finetuning_loop import CONFIG, VOCAB, reviews
from tests.training.reports.html_page import Page
from training.datasets.examples import Answer, Example, Question, TaggedSentence
from training.datasets.tag_schemes import BMES, IOB1, Scheme
from training.finetuning.job import FinetuneJob, run_job
from training.finetuning.settings import FinetuneRunSettings, FinetuneSettings
from training.finetuning.starting_point import StartingPoint
from training.reports.finetuning_report import RunCurves, write_report
from training.tasks.metrics import answer_scores, classification_scores, entity_scores, spread

HOSTILE = '</dd></style><script>alert(1)</script><img src=x onerror="alert(1)">&\'$x_{\x00'
LABELS = {"0": "negative", "1": "positive", "2": "<b>neutral</b>"}


def classified(label: str, text: str, *scores: float) -> tuple[Example, dict[str, Any]]:
    """An example and its prediction, which is the likeliest of the labels."""
    given = dict(zip(LABELS, scores, strict=True))
    best = max(given, key=given.__getitem__)
    return Example(label, text), {"label": best, "score": given[best], "scores": given}


CLASSIFIED = [
    classified("0", "right", 0.8, 0.1, 0.1),
    classified("0", "unsure", 0.3, 0.45, 0.25),
    classified("0", "confident", 0.02, 0.95, 0.03),
    classified("1", "between", 0.2, 0.1, 0.7),
    classified("1", "right too", 0.2, 0.7, 0.1),
]
QUESTION_TEXT = f"{'前' * 300}哈尔滨在中国的北方，{'间' * 300}上海在南方。{'后' * 300}"


def a_question(number: str, *answers: str) -> Question:
    places = tuple(Answer(answer, QUESTION_TEXT.index(answer)) for answer in answers)
    return Question(number, QUESTION_TEXT, f"问题{number}？", places)


def an_answer(number: str, answer: str, score: float) -> dict[str, Any]:
    return {"id": number, "answer": answer, "start": QUESTION_TEXT.index(answer), "score": score}


def results(task: str, figures: dict[str, list[dict[str, Any]]], metric: str, metrics: list[str]) -> dict[str, Any]:
    """As results.json has them, of as many seeds as a part has figures; the last is exported."""
    seeds = list(range(1, 1 + len(next(iter(figures.values())))))
    return {
        "task": task,
        "pretrained": {"start": "ernie", "weights": "sha256 0"},
        "settings": {"epochs": 2, "seed": seeds},
        "figures": {
            part: {name: spread([each[name] for each in found]) for name in metrics} for part, found in figures.items()
        },
        "runs": [
            {
                "seed": seed,
                "best_step": 10 * seed,
                "figures": {part: found[seed - 1] for part, found in figures.items()},
            }
            for seed in seeds
        ],
        "metric": metric,
        "best_seed": seeds[-1],
        "grid": [],
    }


def page(path: Path, **parts: Any) -> Page:
    curves = [
        RunCurves(
            run["seed"],
            [{"step": step, "loss": 1 / step} for step in (1, 2, 3)],
            [{"step": step, parts["results"]["metric"]: step / 10} for step in (2, 3)],
        )
        for run in parts["results"]["runs"]
    ]
    write_report(path / "report.html", title="Finetuning, it", **{"labels": {}, "curves": curves, **parts})
    return Page(path / "report.html")


def of_classes(path: Path, rows: list[tuple[Example, dict[str, Any]]] = CLASSIFIED, **more: Any) -> Page:
    examples, predictions = (list(side) for side in zip(*rows, strict=True))
    labels = more.get("labels", LABELS)
    figures = classification_scores([e.label for e in examples], [p["label"] for p in predictions], list(labels))
    figures |= {"texts": len(rows), "in_train": 0}
    metrics = ["accuracy", "macro_f1", "micro_f1"]
    parts = {
        "results": results("classify", {"test": [figures]}, "accuracy", metrics),
        "labels": labels,
        "examples": {"train": examples * 2, "test": examples},
        "predictions": {"test": predictions},
    }
    return page(path, **{**parts, **more})


def of_tags(path: Path, sentences: list[TaggedSentence], tags: list[list[str]], scheme: Scheme = BMES) -> Page:
    figures = entity_scores([each.tags for each in sentences], tags, scheme) | {"texts": 1, "in_train": 0}
    return page(
        path,
        results=results("token-classification", {"test": [figures]}, "f1", ["f1", "precision", "recall"])
        | {"scheme": scheme.name},
        labels={tag: tag for tag in ("O", *scheme.tags(["LOC", "PER"]))},
        examples={"train": sentences, "test": sentences},
        predictions={"test": [{"tags": each} for each in tags]},
    )


def of_questions(path: Path, questions: list[Question], predictions: list[dict[str, Any]]) -> Page:
    figures = answer_scores(questions, {each["id"]: each["answer"] for each in predictions})
    return page(
        path,
        results=results("question-answering", {"test": [figures | {"texts": 1}]}, "f1", ["f1", "exact_match"]),
        examples={"train": questions, "test": questions},
        predictions={"test": predictions},
    )


def card(page: Page, heading: str) -> str:
    """HTML of the section under the heading."""
    return page.source.split(f">{heading}</h2>")[1].split("</section>")[0]


def cells(html: str) -> dict[str, list[str]]:
    """Texts of the rows of a table by the first one of each."""
    rows = re.findall(r'<tr><th scope="row"[^>]*>(.*?)</th>(.*?)</tr>', html)
    return {name: re.findall(r"<td[^>]*>(.*?)</td>", row) for name, row in rows}


def lines(page: Page) -> list[dict[str, str]]:
    """The lines of every mistake by their names, marks as [class text]."""
    found = []
    for article in re.findall(r"<article>(.*?)</article>", page.source, flags=re.S):
        marked = re.sub(r'<span class="(\w+)">(.*?)</span>', r"[\1 \2]", article, flags=re.S)
        pairs = re.findall(r"<dt>(.*?)</dt><dd lang=zh>(.*?)</dd>", marked, flags=re.S)
        found.append({name: re.sub(r"<[^>]*>", "", line) for name, line in pairs})
    return found


def test_the_figures_are_those_of_the_results(tmp_path: Path) -> None:
    seen = {"examples": 5, "texts": 5, "in_train": 2}
    figures = {
        "dev": [
            {**seen, "accuracy": share, "confusion": [[seed, 0, 0], [0, 1, 0], [0, 0, 1]]}
            for seed, share in ((1, 0.5), (2, 0.625), (3, 0.75))
        ],
        "dev_not_in_train": [{"examples": 3, "accuracy": share} for share in (0.25, 0.25, 0.4)],
    }
    found = results("classify", figures, "accuracy", ["accuracy"])
    rows = [each for each, _ in CLASSIFIED]
    report = of_classes(
        tmp_path,
        results=found,
        examples={"train": rows * 300, "dev": rows},
        predictions={"dev": [each for _, each in CLASSIFIED]},
    )
    summary = re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)<small>([^<]*)</small>", report.source)
    assert summary == [
        ("task", "text classification", ""),
        ("start", "ernie", "pretrained weights"),
        ("training examples", "1,500", "3 labels"),
        ("dev: accuracy", "62.5 %", "± 12.5 over 3 seeds"),
        ("dev, not in train: accuracy", "30.0 %", "± 8.7 over 3 seeds"),
    ]
    assert cells(card(report, "Figures")) == {
        "dev": ["5", "2", "62.5 ± 12.5 %"],
        "dev, not in train": ["3", "0", "30.0 ± 8.7 %"],
    }
    assert cells(card(report, "Runs")) == {
        "1": ["10", "50.0 %", "25.0 %"],
        "2": ["20", "62.5 %", "25.0 %"],
        "3, exported": ["30", "75.0 %", "40.0 %"],
    }
    assert re.findall(r"class=best>([^<]*)", card(report, "Runs")) == ["75.0 %", "40.0 %"]
    assert report.text_in("figcaption", "h2") == ["Loss", "Dev accuracy"]
    assert report.text_in("figcaption", "li") == ["seed 1", "seed 2", "seed 3"] * 2
    assert "in train if the text also occurs there" in report.source
    assert "Confusion matrix on dev, seed 3" in report.text_in("h2")
    assert cells(card(report, "Confusion matrix on dev, seed 3"))["negative"] == ["3", "0", "0"]
    assert cells(card(report, "Settings"))["epochs"] == ["2"]


def test_one_run_has_no_spread(tmp_path: Path) -> None:
    report = of_classes(tmp_path)
    assert "one run" in report.source
    assert "also occurs there" not in report.source
    assert "±" not in report.source
    assert not re.findall("class=best", card(report, "Runs"))


def test_the_confusion_matrix_has_a_row_for_each_right_label_under_the_names_shown(tmp_path: Path) -> None:
    matrix = card(of_classes(tmp_path), "Confusion matrix on test")
    assert cells(matrix) == {
        "negative": ["1", "2", "0"],
        "positive": ["0", "1", "1"],
        "&lt;b&gt;neutral&lt;/b&gt;": ["0", "0", "0"],
    }
    assert re.findall(r"<span>(.*?)</span>", matrix) == ["negative", "positive", "&lt;b&gt;neutral&lt;/b&gt;"]
    negative = re.findall(r'class="(\w+)" style="--share: ([\d.]+)" title="(.*?)"', matrix)[:3]
    assert negative == [
        ("hits", "0.333", "negative → negative: 33.3 %"),
        ("misses", "0.667", "negative → positive: 66.7 %"),
        ("none", "0.000", "negative → &lt;b&gt;neutral&lt;/b&gt;: 0.0 %"),
    ]


def test_precision_recall_and_f1_of_every_class(tmp_path: Path) -> None:
    assert cells(card(of_classes(tmp_path), "Classes on test")) == {
        "negative": ["100.0 %", "33.3 %", "50.0 %", "3"],
        "positive": ["33.3 %", "50.0 %", "40.0 %", "2"],
        "&lt;b&gt;neutral&lt;/b&gt;": ["0.0 %", "–", "0.0 %", "0"],  # predicted once, and never there
    }


def test_of_very_many_classes_the_most_frequent_confusions_are_listed(tmp_path: Path) -> None:
    labels = {str(number): f"class {number}" for number in range(60)}
    wrong = ("7", "9", "9", "9")
    rows = [
        (Example("7", "text"), {"label": label, "score": 0.5, "scores": {**dict.fromkeys(labels, 0.0), label: 0.5}})
        for label in wrong
    ]
    report = of_classes(tmp_path, rows, labels=labels)
    assert cells(card(report, "Most frequent confusions on test")) == {"class 7": ["class 9", "3", "75.0 %"]}
    assert "matrix" not in report.values("class")


def test_the_most_confident_mistake_comes_first_with_its_scores(tmp_path: Path) -> None:
    report = of_classes(tmp_path)
    assert "3 of 5." in report.source
    assert lines(report) == [
        {
            "text": "confident",
            "label": "[right negative] predicted [wrong positive]",
            "scores": "positive 95.0 %&lt;b&gt;neutral&lt;/b&gt; 3.0 %negative 2.0 %",
        },
        {
            "text": "between",
            "label": "[right positive] predicted [wrong &lt;b&gt;neutral&lt;/b&gt;]",
            "scores": "&lt;b&gt;neutral&lt;/b&gt; 70.0 %negative 20.0 %positive 10.0 %",
        },
        {
            "text": "unsure",
            "label": "[right negative] predicted [wrong positive]",
            "scores": "positive 45.0 %negative 30.0 %&lt;b&gt;neutral&lt;/b&gt; 25.0 %",
        },
    ]


def test_the_right_label_has_its_score_however_low_it_is(tmp_path: Path) -> None:
    labels = {str(number): f"class {number}" for number in range(9)}
    scores = {label: (10 - int(label)) / 100 for label in labels}
    rows = [(Example("8", "text"), {"label": "0", "score": 0.1, "scores": scores})] * 2
    assert lines(of_classes(tmp_path, rows, labels=labels))[0]["scores"].endswith("class 4 6.0 %class 8 2.0 %")


def test_twenty_mistakes_are_shown_of_many(tmp_path: Path) -> None:
    report = of_classes(tmp_path, CLASSIFIED[2:3] * 30)
    assert "30 of 30; the first 20." in report.source
    assert len(lines(report)) == 20


def test_a_long_text_is_folded_and_whole(tmp_path: Path) -> None:
    text = "".join(f"{number:04}" for number in range(1000))
    report = of_classes(tmp_path, [classified("0", text, 0.1, 0.8, 0.1)])
    assert report.text_in("article", "details")[:2] == ["3,700 more characters", text[300:]]
    assert text[:300] in report.text_in("article", "dd")


def test_a_pair_shows_both_texts(tmp_path: Path) -> None:
    example = Example("0", "first", "second")
    shown = lines(of_classes(tmp_path, [(example, CLASSIFIED[2][1])]))
    assert (shown[0]["text"], shown[0]["second text"]) == ("first", "second")


@pytest.mark.parametrize("task", ["classes", "tags", "questions"])
def test_without_mistakes_the_page_says_so(tmp_path: Path, task: str) -> None:
    sentence = TaggedSentence(("沪",), ("S-LOC",))
    report = {
        "classes": lambda: of_classes(tmp_path, CLASSIFIED[:1]),
        "tags": lambda: of_tags(tmp_path, [sentence], [["S-LOC"]]),
        "questions": lambda: of_questions(tmp_path, [a_question("1", "上海")], [an_answer("1", "上海", 1.0)]),
    }[task]()
    assert "There are none: every prediction is correct." in card(report, "Wrong predictions on test")
    assert not lines(report)


def test_sentences_show_the_entities_that_were_found_missed_and_made_up(tmp_path: Path) -> None:
    tokens = (*"张三在北京和上海说OK", "yes")
    gold = ("B-PER", "E-PER", "O", "B-LOC", "E-LOC", "O", "B-LOC", "E-LOC", *"OOOO")
    said = ["B-LOC", "E-LOC", "O", "B-LOC", "E-LOC", "O", *"OO", "S-PER", *"OOO"]
    fine, little = TaggedSentence(("沪",), ("S-LOC",)), TaggedSentence(("京", "。"), ("S-LOC", "O"))
    made_up = TaggedSentence(("他", "说"), ("O", "O"))
    report = of_tags(
        tmp_path,
        [fine, little, made_up, TaggedSentence(tokens, gold)],
        [["S-LOC"], ["O", "O"], ["S-PER", "O"], said],
    )
    assert "3 of 4." in report.source
    assert lines(report) == [
        {
            "labelled": "[missed 张三PER]在[right 北京LOC]和[missed 上海LOC]说OK yes",
            "predicted": "[wrong 张三LOC]在[right 北京LOC]和上海[wrong 说PER]OK yes",
        },
        {"labelled": "[missed 京LOC]。", "predicted": "京。"},
        {"labelled": "他说", "predicted": "[wrong 他PER]说"},
    ]
    assert cells(card(report, "Entity types on test")) == {
        "LOC": ["66.7 %", "50.0 %", "57.1 %", "4"],
        "PER": ["0.0 %", "0.0 %", "0.0 %", "1"],
    }


def test_entities_are_those_of_the_scheme_of_the_results(tmp_path: Path) -> None:
    sentences = [TaggedSentence(tuple("李王走"), ("I-PER", "B-PER", "O"))]
    report = of_tags(tmp_path, sentences, [["I-PER", "O", "O"]], IOB1)
    assert lines(report) == [{"labelled": "[right 李PER][missed 王PER]走", "predicted": "[right 李PER]王走"}]


def test_of_a_long_sentence_only_what_stands_around_the_differences_is_shown(tmp_path: Path) -> None:
    tokens, gold = ["零"] * 600, ["O"] * 600
    gold[100] = gold[500] = "S-LOC"
    report = of_tags(tmp_path, [TaggedSentence(tuple(tokens), tuple(gold))], [["O"] * 600])
    half = "零" * 50
    assert lines(report)[0]["labelled"] == f"…{half}[missed 零LOC]{half}… …{half}[missed 零LOC]{half}… "


def test_questions_show_the_answers_in_their_context_the_worst_first(tmp_path: Path) -> None:
    questions = [
        a_question("right", "上海", "上海在南方"),
        a_question("overlap", "哈尔滨在中国"),
        a_question("unsure", "上海"),
        a_question("sure", "上海", "上海在南方"),
    ]
    answers = [
        an_answer("right", "上海", 9.0),
        an_answer("overlap", "尔滨在中国的北方", 2.0),
        an_answer("unsure", "哈尔滨", 1.5),
        an_answer("sure", "中国", 7.25),
    ]
    report = of_questions(tmp_path, questions, answers)
    assert "3 of 4." in report.source
    shown = lines(report)
    assert [each["question"] for each in shown] == ["问题sure？", "问题unsure？", "问题overlap？"]
    assert shown[0]["right"] == "[right 上海][right 上海在南方]"
    assert shown[0]["given"] == "[wrong 中国] F1 0.0 %, score 7.2"
    between = f"{'间' * 50}"
    assert shown[0]["context"].startswith(f"…{'前' * 46}哈尔滨在[wrong 中国]的北方，")
    assert f"{between}[missed 上海在南方]。" in shown[0]["context"]
    assert "… …" in shown[0]["context"]
    assert "[missed 哈][right 尔滨在中国][wrong 的北方]，" in shown[2]["context"]
    assert shown[2]["given"].startswith("[wrong 尔滨在中国的北方] F1 71.4 %")


def test_a_right_answer_without_a_place_is_told_and_no_answer_is_called_none(tmp_path: Path) -> None:
    question = Question("1", "上海在南方。", "哪里？", (Answer("申城", None),))
    shown = lines(of_questions(tmp_path, [question], [{"id": "1", "answer": "", "start": 0, "score": None}]))
    assert shown == [
        {"question": "哪里？", "context": "上海在南方。", "right": "[right 申城]", "given": "none F1 0.0 %"}
    ]


@pytest.mark.parametrize("task", ["classes", "tags", "questions"])
def test_hostile_text_stays_text(tmp_path: Path, task: str) -> None:
    question = Question(HOSTILE, HOSTILE, HOSTILE, (Answer(HOSTILE[5:], 5),))
    labels = {name: f"{HOSTILE}{name}" for name in LABELS}
    report = {
        "classes": lambda: of_classes(
            tmp_path, [classified("0", text, 0.1, 0.8, 0.1) for text in (HOSTILE, HOSTILE * 20)], labels=labels
        ),
        "tags": lambda: of_tags(tmp_path, [TaggedSentence((HOSTILE, "沪"), ("S-LOC", "O"))], [["O", "S-PER"]]),
        "questions": lambda: of_questions(
            tmp_path, [question], [{"id": HOSTILE, "answer": HOSTILE[:9], "start": 0, "score": 1.0}]
        ),
    }[task]()
    assert not {"script", "img", "link"} & {*report.tags}
    assert not [name for _, name, _ in report.attributes if name.startswith("on")]
    assert "alert(1)" in "".join(report.text_in("article"))


def test_the_rates_that_were_tried_are_told_with_their_scores(tmp_path: Path) -> None:
    figures = {"examples": 1, "accuracy": 0.5, "texts": 1, "in_train": 0, "confusion": [[1, 0, 0]] * 3}
    found = results("classify", {"test": [figures]}, "accuracy", ["accuracy"])
    found["grid"] = [
        {"learning_rate": rate, "batch_size": 16, "score": score} for rate, score in ((5e-5, 0.25), (1e-4, 0.5))
    ]
    table = card(of_classes(tmp_path, results=found), "Learning rates and batch sizes tried")
    assert cells(table) == {"5e-05": ["16", "25.0 %"], "0.0001": ["16", "50.0 %"]}
    assert re.findall("class=best>([^<]*)", table) == ["50.0 %"]


# Really finetuned

TAGGED = [TaggedSentence(tuple("我在北京。"), ("O", "O", "B-LOC", "E-LOC", "O")), TaggedSentence(("沪",), ("S-LOC",))]
CITY = Question("1", "哈尔滨在中国的北方。", "哪个城市？", (Answer("哈尔滨", 0),))


@pytest.mark.parametrize(
    ("task", "rows", "headings"),
    [
        ("classify", reviews(0, 24), ["Confusion matrix on dev", "Classes on dev"]),
        ("token-classification", TAGGED * 6, ["Entity types on dev"]),
        ("question-answering", [CITY] * 8, []),
    ],
    ids=["classify", "tag", "answer"],
)
def test_every_finetuning_ends_with_its_page(tmp_path: Path, task: Any, rows: list[Any], headings: list[str]) -> None:
    start = StartingPoint(CONFIG, None, VOCAB, {"start": "tiny", "from_scratch": True})
    settings = FinetuneSettings(epochs=1, batch_size=8, max_seq_length=32)
    output = tmp_path / "it"
    parts = {"train": rows, "dev": rows[:10]}
    names = {"0": "bad"} if task == "classify" else {}
    run_settings = FinetuneRunSettings(log_every=1)
    run_job(FinetuneJob(task, parts, start, settings, output, seeds=(1, 2), names=names, run_settings=run_settings))
    report, found = Page(output / "report.html"), json.loads((output / "results.json").read_text(encoding="utf-8"))
    assert report.text_in("h1") == ["Finetuning, it"]
    assert "its shape, random weights" in report.text_in("small")
    whole = "the context" if task == "question-answering" else "the text"
    assert f"in train if {whole} also occurs there" in report.source  # dev is a part of train
    assert not {"script", "link", "iframe", "img", "image", "object", "base"} & {*report.tags}
    assert not re.search(r"https?://", report.source)
    assert [*(f"{heading}, seed {found['best_seed']}" for heading in headings)] == [
        heading for heading in report.text_in("section", "h2") if heading.startswith(("Conf", "Class", "Entity"))
    ]
    metric = found["metric"]
    best = next(run for run in found["runs"] if run["seed"] == found["best_seed"])
    assert f"{100 * best['figures']['dev'][metric]:.1f} %" in cells(card(report, "Runs"))[f"{best['seed']}, exported"]
    assert best["figures"]["dev"][metric] == max(run["figures"]["dev"][metric] for run in found["runs"])
    assert report.tags.count("svg") == 2
    ids = report.values("id")
    assert len(ids) == len({*ids})
    assert ("bad" in report.text_in("th")) == (task == "classify")
