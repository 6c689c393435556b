"""Where settings come from and which wins."""

import pytest
from pydantic import ValidationError

from service.parent.fleet import batching
from service.settings import Settings, parser, read_settings


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"ERNIE_{name.upper()}", raising=False)


def test_defaults_serve_the_models_folder_on_the_local_address() -> None:
    settings = read_settings([])
    assert (settings.host, settings.port, str(settings.models)) == ("127.0.0.1", 8000, "models")
    assert (settings.max_queue_requests, settings.max_queue_tokens) == (512, 200_000)
    assert (settings.max_body_bytes, settings.request_timeout_ms) == (2 << 20, 30_000)


def test_flags_beat_the_environment_and_the_environment_beats_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERNIE_PORT", "81")
    monkeypatch.setenv("ERNIE_MAX_INPUTS", "7")
    settings = read_settings(["--port", "82"])
    assert (settings.port, settings.max_inputs) == (82, 7)


def test_a_boolean_setting_has_a_flag_for_each_value_and_the_environment_takes_true_and_false(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (read_settings([]).page, read_settings([]).log_requests) == (True, False)
    settings = read_settings(["--no-page", "--log-requests"])
    assert (settings.page, settings.log_requests) == (False, True)
    monkeypatch.setenv("ERNIE_PAGE", "false")
    monkeypatch.setenv("ERNIE_LOG_REQUESTS", "true")
    assert (read_settings([]).page, read_settings([]).log_requests) == (False, True)
    settings = read_settings(["--page", "--no-log-requests"])
    assert (settings.page, settings.log_requests) == (True, False)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--page", "false"], "--page takes no value; write --no-page instead of --page false."),
        (["--port", "0", "--page=False"], "--page takes no value; write --no-page instead of --page=False."),
        (
            ["--log-requests", "true"],
            "--log-requests takes no value; write --log-requests instead of --log-requests true.",
        ),
        (["--admin", "1", "--page"], "--admin takes no value; write --admin or --no-admin instead of --admin 1."),
    ],
)
def test_a_value_after_a_boolean_flag_ends_with_one_sentence_that_names_the_right_form(
    flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read_settings(flags)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"ernie-serve: {sentence}\n"


@pytest.mark.parametrize(
    "flags",
    [
        ["--port", "-1"],
        ["--port", "x"],
        ["--max-inputs", "0"],
        ["--max-inputs", "100000"],
        ["--device", "tpu"],
        ["--tokenizer", "slow"],
    ],
)
def test_a_value_out_of_bounds_is_refused_by_the_name_of_its_flag(flags: list[str]) -> None:
    with pytest.raises(ValidationError) as refused:
        read_settings(flags)
    assert refused.value.errors()[0]["loc"] == (flags[0].removeprefix("--").replace("-", "_"),)


def test_every_setting_has_a_flag_with_one_line_of_description() -> None:
    described = {action.dest: action.help or "" for action in parser()._actions}
    for name, field in Settings.model_fields.items():
        assert field.description
        assert "\n" not in field.description
        assert field.description in described[name]


def test_a_flag_that_does_not_exist_ends_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_settings(["--prot", "8000"])
    assert ended.value.code == 2
    assert "--prot" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "tokens", "background"),
    [
        ([], 512, 512),
        (["--device", "gpu"], 8192, 2048),
        (["--max-batch-tokens", "100"], 100, 512),
        (["--max-batch-tokens", "4000", "--max-batch-items", "9"], 4000, 1000),
    ],
)
def test_batches_are_larger_on_a_gpu_unless_their_size_is_given(flags: list[str], tokens: int, background: int) -> None:
    options = batching(read_settings(flags))
    assert (options.max_batch_tokens, options.background_batch_tokens) == (tokens, background)
    assert options.max_batch_items == (9 if "9" in flags else 64)
