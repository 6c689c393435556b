"""The objective of pretraining with teachers: masked LM, sentence order, the teachers' probabilities and relations.

Learning only relations is MiniLMv2 (Wang et al., arXiv:2012.15828); the teacher's probabilities in addition to the
masked-LM loss are from DistilBERT (Sanh et al., arXiv:1910.01108). A finetuned teacher on general text is the second
stage of ERNIE-Tiny (Su et al., arXiv:2106.02241) and, with a teacher of many tasks, the idea of ERNIE 3.0 Tiny (Liu et
al., arXiv:2301.03416); it lacks a masked-LM head, so only its relations are learnt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle
from paddle import Tensor

from model_build.heads import ErnieForPretraining
from training.distilling.losses import (
    States,
    averaged_log_probabilities,
    record_attention,
    relation_losses,
    soft_losses,
)
from training.distilling.settings import DistillSettings
from training.distilling.teachers import Teacher
from training.pretraining.masked_batches import MaskedBatch
from training.pretraining.objectives import Pretraining, Targets, logits, loss_sums


class DistilledPretraining:
    """An `Objective` of four terms: masked LM, sentence order, the teachers' probabilities, and their relations."""

    def __init__(self, teachers: Sequence[Teacher], settings: DistillSettings) -> None:
        self._teachers, self._settings = teachers, settings

    def factors(self, targets: Targets) -> list[float]:
        settings = self._settings
        hard = [settings.hard_weight * factor for factor in Pretraining().factors(targets)]
        return [*hard, settings.logits_weight / targets.tokens, settings.relations_weight / targets.positions]

    def sums(self, model: ErnieForPretraining, batch: MaskedBatch) -> Tensor:
        """float32 [4]: sums over masked tokens, pairs, masked tokens, and positions without padding."""
        settings = self._settings
        with record_attention(model.ernie.encoder) as seen:
            tokens, order = logits(model, batch)
        outputs, states = self._run_teachers(batch)
        soft = relations = paddle.zeros([])
        if settings.logits_weight:
            # Embeddings beyond the shared vocabulary have no token.
            rows = min(tokens.shape[-1], *(each.shape[-1] for each in outputs))
            teacher = averaged_log_probabilities([each[:, :rows] for each in outputs], settings.temperature)
            soft = soft_losses(tokens[:, :rows], teacher, settings.temperature).sum()
        if settings.relations_weight:
            real = paddle.to_tensor((np.arange(batch.input_ids.shape[1]) < batch.lengths[:, None]).astype(np.float32))
            student = seen.states()
            losses = [relation_losses(student, each, settings.relation_heads, real) for each in states]
            relations = paddle.add_n(losses).sum() / len(losses)
        return paddle.concat([loss_sums(tokens, order, batch), paddle.stack([soft, relations])])

    @paddle.no_grad()
    def _run_teachers(self, batch: MaskedBatch) -> tuple[list[Tensor], list[States]]:
        """For each teacher the masked-LM logits [N, V], and the states of the layer to learn from."""
        found, states = [], []
        for teacher in self._teachers:
            with record_attention(teacher.model.ernie.encoder, self._settings.teacher_layer) as seen:
                found.append(logits(teacher.model, batch)[0])
            states.append(seen.states())
        return found, states
