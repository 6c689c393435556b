"""What `python -m benchmarks.serving.peers` reads and writes; nothing is timed here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.machine import processor
from benchmarks.serving.closed_loop import parsed
from benchmarks.serving.metrics import Metrics
from benchmarks.serving.offline import Alone, runtime_options
from benchmarks.serving.peers.__main__ import chosen_texts, parser, workloads_of
from benchmarks.serving.peers.agreement import Labelled, largest_difference, likeliest, share
from benchmarks.serving.peers.ceiling import batches_by_length
from benchmarks.serving.peers.contenders import OURS, PEERS
from benchmarks.serving.peers.figures import Agreement, Closed, Labels, Measured, Offline, Open
from benchmarks.serving.peers.report import BEGIN, END, write_report
from benchmarks.serving.peers.stages import stages
from benchmarks.serving.texts import MOST_CHARACTERS, read_texts
from service.runtime.base import RuntimeOptions

MODELS = Path(__file__).parents[3] / "models"
PEER, OTHER_PEER = PEERS[0].name, PEERS[1].name
OUR = OURS[0].name


def alone(bundle: Path) -> Alone:
    return Alone(bundle, RuntimeOptions(runtime="onnxruntime"))


def closed(server: str, number: int, rate: float, **more: object) -> Closed:
    return Closed(server, "/classify", "reviews", 64, number, rate, 10.0, 20.0, 5.0, **more)


def measured() -> Measured:
    """Two rounds, in the second of which the machine was half as fast."""
    stage_times = {"tokenize": 0.1, "queue": 2.0, "inference": 7.5, "rest": 0.4}
    found = Measured({"processor": "some | one"}, {"rounds": "2 of 3 s"}, {"OpenVINO, bf16": "no bf16 here"})
    for number, speed in enumerate((1.0, 0.5)):
        found.closed += [
            closed(PEER, number, 100 * speed),
            closed(OTHER_PEER, number, 80 * speed),
            closed(OUR, number, 300 * speed, stages=stage_times, padding=0.125),
        ]
        found.offline.append(Offline(OUR, "/classify", "reviews", number, 2, {"1": 350 * speed, "8": 400 * speed}))
    found.open.append(Open(OUR, "/classify", "reviews", 0.6, 180.0, 11.0, 21.0))
    found.agreement.append(Agreement(OUR, "/classify", 200, 2.5e-7))
    found.labels.append(Labels(OUR, 1200, 0.9975, 0.908, 0.909, 0.01))
    return found


def test_ratios_are_taken_within_a_round() -> None:
    found = measured()
    found.closed[3].rate *= 1.5  # of the peer, in the second round alone
    assert found.ratio(OUR, PEER, "/classify", "reviews", 64) == pytest.approx((3 + 2) / 2)
    assert found.best([PEER, OTHER_PEER], "/classify", "reviews", 64) == PEER


def test_the_ceiling_is_the_better_of_the_offline_runs_of_the_same_round() -> None:
    assert measured().share_of_ceiling(OUR, "/classify", "reviews", 64) == pytest.approx(0.75)
    assert measured().share_of_ceiling(PEER, "/classify", "reviews", 64) is None


def test_the_figures_are_read_back_unchanged(tmp_path: Path) -> None:
    measured().save(tmp_path / "speed.json")
    assert Measured.read(tmp_path / "speed.json") == measured()


def test_a_rerun_replaces_the_tables_of_a_page_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    page.write_text(f"# Speed\nfirst\n{BEGIN}\nold\n{END}\nlast\n", encoding="utf-8")
    tables = write_report(measured(), tmp_path / "speed")
    assert page.read_text(encoding="utf-8") == f"# Speed\nfirst\n{BEGIN}\n{tables}\n{END}\nlast\n"
    for wanted in ("| 150 (", "3.00", "75 %", "12.5 %", "99.75 %", "no bf16 here", "2.5e-07"):
        assert wanted in tables.replace("225 (150–300)", "| 150 (")
    assert all((tmp_path / f"speed-{name}.svg").is_file() for name in ("throughput", "stages", "padding"))


def test_the_same_figures_give_the_same_plots(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_report(measured(), tmp_path / name)
    for plot in ("throughput", "stages", "padding"):
        assert (tmp_path / f"one-{plot}.svg").read_bytes() == (tmp_path / f"two-{plot}.svg").read_bytes()


def test_a_page_without_marks_is_not_written_over(tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    page.write_text("# Something else\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="has no <!-- measured: begin -->"):
        write_report(measured(), tmp_path / "speed")
    assert page.read_text(encoding="utf-8") == "# Something else\n"


WRK = '  Latency 1ms\n{"requests": 300, "seconds": 3.0, "p50": 1.5, "p99": 9.0, "lost": %d, "refused": %d}\n'


def test_the_last_line_of_wrk_counts_and_a_status_other_than_200_is_an_error() -> None:
    loop = parsed(WRK % (0, 0))
    assert (loop.rate, loop.p50, loop.p99) == (100.0, 1.5, 9.0)
    for lost, refused in ((1, 0), (0, 1)):
        with pytest.raises(RuntimeError, match=f"{refused} answers were not of status 200 and {lost} were lost"):
            parsed(WRK % (lost, refused))


EXPOSITION = """# TYPE ernie_request_duration_seconds histogram
ernie_request_duration_seconds_bucket{{model="a",le="+Inf"}} {0}
ernie_request_duration_seconds_sum{{model="a"}} {1}
ernie_request_duration_seconds_count{{model="a"}} {0}
# TYPE ernie_tokenize_seconds histogram
ernie_tokenize_seconds_sum{{model="a"}} {2}
ernie_tokenize_seconds_count{{model="a"}} {0}
# TYPE ernie_queue_seconds histogram
ernie_queue_seconds_sum{{model="a"}} {2}
ernie_queue_seconds_count{{model="a"}} {0}
# TYPE ernie_inference_seconds histogram
ernie_inference_seconds_sum{{model="a"}} {2}
ernie_inference_seconds_count{{model="a"}} {3}
"""


def test_stages_are_means_of_the_observations_between_two_scrapes() -> None:
    before, after = (Metrics(EXPOSITION.format(*values)) for values in ((10, 9.0, 4.0, 5), (20, 10.0, 4.2, 10)))
    found = stages(before, after)
    assert found == pytest.approx({"tokenize": 20.0, "queue": 20.0, "inference": 40.0, "rest": 20.0})


def test_texts_are_read_from_lines_and_from_the_last_column(tmp_path: Path) -> None:
    file = tmp_path / "texts"
    file.write_text("label\ttext_a\n1\t很好\n0\t label\n\n", encoding="utf-8")
    assert read_texts(file) == ["很好", "label"]
    file.write_text("很好\n不好\n", encoding="utf-8")
    assert read_texts(file) == ["很好", "不好"]


def test_no_text_is_longer_than_128_tokens_and_each_has_one_mask_to_fill(tmp_path: Path) -> None:
    file = tmp_path / "long"
    file.write_text("好" * 1000 + "\n", encoding="utf-8")
    arguments = parser().parse_args(["--reviews", str(file)])
    assert {len(text) for text in chosen_texts(arguments)["reviews"]} == {MOST_CHARACTERS}
    classify, fill_mask = workloads_of(arguments)
    assert (classify.endpoint, fill_mask.endpoint) == ("/classify", "/fill-mask")
    assert all(text.count("[MASK]") == 1 for texts in fill_mask.texts.values() for text in texts)
    assert (
        max(len(each.input_ids) for each in alone(fill_mask.bundle.directory).items(fill_mask.texts["reviews"])) <= 128
    )


def test_a_bundle_for_the_other_endpoint_is_refused_by_name() -> None:
    arguments = parser().parse_args(["--classify", str(MODELS / "masked-lm" / "2")])
    with pytest.raises(SystemExit, match="masked-lm/2 is for fill-mask"):
        workloads_of(arguments)


def test_batches_hold_neighbours_in_length_and_every_text_once() -> None:
    texts = alone(MODELS / "sentiment" / "3").items(["好" * length for length in range(1, 33)])
    batches = batches_by_length(texts, 8)
    lengths = [sorted(len(each.input_ids) for each in batch) for batch in batches]
    assert sorted(length for batch in lengths for length in batch) == list(range(3, 35))
    assert all(batch[-1] - batch[0] == 7 for batch in lengths)
    assert lengths != sorted(lengths), "a measurement that ends early would contain short texts only"


def test_the_ceiling_has_the_runtime_options_of_the_service() -> None:
    bf16 = next(each for each in OURS if each.precision == "bf16")
    options = runtime_options([*bf16.flags, "--cpu-threads", "3"])
    assert (options.runtime, options.precision, options.cpu_threads) == ("openvino", "bf16", 3)


def test_a_candidate_that_the_offline_run_lacks_counts_with_its_whole_score() -> None:
    assert largest_difference([{"a": 0.5, "b": 0.25}], [{"a": 0.5}]) == 0.25
    assert likeliest({"a": 0.4, "b": 0.6}) == "b"
    assert share(["a", "b"], ["a", "a"]) == 0.5


def test_labels_are_names_or_numbers_of_names(tmp_path: Path) -> None:
    file = tmp_path / "test.tsv"
    file.write_text('label\ttext_a\n1\t"很好\npositive\t好\n', encoding="utf-8")
    assert Labelled.read(file, ["negative", "positive"]) == Labelled(['"很好', "好"], ["positive", "positive"])
    file.write_text("text\n好\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="no rows with label and text_a"):
        Labelled.read(file, ["negative", "positive"])


def test_every_peer_is_pinned_to_the_last_package() -> None:
    for peer in PEERS:
        lines = [
            line for line in peer.requirements.read_text(encoding="utf-8").splitlines() if not line.startswith("#")
        ]
        assert all(line.count("==") == 1 for line in lines), peer.name
        assert {name for line in lines for name in [line.split("==")[0]]} >= {*peer.libraries, "onnxruntime"}


def test_a_processor_is_named_with_what_matters_of_it(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("model name\t: Some CPU\nflags\t\t: fpu avx2 avx512_bf16 avx512f\n", encoding="utf-8")
    assert processor(file) == "Some CPU, avx2, avx512f, avx512_bf16"


def test_bodies_are_what_both_kinds_of_servers_take() -> None:
    workload = workloads_of(parser().parse_args(["--endpoints", "classify"]))[0]
    assert {frozenset(json.loads(body)) for body in workload.bodies["titles"]} == {frozenset({"inputs", "truncation"})}
