"""The split of a corpus into train, validation and test parts, between documents."""

from __future__ import annotations

from fractions import Fraction

PARTS = ("train", "validation", "test")


def parse_split(text: str) -> tuple[Fraction, Fraction, Fraction]:
    """`"949,50,1"` -> the shares of train, validation and test, which add up to 1. Trailing zeros may be left out.

    Raises ValueError for anything else.
    """
    try:
        weights = [Fraction(part.strip()) for part in text.split(",")]
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"split {text!r} is not a list of numbers; write for example 949,50,1.") from None
    if len(weights) > len(PARTS) or min(weights) < 0 or sum(weights) == 0:
        raise ValueError(
            f"split {text!r} must have one to three numbers for train, validation and test, none of them negative and "
            "not all 0; write for example 949,50,1."
        )
    weights += [Fraction(0)] * (len(PARTS) - len(weights))
    train, validation, test = (weight / sum(weights) for weight in weights)
    return train, validation, test


def split_documents(count: int, split: str, part: str, corpus: str) -> range:
    """The documents of one part of a corpus of `count` documents: consecutive, and disjoint from the other parts.

    `corpus` names the corpus in errors. Raises ValueError when the part would have no document.
    """
    if part not in PARTS:
        raise ValueError(f"part {part!r} is not one of {', '.join(PARTS)}.")
    shares = parse_split(split)
    index = PARTS.index(part)
    if shares[index] == 0:
        raise ValueError(f"split {split} gives the {part} part of {corpus} no share; give it one in --split.")
    first, last = (round(count * sum(shares[:end])) for end in (index, index + 1))
    if first == last:
        raise ValueError(
            f"{corpus} has {count} documents, too few for split {split}: its {part} part of "
            f"{float(shares[index]):.4g} would be empty. Give {part} a larger share, or a corpus of at least "
            f"{-(-1 // shares[index])} documents."
        )
    return range(first, last)
