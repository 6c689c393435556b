"""Building a corpus: the same bytes however it is divided, interrupted or distributed."""

import json
import logging
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from model_build.atomic_write import WriteError
from model_build.tokenizer_config import TokenizerSettings
from native import ErnieTokenizer
from tests.training.corpus.conftest import corpus_bytes
from training.corpus import duplicates
from training.corpus.build import build_corpus
from training.corpus.indexed import CorpusError, IndexedCorpus
from training.corpus.merge import merge_corpora
from training.corpus.output import Output
from training.corpus.settings import BuildSettings, CorpusSettings
from training.corpus.verify import tokenizer_of

# Forked from a server that has everything imported already, so that an attempt costs no start.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["training.corpus.build", "tests.training.corpus.test_build"])
SMALL = BuildSettings(workers=1, shard_megabytes=0.002)
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def expected(text: Path, vocab: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The corpus of `text`, built in one go from one shard."""
    prefix = tmp_path_factory.mktemp("expected") / "corpus"
    build_corpus([text], vocab, prefix, build_settings=BuildSettings(workers=1, shard_megabytes=100))
    return corpus_bytes(prefix)


def test_a_corpus_holds_the_documents_sentences_and_tokens_of_the_text(text: Path, vocab: Path, tmp_path: Path) -> None:
    description = build_corpus([text], vocab, tmp_path / "corpus", build_settings=SMALL)
    corpus = IndexedCorpus.open(tmp_path / "corpus")
    assert len(corpus.documents) - 1 == description["counts"]["documents"] == 180
    assert description["documents_left_out"] == {"too_short": 0, "duplicates": 20, "without_tokens": 0}
    assert description["faults"] == {}
    tokenizer = ErnieTokenizer.from_file(vocab)
    first = (text / "a.txt").read_text(encoding="utf-8").split("\n\n")[0].replace("\n", "")
    ids, _, _ = tokenizer.encode_flat([first])
    assert corpus.tokens[: corpus.offsets[corpus.documents[1]]].tolist() == ids.tolist()
    assert tokenizer.tokens[corpus.sentence(0)[-1]] == "。"
    assert json.loads((tmp_path / "corpus.json").read_text(encoding="utf-8")) == description
    assert not (tmp_path / "corpus.work").exists()


@pytest.mark.parametrize("build_settings", [SMALL, BuildSettings(workers=2, shard_megabytes=0.004)])
def test_shards_and_workers_do_not_change_a_byte(
    text: Path, vocab: Path, tmp_path: Path, build_settings: BuildSettings, expected: dict[str, bytes]
) -> None:
    build_corpus([text], vocab, tmp_path / "corpus", build_settings=build_settings)
    assert corpus_bytes(tmp_path / "corpus") == expected


def _build(text: Path, vocab: Path, prefix: Path) -> None:
    build_corpus([text], vocab, prefix, build_settings=SMALL)


def _build_counting(text: Path, vocab: Path, prefix: Path, kill_at: int) -> None:
    """Builds, and ends itself by SIGKILL at the event with the number `kill_at`: before a write or a file operation."""
    events = 0

    def event() -> None:
        nonlocal events
        events += 1
        if events == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    write, close = Output.write, Output.close
    Output.write = lambda self, data: (event(), write(self, data))[1]  # type: ignore[method-assign]
    Output.close = lambda self: (event(), close(self))[1]  # type: ignore[method-assign]
    watched = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir")
    sys.addaudithook(lambda name, _: event() if name in watched else None)
    _build(text, vocab, prefix)
    prefix.with_name("events").write_text(str(events))


def _run(target: Callable[..., None], *arguments: object) -> int | None:
    """Exit code of a forked process."""
    process = FORKS.Process(target=target, args=arguments)
    process.start()
    process.join(60)
    return process.exitcode


def test_a_build_killed_anywhere_and_run_again_gives_the_same_bytes(
    text: Path, vocab: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    assert _run(_build_counting, text, vocab, tmp_path / "counted", 0) == 0
    events = int((tmp_path / "events").read_text())
    # Ten points anywhere, and each of the last thirty: writing the index, renaming, cleaning up.
    points = [*random.Random(5).sample(range(1, events - 30), 10), *range(events - 30, events + 1, 3)]
    for point in points:
        prefix = tmp_path / f"killed-{point}" / "corpus"
        prefix.parent.mkdir()
        assert _run(_build_counting, text, vocab, prefix, point) == -signal.SIGKILL
        if prefix.with_suffix(".idx").exists():
            assert corpus_bytes(prefix).items() >= expected.items(), "an index is there, so all must be"
        build_corpus([text], vocab, prefix, build_settings=SMALL)
        assert corpus_bytes(prefix) == expected, point


def test_one_build_may_be_killed_again_and_again(
    text: Path, vocab: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    prefix = tmp_path / "corpus"
    points = random.Random(6)
    for _ in range(10):
        _run(_build_counting, text, vocab, prefix, points.randint(20, 200))
    build_corpus([text], vocab, prefix, build_settings=SMALL)
    assert corpus_bytes(prefix) == expected


def test_workers_killed_with_their_parent_leave_a_build_that_goes_on(
    text: Path, vocab: Path, tmp_path: Path, expected: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    prefix = tmp_path / "corpus"
    command = [sys.executable, "-m", "training.cli", "corpus", "build", str(text), "--vocab", str(vocab)]
    command += ["--output", str(prefix), "--workers", "2", "--shard-megabytes", "0.002"]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    done = tmp_path / "corpus.work"
    while process.poll() is None and not any(path.suffix != ".part" for path in done.glob("shard-*")):
        pass
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    psutil.wait_procs(children, timeout=30)
    with caplog.at_level(logging.INFO):
        build_corpus([text], vocab, prefix, build_settings=SMALL)
    assert "resuming an earlier build" in caplog.text
    assert corpus_bytes(prefix) == expected


def test_a_worker_does_not_outlive_its_parent(text: Path, vocab: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.cli", "corpus", "build", str(text), "--vocab", str(vocab)]
    command += ["--output", str(tmp_path / "corpus"), "--workers", "2", "--shard-megabytes", "0.002"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((tmp_path / "corpus.work").glob("shard-*")):
        pass
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert children
    assert not psutil.wait_procs(children, timeout=30)[1]


def test_other_settings_or_a_changed_file_are_never_mixed_with_earlier_shards(
    text: Path, vocab: Path, tmp_path: Path
) -> None:
    copy, prefix = tmp_path / "text", tmp_path / "corpus"
    shutil.copytree(text, copy)
    assert _run(_build_counting, copy, vocab, prefix, 60) == -signal.SIGKILL
    (copy / "a.txt").write_text("换了一篇新的文章。还有一句话。", encoding="utf-8")
    assert _run(_build_counting, copy, vocab, prefix, 60) == -signal.SIGKILL
    settings = CorpusSettings(segmenter="none", min_document_length=5)
    build_corpus([copy], vocab, prefix, settings, SMALL)
    build_corpus([copy], vocab, tmp_path / "fresh", settings, SMALL)
    assert corpus_bytes(prefix) == corpus_bytes(tmp_path / "fresh")


def test_a_finished_corpus_is_kept_and_another_one_is_refused(text: Path, vocab: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "corpus"
    first = build_corpus([text], vocab, prefix, build_settings=SMALL)
    before = prefix.with_suffix(".bin").stat().st_mtime_ns
    assert build_corpus([text], vocab, prefix, build_settings=BuildSettings(workers=1)) == first
    assert prefix.with_suffix(".bin").stat().st_mtime_ns == before
    with pytest.raises(CorpusError, match="made from something else"):
        build_corpus([text], vocab, prefix, CorpusSettings(max_repeat=3), SMALL)


def test_two_builds_of_one_corpus_do_not_meet(text: Path, vocab: Path, tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "corpus.work").mkdir()
    with (tmp_path / "corpus.work" / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(CorpusError, match="another build is at work"):
            build_corpus([text], vocab, tmp_path / "corpus", build_settings=SMALL)


def _build_on_a_full_disk(text: Path, vocab: Path, prefix: Path, limit: int, told: Path) -> None:
    """A limit on the size of a file fails writes as a full disk does, with another errno."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        _build(text, vocab, prefix)
    except WriteError as error:
        told.write_text(str(error))


@pytest.mark.parametrize("joining", [False, True])
def test_a_write_that_fails_is_one_clear_error_and_nothing_bears_a_final_name(
    text: Path, vocab: Path, tmp_path: Path, expected: dict[str, bytes], joining: bool
) -> None:
    prefix = tmp_path / "full" / "corpus"
    prefix.parent.mkdir()
    # The largest shard has less than half of the tokens, and the plan less than 3,000 bytes.
    limit = len(expected[".bin"]) - 1 if joining else 3000
    assert _run(_build_on_a_full_disk, text, vocab, prefix, limit, tmp_path / "told") == 0
    message = (tmp_path / "told").read_text()
    assert ("corpus.bin.part" if joining else "tokens.bin") in message
    assert "cannot be written: File too large; make room" in message
    assert [path.name for path in prefix.parent.iterdir()] == ["corpus.work"]
    build_corpus([text], vocab, prefix, build_settings=SMALL)
    assert corpus_bytes(prefix) == expected


def test_a_disk_that_is_really_full_is_one_clear_error(text: Path, vocab: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs is not permitted here; the test of the file size limit stands in for it")
    try:
        with pytest.raises(WriteError, match=r"cannot be written: No space left on device; make room"):
            build_corpus([text], vocab, disk / "corpus", build_settings=SMALL)
        assert [path.name for path in disk.iterdir()] == ["corpus.work"]
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # the error still holds mapped files


def test_faults_are_counted_in_the_description_and_told(
    vocab: Path, tmp_path: Path, write_text: Write, caplog: pytest.LogCaptureFixture
) -> None:
    good = "今天天气很好，我们去散步。"
    broken, empty = "乱码".encode("gbk"), f"\x01\x02{' ' * 20}\x03"
    path = write_text(f"{good}\n\n短\n\n".encode() + broken + f"\n\n{good}\n\n{empty}\n".encode())
    with caplog.at_level(logging.WARNING):
        description = build_corpus([path], vocab, tmp_path / "corpus", CorpusSettings(min_document_length=2), SMALL)
    assert description["documents_left_out"] == {"too_short": 1, "duplicates": 1, "without_tokens": 1}
    assert description["faults"] == {"not_utf8": {"count": 1, "first": [f"{path}: byte 46"]}}
    assert f"left out 1 lines that are not UTF-8; the first: {path}: byte 46" in caplog.text


def test_text_that_the_vocabulary_does_not_fit_is_told_with_the_way_out(
    vocab: Path, tmp_path: Path, write_text: Write, caplog: pytest.LogCaptureFixture
) -> None:
    good = "今天天气很好，我们去散步。"
    path = write_text("\n\n".join([good, f"{good}\n龍龜", good, "今天很好，" * 8]))
    assert build_corpus([path], vocab, tmp_path / "few", None, SMALL)["unknown_tokens"] == 2
    assert "unknown" not in caplog.text
    description = build_corpus([write_text(f"{good}這個問題")], vocab, tmp_path / "many", None, SMALL)
    assert (description["unknown_tokens"], description["counts"]["tokens"]) == (4, 17)
    assert f"23.5 % of the tokens of {tmp_path / 'many'} are unknown to the vocabulary" in caplog.text
    assert "OpenCC: pip install 'ernie-zh[opencc]' and opencc -c t2s" in caplog.text


def test_text_without_a_document_is_refused(vocab: Path, tmp_path: Path, write_text: Write) -> None:
    with pytest.raises(CorpusError, match="would be empty"):
        build_corpus([write_text("短\n\n\n")], vocab, tmp_path / "corpus")
    assert not list(tmp_path.glob("corpus.*.part"))


def test_first_occurrences_are_those_of_a_set_whatever_the_bucket() -> None:
    chosen = np.random.default_rng(1)
    parts = [chosen.integers(0, 40, (size, 2), dtype=np.uint64) for size in (0, 300, 1, 0, 500)]
    seen: set[tuple[int, ...]] = set()
    expected = []
    for row in np.concatenate(parts):
        expected.append(tuple(row) not in seen)
        seen.add(tuple(row))
    for bucket in (1 << 20, 100, 7):
        assert duplicates.first_occurrences(parts, bucket).tolist() == expected


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[str]:
    ray = pytest.importorskip("ray", reason="ray is not installed")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


def test_ray_tasks_make_the_same_bytes(
    text: Path, vocab: Path, tmp_path: Path, expected: dict[str, bytes], ray_cluster: str
) -> None:
    build_settings = BuildSettings(engine="ray", ray_address=ray_cluster, shard_megabytes=0.006)
    build_corpus([text], vocab, tmp_path / "corpus", build_settings=build_settings)
    assert corpus_bytes(tmp_path / "corpus") == expected


def test_a_ray_cluster_that_is_not_there_is_one_sentence(text: Path, vocab: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    with pytest.raises(CorpusError, match="no Ray cluster answers at --ray-address nowhere; start one"):
        build_corpus(
            [text], vocab, tmp_path / "corpus", build_settings=BuildSettings(engine="ray", ray_address="nowhere")
        )


def test_progress_goes_to_the_log_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from training.runs import progress

    now = iter([0.0, 4.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with caplog.at_level(logging.INFO), progress.Progress("corpus", 100_000_000, done=10_000_000) as shown:
        shown.add(10_000_000)
        shown.add(30_000_000)
    assert caplog.messages == ["corpus: 50 of 100 MB, 2.0 MB/s, 25 s left"]


def test_the_rules_of_the_tokenizer_are_in_the_corpus_and_reach_its_model(
    vocab: Path, tmp_path: Path, write_text: Write
) -> None:
    path = write_text("The price is ℃599，这家酒店很好。")
    opened = {}
    for rules in ("bert", "paddlenlp"):
        settings = CorpusSettings(rules=rules, plain_width=rules == "bert")
        description = build_corpus([path], vocab, tmp_path / rules, settings)
        assert description["settings"]["rules"] == rules
        opened[rules] = IndexedCorpus.open(tmp_path / rules)
        assert tokenizer_of([opened[rules]]) == TokenizerSettings(rules=rules, fold_width=rules == "bert")
    assert len(opened["paddlenlp"].tokens) > len(opened["bert"].tokens)  # `℃599` is one unknown word with `bert`
    with pytest.raises(CorpusError, match="read with different --rules or --plain-width"):
        tokenizer_of(opened.values())
    merge_corpora([tmp_path / "bert", tmp_path / "paddlenlp"], tmp_path / "both")
    with pytest.raises(CorpusError, match="read with different"):
        tokenizer_of([IndexedCorpus.open(tmp_path / "both")])
