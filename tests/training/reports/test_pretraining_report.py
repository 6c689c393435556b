"""The report of a run is one page that holds everything, asks nobody for anything, and survives any text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.reports.html_page import Page
from training.pretraining.filled_samples import FilledSample, MaskPrediction
from training.reports.charts import POINTS, downsample, running_mean
from training.reports.pretraining_report import write_report


def a_record(step: int, **more: Any) -> dict[str, Any]:
    return {
        "step": step,
        "loss": 9.0 - step / 100,
        "mlm": 8.5 - step / 100,
        "sop": 0.5,
        "learning_rate": step * 1e-6,
        "gradient_norm": 1.5,
        "tokens_per_second": 4000.0,
        "samples_per_second": 40.0,
        "padding": 0.0625,
        "skipped_steps": 0,
        "loss_scale": 1.0,
        **more,
    }


RECORDS = [a_record(step) for step in range(10, 310, 10)]
EVALUATIONS = [
    {"step": 100, "word/mlm_loss": 7.5, "word/top1": 0.25, "word/top5": 0.5, "sop_accuracy": 0.625},
    {"step": 200, "word/mlm_loss": 6.25, "word/top1": 0.375, "word/top5": 0.4375, "sop_accuracy": 0.75},
    {"step": 1300, "word/mlm_loss": 6.5, "word/top1": 0.3125, "word/top5": 0.5, "sop_accuracy": 0.6875},
]
FILLINGS = [
    FilledSample(
        original=tuple("今天天气很好"),
        seen=("今", "天", "[MASK]", "人", "很", "好"),
        guesses=(
            MaskPrediction(
                2, "天", 0.75, (("天", 0.75), ("日", 0.125), ("月", 0.0625), ("人", 0.03125), ("大", 0.015625))
            ),
            MaskPrediction(3, "气", 0.25, (("空", 0.5), ("气", 0.25), ("地", 0.125), ("人", 0.0625), ("心", 0.03125))),
            MaskPrediction(5, "好", 0.5, (("好", 0.5), ("多", 0.25), ("冷", 0.125), ("热", 0.0625), ("大", 0.03125))),
        ),
        ends=False,
    )
]


def report(path: Path, **more: Any) -> Page:
    write_report(
        path / "report.html",
        **{
            "title": "A run",
            "settings": {"run": {"steps": 2000}, "batch_size": 32, "masking": {"max_ngrams": 3, "levels": ((0, 1),)}},
            "records": RECORDS,
            "evaluations": EVALUATIONS,
            "filled_samples": FILLINGS,
            **more,
        },
    )
    return Page(path / "report.html")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return report(tmp_path_factory.mktemp("report"))


def test_the_page_is_well_formed_and_loads_nothing(page: Page) -> None:
    assert "http://" not in page.source
    assert "https://" not in page.source
    assert not {"script", "link", "iframe", "img", "image", "object", "base"} & {*page.tags}
    assert "src" not in {name for _, name, _ in page.attributes}
    assert all(link.startswith("#") for link in page.values("href"))
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page.source))
    assert "@import" not in page.source
    assert page.text_in("title") == page.text_in("h1") == ["A run"]


def test_what_the_page_refers_to_is_there_once(page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len({*ids})
    assert {link[1:] for link in page.values("href")} <= {*ids}
    assert {*re.findall(r"url\(#([^)]*)\)", page.source)} <= {*ids}
    used = {*re.findall(r"var\((--\w+)\)", page.source)}
    assert used <= {*re.findall(r"(--\w+):", page.source)}
    assert "#fedc" not in page.source


def test_a_chart_stands_for_every_scalar_and_says_what_it_shows(page: Page) -> None:
    assert page.text_in("figcaption", "h2") == [
        "Loss",
        "Masked-LM loss",
        "Sentence-order loss",
        "Validation: top-1 accuracy",
        "Learning rate",
        "Gradient norm",
        "Tokens per second",
        "Padding",
    ]
    assert page.tags.count("svg") == 8
    keys = page.text_in("figcaption", "li")
    assert "validation: word" in keys
    assert "training, and its mean over 2 records" in keys
    assert "step" in page.text_in("svg", "text")


def test_without_sentence_order_the_loss_is_drawn_once(tmp_path: Path) -> None:
    records = [{name: value for name, value in each.items() if name != "sop"} for each in RECORDS]
    titles = report(tmp_path, records=records).text_in("figcaption", "h2")
    assert "Masked-LM loss" in titles
    assert not {"Loss", "Sentence-order loss"} & {*titles}


def test_every_evaluation_is_in_the_table_with_the_best_marked(page: Page) -> None:
    table = page.source[page.source.index("<h2>Evaluations</h2>") :]
    table = table[: table.index("</table>")]
    rows = re.findall(r'<tr><th scope="row">([^<]*)</th>(.*?)</tr>', table)
    cells = {step: re.findall(r"<td( class=best)?>([^<]*)</td>", row) for step, row in rows}
    assert cells == {
        "1,300": [("", "6.500"), ("", "31.2 %"), ("", "50.0 %"), ("", "68.8 %")],
        "200": [(" class=best", "6.250"), (" class=best", "37.5 %"), ("", "43.8 %"), (" class=best", "75.0 %")],
        "100": [("", "7.500"), ("", "25.0 %"), (" class=best", "50.0 %"), ("", "62.5 %")],
    }
    assert [step for step, _ in rows] == ["1,300", "200", "100"]
    assert re.findall(r"<th[^>]*>([^<]*)</th>", table[: table.index("</thead>")]) == [
        *("step", "word", "sop"),
        *("mlm loss", "top1", "top5", "accuracy"),
    ]


def test_figures_that_one_evaluation_lacks_leave_a_dash(tmp_path: Path) -> None:
    page = report(tmp_path, evaluations=[{"step": 1, "word/top1": 0.5}, {"step": 2, "entity/mlm_loss": 4.0}])
    assert page.source.count("<td>–</td>") == 2


def test_the_summary_tells_how_far_the_run_is_and_how_good(page: Page, tmp_path: Path) -> None:
    summary = page.source[page.source.index("<h2 class") : page.source.index('class="charts"')]
    figures = {
        name: (value, note)
        for name, value, note in re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)<small>([^<]*)</small></dd>", summary)
    }
    assert figures == {
        "step": ("300", "of 2,000"),
        "tokens seen": ("960k", "estimated"),  # 300 steps of 32 samples of 4000 / 40 tokens
        "loss": ("6.000", "of the last record"),
        "masked-LM loss": ("5.500", "of the last record"),
        "sentence-order loss": ("0.5000", "of the last record"),
        "word mlm loss": ("6.250", "at step 200"),
        "word top1": ("37.5 %", "at step 200"),
        "sop accuracy": ("75.0 %", "at step 200"),
    }
    counted = report(tmp_path, records=[a_record(10, tokens=1_234_500, skipped_steps=2)])
    assert "1.234M" in counted.source
    assert ("<dt>steps skipped</dt><dd>2<") in counted.source
    assert "not recorded" in report(tmp_path, settings={}).source


def test_sentences_show_what_was_masked_and_what_the_model_made_of_it(page: Page) -> None:
    source = page.source
    lines = re.findall(r"<dd lang=zh>(.*?)</dd>", source, flags=re.S)
    plain = [re.sub(r"<[^>]*>", "", line) for line in lines]
    assert plain == ["今天天气很好…", "今天[MASK]人很好…", "今天天空气很好…"]
    assert (
        '<span class="masked">[MASK]</span><span class="replaced">人</span>很<span class="kept">好</span>' in lines[1]
    )
    right, wrong = '<span class="right" title="天 75.0 %\n日 12.5 %', '<span class="wrong" title="空 50.0 %\n气 25.0 %'
    assert right in lines[2]
    assert wrong in lines[2]
    assert "<del>空</del><ins>气</ins>" in lines[2]
    assert "2 of 3 correct" in source


def test_the_five_best_can_be_read_without_a_mouse(page: Page) -> None:
    assert page.text_in("details", "ol")[:10] == [
        *("天", "75.0 %", "日", "12.5 %", "月", "6.2 %", "人", "3.1 %", "大", "1.6 %")
    ]
    assert page.source.count("<li class=hit>") == 3


def test_settings_inside_of_settings_are_shown_with_their_path(tmp_path: Path) -> None:
    page = report(tmp_path, settings={"model": {"hidden": {"size": 256}}, "output": Path("a/b"), "amp": None})
    assert [text for path, text in page.texts if "tbody" in path][-6:] == [
        *("model.hidden.size", "256", "output", "a/b", "amp", "None")
    ]


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    hostile = '</style><script>alert(1)</script><img src=x onerror="alert(1)">&\'$x_{'
    bad = tuple(f"{hostile}{number}" for number in range(5))
    guess = MaskPrediction(1, bad[1], 0.5, tuple((token, 0.1) for token in bad))
    page = report(
        tmp_path,
        title=hostile,
        settings={hostile: hostile, "nested": {hostile: [hostile]}},
        records=[a_record(1, **{hostile: 1.0})],
        evaluations=[{"step": 1, f"{hostile}/mlm_loss": 3.0, f"{hostile}_accuracy": 0.5, hostile: 1.0}],
        filled_samples=[FilledSample(original=bad, seen=bad, guesses=(guess,))],
    )
    assert not {"script", "img"} & {*page.tags}
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.text_in("title") == page.text_in("h1") == [hostile]
    assert hostile in page.text_in("tbody", "th")
    assert f"{hostile}0" in page.text_in("details", "del") or f"{hostile}0" in page.text_in("article", "del")
    assert bad[4] in next(value for value in page.values("title") if value)


@pytest.mark.parametrize("records", [[], RECORDS[:1]], ids=["no record", "one record"])
def test_a_run_that_has_just_begun_has_a_page(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    page = report(tmp_path, settings={}, records=records, evaluations=[], filled_samples=[])
    assert page.text_in("h1") == ["A run"]
    assert page.tags.count("svg") == (7 if records else 0)
    assert page.tags.count("section") == bool(records)


def test_losses_that_are_not_finite_leave_gaps_and_are_named(tmp_path: Path) -> None:
    records = [*RECORDS, a_record(310, loss=None, mlm=float("nan"), gradient_norm=float("inf"))]
    page = report(tmp_path, records=records, evaluations=[*EVALUATIONS, {"step": 1400, "word/mlm_loss": None}])
    assert page.source.count("not finite") == 3
    assert "nan" not in page.source.lower()
    nothing = report(tmp_path, records=[a_record(step, loss=None, mlm=None) for step in (1, 2)], evaluations=[])
    assert "Masked-LM loss" not in nothing.text_in("figcaption", "h2")


def test_a_long_run_makes_no_long_page_and_its_spikes_stay(tmp_path: Path) -> None:
    steps = np.arange(50_000.0)
    values = np.sin(steps / 1000)
    values[31_234], values[41_234], values[100:700] = 50, -50, np.nan
    thin_steps, thin = downsample(steps, values)
    assert len(thin) <= 2 * POINTS
    assert (np.diff(thin_steps) > 0).all()
    assert thin[thin_steps == 31_234] == 50
    assert thin[thin_steps == 41_234] == -50
    assert np.isnan(thin).any()
    short, long = (
        report(tmp_path, records=[a_record(step, loss=5 + step % 7) for step in range(1, count)]).source
        for count in (1000, 8000)
    )
    assert len(long) < 2 * len(short)


def test_the_running_mean_is_that_of_the_values_around() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=40)
    values[[3, 4, 20]] = np.nan
    for window in (2, 5, 6):
        for at, mean in enumerate(running_mean(values, window)):
            around = values[max(0, at - window // 2) : at + (window + 1) // 2]
            assert mean == pytest.approx(np.nanmean(around) if np.isfinite(around).any() else np.nan, nan_ok=True)


def test_the_page_is_replaced_as_a_whole(tmp_path: Path) -> None:
    report(tmp_path / "output", title="first")
    assert report(tmp_path / "output", title="second").text_in("h1") == ["second"]
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["report.html"]


def test_the_same_run_gives_the_same_page(page: Page, tmp_path: Path) -> None:
    assert report(tmp_path).source == page.source
