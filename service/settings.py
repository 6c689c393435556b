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

from service.api.bodies import MAX_INPUTS
from service.api.models.tokenization import TokenizerName
from service.runtime.base import Backend, Device, Precision, RuntimeName


class Settings(BaseSettings):
    """Every setting of `ernie-serve`; the descriptions are its help."""

    model_config = SettingsConfigDict(env_prefix="ERNIE_", extra="ignore")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one, named in the log")
    models: Path = Field(
        Path("models"), description="model repository <name>/<version>/, one bundle, or a PaddleNLP export"
    )
    api_workers: int = Field(1, ge=1, le=256, description="API processes; they share the engines")
    admin: bool = Field(False, description="whether POST /admin/reload exists; SIGHUP does the same")

    runtime: RuntimeName = Field("auto", description="auto, fastdeploy, onnxruntime or openvino")
    backend: Backend = Field("auto", description="of FastDeploy: auto, paddle, ort, trt or paddle_trt")
    device: Device = Field("cpu", description="cpu or gpu; a GPU that is not there stops the start")
    device_id: int = Field(0, ge=0, description="number of the GPU")
    streams: int = Field(
        0, ge=0, description="forward passes beside each other on the CPU (not in fastdeploy); 0: one a core, 8 at most"
    )
    cpu_threads: int = Field(
        0,
        ge=0,
        description="threads of a forward pass on the CPU; 0: the cores over streams; fastdeploy: all but one",
    )
    tokenizer: TokenizerName = Field("native", description="native, or fast_tokenizer for comparison with it")
    precision: Precision = Field("fp32", description="fp32, bf16 (openvino on the CPU), or fp16 (on the GPU)")
    tensorrt_cache: Path | None = Field(None, description="folder that keeps built TensorRT engines")

    max_batch_tokens: int = Field(
        0, ge=0, description="padded tokens of one forward pass at most; 0: 512 on the CPU, 8192 on a GPU"
    )
    max_batch_items: int = Field(64, ge=1, description="texts in one forward pass at most")
    max_wait_ms: float = Field(0.0, ge=0, description="how long an idle engine waits for a fuller batch")

    max_queue_requests: int = Field(512, ge=1, description="requests in work per model before 429")
    max_queue_tokens: int = Field(200_000, ge=1, description="tokens in work per model before 429")
    max_inputs: int = Field(256, ge=1, le=MAX_INPUTS, description="texts in one request")
    max_masks: int = Field(64, ge=1, description="masks in one text")
    max_windows: int = Field(16, ge=1, le=256, description="windows of one long text")
    max_span: int = Field(8, ge=1, le=32, description="tokens of one target or one filled span")
    max_fill_texts: int = Field(2048, ge=1, description="variants of its texts that one fill-mask request may need run")
    max_body_bytes: int = Field(2 << 20, ge=1, description="size of a request body")
    max_reading_bytes: int = Field(64 << 20, ge=1, description="of bodies still arriving in one API process before 429")
    max_connections: int = Field(1000, ge=1, description="to one API process; the longest idle gives way to a new one")
    body_seconds: float = Field(
        10.0, gt=0, description="time for a body to arrive before 408; a head is not waited for longer"
    )
    keep_alive_seconds: int = Field(
        75, ge=1, description="time for which a connection may idle; a proxy should close its own sooner"
    )
    request_timeout_ms: int = Field(30_000, ge=1, description="deadline of a request that names none")

    probe_seconds: float = Field(10.0, gt=0, description="how often an engine must prove that its graph still runs")
    start_seconds: float = Field(600.0, gt=0, description="time for an engine to warm up; TensorRT takes minutes")
    hang_seconds: float = Field(60.0, gt=0, description="silence after which an engine is killed and restarted")
    max_restarts: int = Field(5, ge=0, description="restarts of a process in a row before the service ends; 0: no end")
    drain_delay_seconds: float = Field(0.0, ge=0, description="after SIGTERM: time to go on serving while not ready")
    shutdown_seconds: float = Field(30.0, gt=0, description="after that: time for requests in flight to finish")
    page: bool = Field(True, description="a page at / to try the endpoints")
    api_keys: SecretStr = Field(SecretStr(""), description="API keys, separated by commas; better in the environment")
    api_keys_file: Path | None = Field(None, description="file of API keys, one a line; read again on SIGHUP")
    cors_origins: str = Field("", description="origins of other sites' pages that may ask, separated by commas, or *")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="how much is logged")
    log_format: Literal["text", "json"] = Field("text", description="text or json lines")
    log_requests: bool = Field(False, description="whether every request is logged; its texts never are")
    otel: bool = Field(False, description="OpenTelemetry spans to OTEL_EXPORTER_OTLP_ENDPOINT; needs the extra otel")


def parser() -> argparse.ArgumentParser:
    """`--flag` for every setting, `--flag` and `--no-flag` for a boolean one; values are left to Settings to judge."""
    made = argparse.ArgumentParser(
        prog="ernie-serve",
        description="Serves ERNIE bundles over HTTP: POST /classify, POST /fill-mask.",
        epilog="Every setting is also an environment variable: --max-batch-tokens is ERNIE_MAX_BATCH_TOKENS, "
        "--no-page is ERNIE_PAGE=false. Flags win. Example: ernie-serve --models models --port 8080. "
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
    """A sentence where a boolean flag has a value, as in `--page false`; argparse would not name the right form."""
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
