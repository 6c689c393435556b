"""A warning for text that the vocabulary does not fit: too many of its tokens are [UNK]."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

LIMIT = 0.05
"""With the vocabulary of ERNIE 1.0, 0.7 to 1.9 % of the tokens of Chinese reviews and news are unknown. Of Traditional
text (contexts of DRCD) it is 28.5 %, and 0.9 % after conversion to Simplified characters."""


def warn_of_unknown(where: str, unknown: int, tokens: int) -> None:
    """Logs a warning if more than LIMIT of `tokens` are unknown; `where` names the text."""
    if unknown > LIMIT * tokens:
        log.warning(
            "%.1f %% of the tokens of %s are unknown to the vocabulary: if the text has Traditional characters, "
            "convert it to Simplified ones, for example with OpenCC: pip install 'ernie-zh[opencc]' and opencc -c t2s; "
            "otherwise use a model with a vocabulary that has the characters of the text",
            100 * unknown / tokens,
            where,
        )
