"""Fifty steps of our loop against PaddleNLP's own `ErnieForPretraining`: same weights, batches and optimiser."""

import dataclasses
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddlenlp.transformers import ErnieConfig as PublishedConfig
from paddlenlp.transformers import ErnieForPretraining as Published
from paddlenlp.transformers.ernie.modeling import ErniePretrainingCriterion

from tests.training.conftest import Small
from training.pretraining.data import open_data
from training.pretraining.loop import pretrain
from training.runs.data_parallel import ProcessGroup
from training.runs.records import Records


@pytest.mark.parametrize("hidden_act", ["relu", "gelu"])
def test_fifty_losses_equal_those_of_paddlenlp_trained_on_the_same_batches(
    small: Small, tmp_path: Path, hidden_act: str
) -> None:
    config = dataclasses.replace(
        small.config, hidden_act=hidden_act, use_task_id=hidden_act == "gelu", task_id=0,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = Published(PublishedConfig(**config.to_dict()))
    model.save_pretrained(str(tmp_path / "start"))
    job = small.job(tmp_path / "run", config=config, start=str(tmp_path / "start"), steps=50, dropout=0.0)
    pretrain(job)
    ours = Records(tmp_path / "run" / "records.jsonl").read()

    # As PaddleNLP's ERNIE 1.0 script: AdamW, ClipGradByGlobalNorm, its own criterion. The learning rate is ours on both
    # sides: theirs (LinearAnnealingWithWarmupDecay) lags one step behind and begins with a step of rate 0.
    settings = job.settings
    criterion = ErniePretrainingCriterion(with_nsp_loss=True)
    decay = [each.name for name, each in model.named_parameters() if not any(nd in name for nd in ("bias", "norm"))]
    optimizer = paddle.optimizer.AdamW(
        learning_rate=0.0, beta1=0.9, beta2=settings.beta2, epsilon=1e-8, parameters=model.parameters(),
        weight_decay=settings.weight_decay, apply_decay_param_fun=lambda name: name in decay,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(settings.clip_norm),
    )  # fmt: skip
    data = open_data(
        job.corpora,
        job.vocab,
        config,
        settings,
        evaluation_samples=8,
        threads=1,
        cache=tmp_path / "maps",
        group=ProcessGroup(),
    )  # fmt: skip
    theirs = []
    model.train()
    for step, batch in enumerate(data.train.iterate(0, 50 * settings.batch_size), start=1):
        pad = paddle.to_tensor((batch.input_ids == 0).astype(np.float32) * -1e4).unsqueeze([1, 2])
        scores, order = model(
            paddle.to_tensor(batch.input_ids), paddle.to_tensor(batch.token_type_ids), attention_mask=pad,
            masked_positions=paddle.to_tensor(batch.mask_positions),
        )  # fmt: skip
        labels = paddle.to_tensor(batch.labels).unsqueeze(-1)
        masked_lm, _ = criterion(scores, order, labels, paddle.zeros([len(batch.lengths), 1], dtype="int64"))
        # Their criterion would average sentence order over texts that are no pairs; the pairs alone are taken here.
        pairs = np.flatnonzero(batch.sentence_order_labels >= 0)
        sentence_order = paddle.nn.functional.cross_entropy(
            paddle.gather(order, paddle.to_tensor(pairs)), paddle.to_tensor(batch.sentence_order_labels[pairs])
        )
        loss = masked_lm + sentence_order
        loss.backward()
        if step <= settings.last_warmup_step:
            rate = settings.learning_rate * step / settings.last_warmup_step
        else:
            share = (step - settings.last_warmup_step) / (settings.steps - settings.last_warmup_step)
            rate = settings.learning_rate + share * (settings.min_learning_rate - settings.learning_rate)
        optimizer.set_lr(rate)
        optimizer.step()
        optimizer.clear_grad()
        theirs.append((float(masked_lm), float(sentence_order)))
    assert len(ours) == len(theirs) == 50
    np.testing.assert_allclose([(each["mlm"], each["sop"]) for each in ours], theirs, atol=1e-4)
    assert ours[-1]["mlm"] < ours[0]["mlm"] - 0.5
