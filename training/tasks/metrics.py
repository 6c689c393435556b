"""Metrics of finetuned models. All are shares from 0 to 1; published tables often print percentages."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np

from training.datasets.examples import Question
from training.datasets.tag_schemes import Scheme


def classification_scores(labels: Sequence[str], predicted: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """accuracy, macro_f1 (over the labels that occur), micro_f1, and the confusion matrix by scikit-learn.

    `confusion[i][j]` counts the examples of label `names[i]` for which `names[j]` was predicted.
    """
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

    return {
        "examples": len(labels),
        "accuracy": float(accuracy_score(labels, predicted)),
        "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0)),
        "micro_f1": float(f1_score(labels, predicted, average="micro", zero_division=0)),
        "confusion": confusion_matrix(labels, predicted, labels=list(names)).tolist(),
    }


def multi_label_scores(gold: np.ndarray, scores: np.ndarray, names: Sequence[str], threshold: float) -> dict[str, Any]:
    """subset_accuracy (all labels of a text correct), macro_f1 and micro_f1 by scikit-learn, and scores of each label.

    `gold` is bool [N, labels], `scores` are probabilities [N, labels]; a label is predicted if its probability is at
    least `threshold`. `labels` has precision, recall and F1 of each label by name, the number of its examples, and the
    threshold with the highest F1 on these examples with that F1.
    """
    from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

    predicted = scores >= threshold
    each = precision_recall_fscore_support(gold, predicted, average=None, zero_division=0)
    best = [best_threshold(gold[:, column], scores[:, column]) for column in range(len(names))]
    return {
        "examples": len(gold),
        "subset_accuracy": float(accuracy_score(gold, predicted)),
        "macro_f1": float(f1_score(gold, predicted, average="macro", zero_division=0)),
        "micro_f1": float(f1_score(gold, predicted, average="micro", zero_division=0)),
        "threshold": threshold,
        "labels": {
            name: {
                "precision": float(each[0][column]), "recall": float(each[1][column]), "f1": float(each[2][column]),
                "examples": int(each[3][column]), "best_threshold": best[column][0], "best_f1": best[column][1],
            }
            for column, name in enumerate(names)
        },
    }  # fmt: skip


def best_threshold(gold: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """The score of an example that as a threshold gives the highest F1, and this F1; (0.5, 0) without an example."""
    if not gold.any():
        return 0.5, 0.0
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(gold[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + gold.sum())
    last = np.append(scores[order][1:] != scores[order][:-1], True)  # equal scores are predicted together
    place = int(np.argmax(np.where(last, f1, 0)))
    return float(scores[order][place]), float(f1[place])


def entity_scores(tags: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], scheme: Scheme) -> dict[str, Any]:
    """Precision, recall and F1 of whole entities by seqeval in strict mode: type, first and last token must be correct.

    In strict mode only a complete sequence of the scheme is an entity: a predicted B-PER without its E-PER is ignored.
    `types` has the same metrics by type, and `entities` is the number of labelled entities.
    """
    from seqeval.metrics import classification_report

    report = classification_report(
        [_for_seqeval(sentence, scheme) for sentence in tags],
        [_for_seqeval(sentence, scheme) for sentence in predicted],
        mode="strict", scheme=_seqeval_scheme(scheme), output_dict=True, zero_division=0,
    )  # fmt: skip
    total = _scores(report["micro avg"])
    kinds = [kind for kind in report if not kind.endswith(" avg")]
    return {"sentences": len(tags), **total, "types": {kind: _scores(report[kind]) for kind in kinds}}


def entities(tags: Sequence[str], scheme: Scheme) -> set[tuple[int, int, str]]:
    """The entities that `entity_scores` counts in a sentence: first token, last token + 1, and type."""
    from seqeval.scheme import Tokens

    found = Tokens(_for_seqeval(tags, scheme), _seqeval_scheme(scheme)).entities
    return {(each.start, each.end, each.tag) for each in found}


def _seqeval_scheme(scheme: Scheme) -> Any:
    """seqeval's class for the scheme."""
    from seqeval import scheme as schemes

    named = {"IOB1": schemes.IOB1, "BILOU": schemes.BILOU}
    return named.get(scheme.name, schemes.IOBES if scheme.end else schemes.IOB2)


def _for_seqeval(tags: Sequence[str], scheme: Scheme) -> list[str]:
    """Tags for seqeval, which lacks M-: BMES is its IOBES with M for I."""
    return [f"I{tag[1:]}" if tag[0] == "M" else tag for tag in tags]


def _scores(row: Mapping[str, Any]) -> dict[str, Any]:
    scores = {"precision": row["precision"], "recall": row["recall"], "f1": row["f1-score"]}
    return {name: float(score) for name, score in scores.items()} | {"entities": int(row["support"])}


def answer_scores(questions: Sequence[Question], predicted: Mapping[str, str]) -> dict[str, Any]:
    """exact_match and f1 of answers by question id, as CMRC 2018's script (Cui et al., 2019) defines them.

    If a question has several correct answers, the best match counts. Raises ValueError if a question has no prediction.
    """
    if lacking := next((question.id for question in questions if question.id not in predicted), None):
        raise ValueError(f"question {lacking} has no predicted answer; give one for each question, which may be empty.")
    pairs = [([answer.text for answer in question.answers], predicted[question.id]) for question in questions]
    return {
        "questions": len(questions),
        "exact_match": statistics.fmean(any(map(exact, answers, [guess] * len(answers))) for answers, guess in pairs),
        "f1": statistics.fmean(max(answer_f1(answer, guess) for answer in answers) for answers, guess in pairs),
    }


# The list of the script: it lacks ASCII commas and full stops, ‘ and ….
_PUNCTUATION = "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"
_DROP = str.maketrans("", "", _PUNCTUATION)
_HAN = "[\u4e00-\u9fa5]"
# What the Treebank rules of NLTK, which the script uses, split from words: brackets, quotes, signs, dashes, commas that
# are not followed by a digit, the last full stop, and the clitics of English.
_END = rf"(?=\s|$|{_HAN})"
_CUT = rf"""\.{{2,}}|[;@#$%&?!()\[\]{{}}<>"«»‘„…—]|,(?!\d)|\.(?=\s*(?:$|{_HAN}))|'(?:s|m|d|ll|re|ve)?{_END}|n't{_END}"""
_PIECE = re.compile(rf"{_HAN}|{_CUT}|(?:(?!{_CUT}|{_HAN})\S)+")


def exact(answer: str, guess: str) -> bool:
    """Whether two answers are equal, ignoring case, surrounding spaces and Chinese punctuation."""
    return _plain(answer) == _plain(guess)


def answer_f1(answer: str, guess: str) -> float:
    """F1 of the longest common run of consecutive pieces of two answers; 0 without a common piece.

    It depends on the order of the pieces, unlike the F1 of SQuAD, which compares bags of pieces.
    """
    right, said = segment(answer), segment(guess)
    match = SequenceMatcher(None, right, said, autojunk=False).find_longest_match()
    return 2 * match.size / (len(right) + len(said)) if match.size else 0.0


def segment(answer: str) -> list[str]:
    """Pieces of an answer without Chinese punctuation: single Han characters, and words of other text."""
    return _PIECE.findall(_plain(answer))


def _plain(answer: str) -> str:
    return answer.lower().strip().translate(_DROP)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean over runs, sample standard deviation (n - 1; None for one run), and the number of runs n."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "standard_deviation": deviation, "n": len(values)}
