"""The examples of a documentation page: its fenced blocks, how they are run, and how their output is compared.

Blocks of `sh`, `python` and `javascript` are run in the order of the page, each as a separate program, in one folder.
The address 127.0.0.1:8000 in them is replaced by that of a real service. A block of `sh` that begins with
`.venv/bin/ernie-serve` (settings may precede it) starts that service; the following blocks use it, until the next such
block or the end of the page. A `json` or `text` block directly after a block is its expected output.

The output must be equal, with two exceptions. A decimal fraction may differ by one unit of its last digit on the page,
because scores are rounded there. And `…` matches anything: in text, as a value of JSON, and as a key it allows any
other keys.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
DOCUMENTED = "127.0.0.1:8000"
EXECUTED = {
    "sh": ["bash", "-euo", "pipefail", "-c"],
    "python": [sys.executable, "-c"],
    "javascript": ["node", "--input-type=module", "-e"],
}
PRINTED = {"json", "text"}
SECONDS = 300.0
ANYTHING = "…"
_FENCE = re.compile(r"^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_SERVICE = re.compile(r"(?:ERNIE_\w+=\S+ )*(?P<command>\.venv/bin/ernie-serve) (?!bench-runtimes|--help)")
_FRACTION = re.compile(r"(-?\d+\.\d+)")


@dataclass(frozen=True)
class Block:
    """A fenced block, and the following block with its expected output."""

    page: str
    line: int
    language: str
    text: str
    printed: Block | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, what one prints with the one that prints it."""
    source = page.read_text(encoding="utf-8")
    found: list[Block] = []
    end = None
    for fence in _FENCE.finditer(source):
        line = source.count("\n", 0, fence.start()) + 1
        block = Block(page.name, line, fence["language"].strip(), fence["text"])
        if block.language in PRINTED and end == fence.start() and found[-1].language in EXECUTED:
            runs = found.pop()
            block = Block(runs.page, runs.line, runs.language, runs.text, printed=block)
        found.append(block)
        end = fence.end() + 1
    return found


class Reader:
    """Does what a page says, in a folder that looks like the root of the repository."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        """`url` is of the service that runs when the page begins, if one does."""
        self._folder = folder
        self._url = url
        self._service: subprocess.Popen[str] | None = None
        (folder / ".venv").symlink_to(sys.prefix)
        (folder / "models").symlink_to(ROOT / "models")

    def run(self, block: Block, url: str | None = None) -> str:
        """What the block prints; raises AssertionError where it fails. `url` is asked in place of the service."""
        if block.language == "sh" and (found := _SERVICE.match(block.text)):
            self._start(block.text[: found.start("command")] + "exec " + block.text[found.start("command") :])
            return ""
        text = block.text
        if DOCUMENTED in text:
            asked = url or self._url
            assert asked, f"{block} asks a service, but none runs"
            text = text.replace(DOCUMENTED, asked.removeprefix("http://"))
        command = [*EXECUTED[block.language], text]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, f"{block} ended with status {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def _start(self, command: str) -> None:
        self.close()
        log = self._folder / "service.log"
        with log.open("w") as file:
            self._service = subprocess.Popen(
                ["bash", "-c", command], cwd=self._folder, env={**os.environ, "ERNIE_PORT": "0"}, stderr=file, text=True
            )
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and self._service.poll() is None:
            if found := re.search(r"listening on (http://\S+),", log.read_text()):
                self._url = found.group(1)
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"{self._url}/health/ready").status_code == 200:
                        return
            time.sleep(0.1)
        raise AssertionError(f"{command}\nis not ready:\n{log.read_text()}")

    def close(self) -> None:
        """Ends the service that the page has started last."""
        if self._service:
            self._service.terminate()
            self._service.wait(60)
            self._service = None


def differences(block: Block, printed: str) -> str:
    """How `printed` differs from what the page says the block prints; empty where it does not, or says nothing."""
    if not block.printed:
        return ""
    if block.printed.language == "json":
        wanted = json.loads(block.printed.text, parse_float=Fraction)
        return _compared(wanted, json.loads(printed), "$")
    wanted_lines, lines = block.printed.text.splitlines(), printed.splitlines()
    for number, (wanted, line) in enumerate(zip(wanted_lines, lines, strict=False), start=1):
        if not _alike(wanted, line.rstrip()):
            return f"line {number} is {line!r}, not {wanted!r}"
    return "" if len(lines) == len(wanted_lines) else f"{len(lines)} lines, not {len(wanted_lines)}:\n{printed}"


class Fraction(float):
    """A number of a page, with its tolerance: one unit of the last digit that is written."""

    def __new__(cls, written: str) -> Fraction:
        made = super().__new__(cls, written)
        made.tolerance = 10.0 ** -len(written.partition(".")[2])
        return made

    tolerance: float

    def allows(self, number: float) -> bool:
        """Whether `number` may have been written so."""
        return abs(self - number) <= self.tolerance


def _compared(wanted: Any, got: Any, where: str) -> str:
    if wanted == ANYTHING:
        return ""
    if isinstance(wanted, Fraction):
        same = isinstance(got, int | float) and wanted.allows(got)
        return "" if same else f"{where} is {got!r}, not {wanted!r}"
    if isinstance(wanted, dict) and isinstance(got, dict):
        keys = wanted.keys() - {ANYTHING}
        if keys - got.keys() or (ANYTHING not in wanted and got.keys() - keys):
            return f"{where} has {sorted(got)}, not {sorted(wanted)}"
        return next(filter(None, (_compared(wanted[key], got[key], f"{where}.{key}") for key in keys)), "")
    if isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        pairs = enumerate(zip(wanted, got, strict=True))
        return next(filter(None, (_compared(*pair, f"{where}[{index}]") for index, pair in pairs)), "")
    return "" if type(wanted) is type(got) and wanted == got else f"{where} is {got!r}, not {wanted!r}"


def _alike(wanted: str, line: str) -> bool:
    parts = _FRACTION.split(wanted)  # every other one is a fraction
    pattern = "".join(
        r"(-?\d+\.\d+)" if index % 2 else re.escape(part).replace(ANYTHING, ".*?") for index, part in enumerate(parts)
    )
    found = re.fullmatch(pattern, line)
    numbers = zip(parts[1::2], found.groups(), strict=True) if found else ()
    return found is not None and all(Fraction(written).allows(float(number)) for written, number in numbers)
