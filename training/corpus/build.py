"""Builds a corpus: divides the inputs into shards, builds the shards in parallel, and joins them in order.

`PREFIX.work/` holds the plan, and one folder for each finished shard, until the corpus is complete. A build that was
killed resumes from it. Every byte of the result follows from the text, the vocabulary and CorpusSettings.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_build.atomic_write import atomic_file, write_errors
from native import ErnieTokenizer, unicode_version, version
from training.corpus.duplicates import first_occurrences
from training.corpus.engines import run
from training.corpus.indexed import CorpusError, with_suffix
from training.corpus.inputs import FAULTS, divide, find_inputs
from training.corpus.segmenters import load_segmenter
from training.corpus.settings import BuildSettings, CorpusSettings
from training.corpus.shards import ShardCounts, ShardJob, build_shard, read_array, read_counts
from training.corpus.unknown_tokens import warn_of_unknown
from training.corpus.writer import CorpusWriter, best_dtype
from training.runs.progress import Progress

log = logging.getLogger(__name__)

SENTENCES = 1 << 16
"""Sentences joined at once."""


def build_corpus(
    inputs: Iterable[Path],
    vocab: Path,
    output: Path,
    settings: CorpusSettings | None = None,
    build_settings: BuildSettings | None = None,
) -> dict[str, Any]:
    """Builds the corpus `output` (.bin, .idx, .seg, .json) and returns its description, the content of the .json.

    `inputs` are text files or folders of text files. An existing corpus is kept if it was built from the same inputs
    with the same settings, and refused otherwise. Raises CorpusError and WriteError.
    """
    settings, build_settings = settings or CorpusSettings(), build_settings or BuildSettings()
    files = find_inputs(inputs)
    if not any(path.stat().st_size for path in files):
        raise CorpusError(
            f"{', '.join(map(str, files[:3]))}: no input has text, all files are empty; check the inputs."
        )
    about = _describe(files, vocab, settings)
    work = with_suffix(output, ".work")
    if with_suffix(output, ".idx").exists():
        description = _kept(output, about)
        shutil.rmtree(work, ignore_errors=True)
        return description
    with _locked(work):
        jobs = _plan(work, files, vocab, settings, build_settings, about)
        _build_shards(jobs, build_settings)
        _refuse_changed(files, work)
        description = _join(jobs, output, settings, about, ErnieTokenizer.from_file(vocab).unk_id)
        shutil.rmtree(work)
    _warn(description)
    warn_of_unknown(str(output), description["unknown_tokens"], description["counts"]["tokens"])
    return description


def _describe(files: Sequence[Path], vocab: Path, settings: CorpusSettings) -> dict[str, Any]:
    """What the corpus is built from, for its .json file."""
    tokenizer = ErnieTokenizer.from_file(vocab)
    segmenter = load_segmenter(settings.segmenter, settings.levels)
    return {
        "format": "ernie-zh corpus 1",
        "settings": dataclasses.asdict(settings),
        "vocabulary": {"tokens": tokenizer.vocab_size, "sha256": hashlib.sha256(vocab.read_bytes()).hexdigest()},
        "tokenizer": {"name": "native.ErnieTokenizer", "version": version(), "unicode": unicode_version()},
        "segmenter": {"name": segmenter.name, "version": segmenter.version} if segmenter else None,
        "inputs": [
            {"path": str(path), "bytes": path.stat().st_size, "fingerprint": _fingerprint(path)} for path in files
        ],
    }


def _fingerprint(path: Path) -> str:
    """SHA-256 of the size and of 64 KiB at the start, in the middle and at the end: fast for files of any size."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for start in (0, size // 2, max(0, size - (1 << 16))):
            file.seek(start)
            digest.update(file.read(1 << 16))
    return digest.hexdigest()


def _kept(output: Path, about: dict[str, Any]) -> dict[str, Any]:
    path = with_suffix(output, ".json")
    description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if description.items() >= about.items():
        log.info("%s was already built from the same text with the same settings and is kept", output)
        return description
    raise CorpusError(
        f"the corpus {output} exists already and was made from something else; remove its files or choose another "
        "--output."
    )


@contextlib.contextmanager
def _locked(work: Path) -> Iterator[None]:
    """Locks the work folder; the lock ends with the process."""
    with write_errors(work):
        work.mkdir(parents=True, exist_ok=True)
        file = (work / "lock").open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CorpusError(f"another build is at work in {work}; wait for it or choose another --output.") from error
        yield


def _plan(
    work: Path,
    files: Sequence[Path],
    vocab: Path,
    settings: CorpusSettings,
    build_settings: BuildSettings,
    about: dict[str, Any],
) -> list[ShardJob]:
    """The jobs of all shards. Shards of an earlier, different plan are removed."""
    path = work / "plan.json"
    times = [file.stat().st_mtime_ns for file in files]
    plan = json.dumps(
        {**about, "shard_megabytes": build_settings.shard_megabytes, "modified": times}, ensure_ascii=False
    )
    if not path.is_file() or path.read_text(encoding="utf-8") != plan:
        # The plan is removed first, so that a half-removed shard never counts as finished.
        path.unlink(missing_ok=True)
        for folder in work.glob("shard-*"):
            shutil.rmtree(folder)
        with atomic_file(path) as file:
            file.write(plan)
    for folder in work.glob(".shard-*.writing"):  # of a build that was killed
        shutil.rmtree(folder, ignore_errors=True)
    # A Ray task has another working directory.
    files, vocab, work = [file.absolute() for file in files], vocab.absolute(), work.absolute()
    shards = divide(files, settings.document == "line", max(1, int(build_settings.shard_megabytes * 1e6)))
    return [
        ShardJob(work / f"shard-{number:06}", tuple(pieces), vocab, settings) for number, pieces in enumerate(shards)
    ]


def _build_shards(jobs: Sequence[ShardJob], build_settings: BuildSettings) -> None:
    missing = [job for job in jobs if not job.folder.is_dir()]
    if len(missing) < len(jobs):
        log.info("resuming an earlier build: %d of %d shards are finished", len(jobs) - len(missing), len(jobs))
    total = sum(job.bytes for job in jobs)
    workers = build_settings.workers or len(os.sched_getaffinity(0))
    with Progress("corpus", total, total - sum(job.bytes for job in missing)) as progress:
        for job in run(build_shard, missing, build_settings.engine, workers, build_settings.ray_address):
            progress.add(job.bytes)


def _refuse_changed(files: Sequence[Path], work: Path) -> None:
    planned = json.loads((work / "plan.json").read_text(encoding="utf-8"))["modified"]
    for path, modified in zip(files, planned, strict=True):
        if path.stat().st_mtime_ns != modified:
            raise CorpusError(f"{path} changed during the build; run the same command again.")


def _join(
    jobs: Sequence[ShardJob], output: Path, settings: CorpusSettings, about: dict[str, Any], unknown_id: int
) -> dict[str, Any]:
    """Writes the shards in order, without documents that occur in an earlier shard."""
    dtype = best_dtype(about["vocabulary"]["tokens"])
    digests = [read_array(job.folder, "digests.bin", np.dtype("<u8")).reshape(-1, 2) for job in jobs]
    kept = first_occurrences(digests) if settings.remove_duplicates else np.ones(sum(map(len, digests)), dtype=bool)
    total = ShardCounts()
    first = unknown = 0
    with CorpusWriter(output, dtype) as writer:
        for job, marks in zip(jobs, digests, strict=True):
            unknown += _copy(job.folder, kept[first : first + len(marks)], writer, unknown_id)
            first += len(marks)
            _add(total, read_counts(job.folder))
        total.duplicates += int((~kept).sum())
        return writer.finish({**about, **_report(total, writer.counts["documents"]), "unknown_tokens": unknown})


def _copy(folder: Path, kept: np.ndarray, writer: CorpusWriter, unknown_id: int) -> int:
    """Adds the sentences of the kept documents, in blocks; `kept` is bool [documents of the shard].

    Returns how many of their tokens are `unknown_id`.
    """
    sizes, owners = read_array(folder, "sizes.bin", np.dtype("<i4")), read_array(folder, "owners.bin", np.dtype("<u4"))
    tokens = read_array(folder, "tokens.bin", writer.dtype)
    boundaries = read_array(folder, "boundaries.bin", np.dtype(np.uint8))
    begins = np.ones(len(owners), dtype=bool)
    begins[1:] = owners[1:] != owners[:-1]
    position = unknown = 0
    for start in range(0, len(sizes), SENTENCES):
        rows = slice(start, start + SENTENCES)
        length = int(sizes[rows].sum())
        row_kept = kept[owners[rows]]
        span = slice(position, position + length)
        position += length
        added = tokens[span]
        if row_kept.all():
            writer.add(added, boundaries[span], sizes[rows], begins[rows])
        else:
            token_kept = np.repeat(row_kept, sizes[rows])
            added = added[token_kept]
            writer.add(added, boundaries[span][token_kept], sizes[rows][row_kept], begins[rows][row_kept])
        unknown += int(np.count_nonzero(added == unknown_id))
    return unknown


def _add(total: ShardCounts, counts: ShardCounts) -> None:
    for field in dataclasses.fields(total):
        if field.name == "faults":
            total.faults.merge(counts.faults)
        else:
            setattr(total, field.name, getattr(total, field.name) + getattr(counts, field.name))


def _report(total: ShardCounts, documents: int) -> dict[str, Any]:
    """Counts of what was read and left out, for the .json file."""
    left_out = {"too_short": total.documents_too_short, "duplicates": total.duplicates}
    left_out["without_tokens"] = total.documents_read - sum(left_out.values()) - documents
    faults = {
        kind: {"count": total.faults.counts[kind], "first": total.faults.places[kind]}
        for kind in FAULTS
        if kind in total.faults.counts
    }
    return {
        "text_bytes": total.text_bytes,
        "documents_read": total.documents_read,
        "documents_left_out": left_out,
        "documents_cut": total.documents_cut,
        "unaligned_sentences": total.unaligned_sentences,
        "faults": faults,
    }


def _warn(description: dict[str, Any]) -> None:
    """Logs one warning for each kind of fault."""
    for kind, fault in description["faults"].items():
        log.warning("left out %d %s; the first: %s", fault["count"], FAULTS[kind], fault["first"][0])
    if description["documents_cut"]:
        log.warning(
            "%d documents were longer than 4 million characters and were cut; if each line is a document, "
            "give --document line",
            description["documents_cut"],
        )
    if description["unaligned_sentences"]:
        log.warning(
            "%d sentences have no word boundaries, because the segmenter changed their text",
            description["unaligned_sentences"],
        )
