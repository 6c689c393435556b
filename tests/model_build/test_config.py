"""Invalid configurations and files are refused with one sentence."""

from pathlib import Path

import pytest

from model_build.config import VARIANTS, ConfigError, ErnieConfig
from model_build.weights import WeightsError, read_weights


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 0}, "num_attention_heads must be a whole number of at least 1"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a whole number of at least 1"),
        ({"intermediate_size": -5}, "intermediate_size must be a whole number of at least 1"),
        ({"vocab_size": "many"}, "vocab_size must be a whole number of at least 1.*'many'"),
        ({"pad_token_id": -1}, "pad_token_id must be a whole number"),
        ({"initializer_range": 0.0}, "initializer_range must be above 0"),
        ({"hidden_size": 100}, "hidden_size 100 is not divisible by num_attention_heads 12"),
        ({"hidden_act": "tanh"}, "hidden_act must be 'relu' or 'gelu'"),
    ],
)
def test_the_error_for_an_invalid_value_names_the_field(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ErnieConfig(**changes)


def test_every_published_variant_is_valid() -> None:
    assert all(ErnieConfig.from_dict(config.to_dict()) == config for config in VARIANTS.values())


def test_the_variants_are_paddlenlps_with_every_field_equal() -> None:
    from paddlenlp.transformers.ernie.configuration import ERNIE_PRETRAINED_INIT_CONFIGURATION
    from paddlenlp.transformers.ernie.configuration import ErnieConfig as Theirs

    table = {name: Theirs(**fields) for name, fields in ERNIE_PRETRAINED_INIT_CONFIGURATION.items()
             if not name.startswith(("uie", "utc"))}  # fmt: skip
    assert sorted(VARIANTS) == sorted(table)
    for name, ours in VARIANTS.items():
        assert ours.to_dict() == {field: getattr(table[name], field) for field in ours.to_dict()}, name


@pytest.mark.parametrize(
    ("content", "message"), [("[1, 2]", "must hold a JSON object"), ("{,", "is not JSON in UTF-8")]
)
def test_the_error_for_an_invalid_config_file_names_it(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"{path} {message}"):
        ErnieConfig.from_json(path)


def test_the_error_for_an_empty_file_of_weights_names_it(tmp_path: Path) -> None:
    path = tmp_path / "model.pdparams"
    path.touch()
    with pytest.raises(WeightsError, match=f"{path} holds no weights"):
        read_weights(path)
