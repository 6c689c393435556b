"""Writes the folders here with Hugging Face's own classes: small ERNIE and BERT models, and what they answer.

Run with PyTorch and transformers (written with torch 2.14 and transformers 5.20): python write.py
`expected.npz` holds the inputs `input_ids` and `token_type_ids` and the outputs, `output_0` and so on.
"""

import shutil
from pathlib import Path

import numpy as np
import torch
import transformers

HERE = Path(__file__).parent
TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "b", "A", "a", *"今天气真好坏书店"]
LABELS = {0: "差评", 1: "中评", 2: "好评"}
SHAPE = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
         "max_position_embeddings": 32, "initializer_range": 0.4, "layer_norm_eps": 1e-5}  # fmt: skip
ERNIE = transformers.ErnieConfig(**SHAPE, type_vocab_size=4, use_task_id=True, task_type_vocab_size=3)
BERT = transformers.BertConfig(**SHAPE)
MODELS = {
    "ernie-encoder": (transformers.ErnieModel, ERNIE, "safetensors"),
    "ernie-fill-mask": (transformers.ErnieForMaskedLM, ERNIE, "safetensors"),
    "ernie-pretraining": (transformers.ErnieForPreTraining, ERNIE, "safetensors"),
    "ernie-classify": (transformers.ErnieForSequenceClassification, ERNIE, "safetensors"),
    "ernie-token-classification": (transformers.ErnieForTokenClassification, ERNIE, "safetensors"),
    "ernie-question-answering": (transformers.ErnieForQuestionAnswering, ERNIE, "safetensors"),
    "bert-fill-mask": (transformers.BertForMaskedLM, BERT, "zip"),
    "bert-classify": (transformers.BertForSequenceClassification, BERT, "pickles"),
}


def write(name: str, kind: type, config: transformers.PretrainedConfig, file_format: str) -> None:
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(3)
    if name.endswith("classify") or name.endswith("token-classification"):
        config = type(config)(**{**config.to_dict(), "id2label": LABELS, "label2id": {v: k for k, v in LABELS.items()}})
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases and layer norms start as constants, which could hide a swapped name
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    if file_format != "safetensors":
        (folder / "model.safetensors").unlink()
        torch.save(
            model.state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=file_format == "zip"
        )
    (folder / "vocab.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    random = np.random.default_rng(0)
    ids = random.integers(4, len(TOKENS), (3, 9))
    ids[:, 0], ids[0, 4:], ids[1, 7:] = 1, 0, 0
    types = (np.arange(9) > 4) * (ids != 0)
    with torch.no_grad():
        outputs = model(
            input_ids=torch.tensor(ids),
            token_type_ids=torch.tensor(types.astype(np.int64)),
            attention_mask=torch.tensor((ids != 0).astype(np.int64)),
            return_dict=False,
        )
    np.savez(
        folder / "expected.npz", input_ids=ids, token_type_ids=types.astype(np.int64),
        **{f"output_{number}": each.numpy() for number, each in enumerate(outputs)},
    )  # fmt: skip


if __name__ == "__main__":
    for name, (kind, config, file_format) in MODELS.items():
        write(name, kind, config, file_format)
