"""Settings of the service: environment variables with the prefix ERNIE_, and flags, which win."""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.runtime.base import Backend, Device, Precision, RuntimeName

TokenizerName = Literal["native", "fast_tokenizer"]
# More texts in one request would block the event loop while they are decoded.
MAX_INPUTS = 1024


class Settings(BaseSettings):
    """Every setting of `ernie-serve`; the descriptions are its help."""

    model_config = SettingsConfigDict(env_prefix="ERNIE_", extra="ignore")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free port, and the log names it")
    models: Path = Field(
        Path("models"),
        description="a model repository (NAME/VERSION/ folders), one bundle, or a folder exported by PaddleNLP",
    )
    api_workers: int = Field(1, ge=1, le=256, description="number of API processes; all of them use the same engines")
    admin: bool = Field(False, description="adds POST /admin/reload, which does the same as SIGHUP")

    runtime: RuntimeName = Field(
        "auto",
        description="auto, fastdeploy, onnxruntime or openvino; auto takes openvino on the CPU if it is installed",
    )
    backend: Backend = Field("auto", description="backend of FastDeploy: auto, paddle, ort, trt or paddle_trt")
    device: Device = Field("cpu", description="cpu or gpu; with gpu, the service does not start if there is no GPU")
    device_id: int = Field(0, ge=0, description="number of the GPU")
    streams: int = Field(
        0,
        ge=0,
        description="number of concurrent forward passes of a model on the CPU; 0: one for each core, at most 8; "
        "fastdeploy always runs one",
    )
    cpu_threads: int = Field(
        0,
        ge=0,
        description="threads of one forward pass on the CPU; 0: the number of cores divided by streams; for "
        "fastdeploy, the cores minus one",
    )
    tokenizer: TokenizerName = Field("native", description="native; or fast_tokenizer, only to compare it with native")
    precision: Precision = Field("fp32", description="fp32, bf16 (openvino on the CPU) or fp16 (on the GPU)")
    tensorrt_cache: Path | None = Field(None, description="folder that keeps the engines that TensorRT builds")

    max_batch_tokens: int = Field(
        0,
        ge=0,
        description="maximum number of tokens, padding included, in one forward pass; 0: 512 on the CPU, 8192 on a GPU",
    )
    max_batch_items: int = Field(64, ge=1, description="maximum number of texts in one forward pass")
    max_wait_ms: float = Field(0.0, ge=0, description="time that an idle engine waits for a fuller batch")

    max_queue_requests: int = Field(
        512,
        ge=1,
        description="maximum number of requests for one model that are accepted but not answered yet; "
        "more are refused with 429",
    )
    max_queue_tokens: int = Field(
        200_000,
        ge=1,
        description="maximum number of tokens in the requests for one model that are accepted but not answered yet; "
        "more are refused with 429",
    )
    max_inputs: int = Field(256, ge=1, le=MAX_INPUTS, description="maximum number of texts in one request")
    max_masks: int = Field(64, ge=1, description="maximum number of masks in one text")
    max_windows: int = Field(16, ge=1, le=256, description="maximum number of windows of one long text")
    max_span: int = Field(8, ge=1, le=32, description="maximum number of tokens in one target or one filled span")
    max_fill_texts: int = Field(
        2048, ge=1, description="maximum number of texts that the model runs for one fill-mask request"
    )
    max_body_bytes: int = Field(2 << 20, ge=1, description="maximum size of a request body")
    max_answer_bytes: int = Field(
        8 << 20,
        ge=1,
        description="maximum size of an answer; a request whose answer could be larger is refused with 413 before the "
        "model runs",
    )
    max_reading_bytes: int = Field(
        64 << 20,
        ge=1,
        description="maximum total size of the bodies that are arriving in one API process; more are refused with 429",
    )
    max_connections: int = Field(
        1000,
        ge=1,
        description="maximum number of open connections of an API process; a new connection then closes the connection "
        "that has been idle longest",
    )
    max_head_bytes: int = Field(
        64 << 10,
        ge=1024,
        description="maximum size of the head of a request, and of its trailers; larger ones are refused with 431",
    )
    max_head_fields: int = Field(
        100,
        ge=1,
        description="maximum number of header and trailer fields of a request; more are refused with 431",
    )
    head_seconds: float = Field(
        10.0, gt=0, description="time for the head of a request to arrive, from its first byte, then 408"
    )
    body_seconds: float = Field(10.0, gt=0, description="time for a request body to arrive, then 408")
    write_seconds: float = Field(
        30.0, gt=0, description="a connection is closed if its client reads nothing of an answer for this time"
    )
    max_sending_bytes: int = Field(
        64 << 20,
        ge=1,
        description="maximum total size of the answers in one API process that clients have not read yet; beyond it, "
        "the connections that have been without progress longest are closed",
    )
    keep_alive_seconds: int = Field(
        75,
        ge=1,
        description="time after which an idle connection is closed (a new one: --head-seconds later); a proxy "
        "should close its connections earlier",
    )
    request_timeout_ms: int = Field(30_000, ge=1, description="time limit of a request that does not set timeout_ms")

    probe_seconds: float = Field(
        10.0, gt=0, description="time between two checks that the graph of an engine still runs"
    )
    start_seconds: float = Field(600.0, gt=0, description="time for an engine to warm up; TensorRT needs minutes")
    hang_seconds: float = Field(
        60.0, gt=0, description="an engine or an API process that does not answer for this time is killed and restarted"
    )
    max_restarts: int = Field(
        5,
        ge=0,
        description="number of consecutive restarts of one process; the next failure ends the service; 0: no limit",
    )
    drain_delay_seconds: float = Field(
        0.0,
        ge=0,
        description="after SIGTERM: time in which the service still answers requests but reports that it is not ready",
    )
    shutdown_seconds: float = Field(
        30.0, gt=0, description="after --drain-delay-seconds: time for running requests to finish"
    )
    page: bool = Field(True, description="serves a page at / to try the endpoints")
    api_keys: SecretStr = Field(
        SecretStr(""), description="API keys, separated by commas; safer in the environment than on the command line"
    )
    api_keys_file: Path | None = Field(
        None, description="file with one API key on each line; it is read again on SIGHUP"
    )
    cors_origins: str = Field("", description="origins whose web pages may call the service, separated by commas, or *")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")
    log_format: Literal["text", "json"] = Field("text", description="text, or json with one object on each line")
    log_requests: bool = Field(False, description="logs every request, without its texts")
    otel: bool = Field(
        False,
        description="sends OpenTelemetry spans to OTEL_EXPORTER_OTLP_ENDPOINT; needs pip install 'ernie-zh[otel]'",
    )

    @property
    def beat_seconds(self) -> float:
        """Time between two messages by which an API process shows the parent that it runs."""
        return min(self.probe_seconds, self.hang_seconds / 4)


def parser() -> argparse.ArgumentParser:
    """`--flag` for every setting, `--flag` and `--no-flag` for a boolean one; Settings checks the values."""
    made = argparse.ArgumentParser(
        prog="ernie-serve",
        description="Serves ERNIE model bundles over HTTP: POST /classify and POST /fill-mask.",
        epilog="Every setting is also an environment variable: --max-batch-tokens is ERNIE_MAX_BATCH_TOKENS, "
        "--no-page is ERNIE_PAGE=false. A flag overrides its variable. "
        "Example: ernie-serve --models models --port 8080. "
        "`ernie-serve bench-runtimes BUNDLE` measures which runtime is fastest on this machine.",
    )
    made.add_argument("--version", action="version", version=f"%(prog)s {importlib.metadata.version('ernie-zh')}")
    for name, field in Settings.model_fields.items():
        shape: dict[str, Any] = {"metavar": name.rsplit("_", 1)[-1].upper()}
        if field.annotation is bool:
            shape = {"action": argparse.BooleanOptionalAction}
        flag = made.add_argument(_flag(name), dest=name, default=argparse.SUPPRESS, **shape)
        default = {True: "yes", False: "no"}[field.default] if field.annotation is bool else field.default
        flag.help = f"{field.description} (default: {default})"  # not before: Python 3.10 adds a second default
    return made


def read_settings(argv: list[str] | None) -> Settings:
    """Settings from flags and the environment; raises pydantic.ValidationError."""
    made = parser()
    words = sys.argv[1:] if argv is None else argv
    if refusal := _value_of_a_switch(words):
        made.exit(2, f"ernie-serve: {refusal}\n")
    given: dict[str, Any] = vars(made.parse_args(words))
    return Settings(**given)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _value_of_a_switch(words: Sequence[str]) -> str:
    """A sentence for a boolean flag with a value, as in `--page false`: argparse would not name the right form."""
    switches = {_flag(name) for name, field in Settings.model_fields.items() if field.annotation is bool}
    for word, following in zip(words, [*words[1:], "-"], strict=False):
        flag, equals, value = word.partition("=")
        if not equals:
            value = following
        if flag in switches and (equals or not value.startswith("-")):
            off = flag.replace("--", "--no-", 1)
            right = {"true": flag, "false": off}.get(value.lower(), f"{flag} or {off}")
            return f"{flag} takes no value; write {right} instead of {flag}{equals or ' '}{value}."
    return ""


def revealed(settings: Settings) -> dict[str, Any]:
    """The settings as JSON types, secrets in plain, for another process of the service."""
    return {**settings.model_dump(mode="json"), "api_keys": settings.api_keys.get_secret_value()}
