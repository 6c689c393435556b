"""Kills a pretraining run again and again at random moments, and compares its weights with those of a quiet run.

    python -m benchmarks.kill_sweep --kills 20

Every process is killed with SIGKILL, some while they start, some in a step, some while they write a checkpoint; the
same command then goes on. Ends with status 1 unless final weights and recorded losses are equal to the last bit.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

from training.corpus.build import build_corpus
from training.runs.records import Records

START_SECONDS = 4.0
"""A fifth of the processes are killed within this, about what it takes them to their first step."""
LATER_SECONDS = 1.5
"""The others within this after they have saved something new."""


def command(corpus: Path, vocab: Path, output: Path, steps: int) -> list[str]:
    """A small model with dropout and sentence order; saving, recording and evaluating do not fall on the same steps."""
    flags = {
        "corpus": corpus, "vocab": vocab, "output": output, "steps": steps, "decay-steps": steps,
        "hidden-size": 64, "num-hidden-layers": 2, "num-attention-heads": 4, "max-seq-length": 64,
        "max-position-embeddings": 64, "batch-size": 16, "micro-tokens": 512, "learning-rate": 1e-3,
        "split": "98,2", "evaluation-samples": 16, "evaluate-every": 10, "save-every": 4, "log-every": 3,
    }  # fmt: skip
    given = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "training.cli", "pretrain", *given]


def digest(output: Path) -> str:
    """Of the final weights."""
    return hashlib.sha256((output / "model" / "model_state.pdparams").read_bytes()).hexdigest()


def losses(output: Path) -> list[tuple[int, float]]:
    """Step and loss of every record."""
    return [(record["step"], record["loss"]) for record in Records(output / "records.jsonl").read()]


def stage(output: Path, before: int) -> str:
    """What the killed process was at, as far as the folder tells."""
    checkpoints = output / "checkpoints"
    if any(checkpoints.glob(".step-*.writing")):
        return "while writing a checkpoint"
    if any(checkpoints.glob(".step-*.removing")):
        return "while removing an old one"
    return "in a step" if newest(output) > before else "before it had saved anything new"


def newest(output: Path) -> int:
    """Step of the newest checkpoint."""
    return max((int(path.name[5:]) for path in (output / "checkpoints").glob("step-*")), default=0)


def sweep(run: list[str], output: Path, kills: int, rng: random.Random) -> collections.Counter[str]:
    """Starts and kills `kills` times; raises SystemExit when the run ends before that, or fails by itself."""
    found: collections.Counter[str] = collections.Counter()
    for number in tqdm(range(kills), unit="kill", disable=not sys.stderr.isatty()):
        before = newest(output)
        process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if number % 5 == 4:
            time.sleep(rng.uniform(0, START_SECONDS))
        else:
            while process.poll() is None and newest(output) == before:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, LATER_SECONDS))
        process.kill()
        if process.wait() != -9:
            raise SystemExit(f"the run ended with status {process.returncode} after {number} kills; give more --steps.")
        found[stage(output, before)] += 1
    return found


def main() -> int:
    """Prints the figures; 1 when something differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill_sweep", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--text", type=Path, default=Path("../shared/data/corpus/clue_corpus_small_sample.txt"), help="text to train on"
    )
    parser.add_argument("--vocab", type=Path, default=Path("models/masked-lm/2/vocab.txt"), help="vocabulary")
    parser.add_argument("--kills", type=int, default=20, help="kills (default: 20)")
    parser.add_argument("--steps", type=int, default=400, help="steps of the run (default: 400)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: 1)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus, whole, killed = (Path(folder) / name for name in ("corpus", "whole", "killed"))
        build_corpus([arguments.text], arguments.vocab, corpus)
        subprocess.run(command(corpus, arguments.vocab, whole, arguments.steps), check=True, stderr=subprocess.DEVNULL)
        run = command(corpus, arguments.vocab, killed, arguments.steps)
        found = sweep(run, killed, arguments.kills, random.Random(arguments.seed))
        print(f"killed {sum(found.values())} times, the last one after step {newest(killed)} of {arguments.steps}:")
        for name, count in sorted(found.items()):
            print(f"  {count:3} {name}")
        subprocess.run(run, check=True, stderr=subprocess.DEVNULL)
        equal = digest(whole) == digest(killed), losses(whole) == losses(killed)
    print(f"final weights {'equal' if equal[0] else 'DIFFERENT'}, losses {'equal' if equal[1] else 'DIFFERENT'}")
    return 0 if all(equal) else 1


if __name__ == "__main__":
    raise SystemExit(main())
