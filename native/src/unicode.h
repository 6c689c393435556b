// Properties of characters that the tokenizer needs, from tables made at build time (generate_unicode_tables.py).
#pragma once

#include <cstdint>

namespace unicode {

enum Kind : std::uint8_t { kLetter, kControl, kSpace, kMark, kPunctuation };

// `decomposition` and `lower` are indices into a table of characters. A length of 0 means that the character does not
// change.
struct Character {
    std::uint8_t kind;
    std::uint8_t combining_class;
    std::uint8_t decomposition_length;
    std::uint16_t decomposition;
    std::uint8_t lower_length;
    std::uint16_t lower;
};

// Characters in the longest canonical decomposition and in the longest lower-case form of one character.
constexpr int kLongestDecomposition = 4;
constexpr int kLongestLower = 2;

// The Unicode version of the tables, as `unicodedata.unidata_version`.
const char* version();

const Character& character(char32_t code);

// Whether the character is in BERT's CJK ranges (google-research/bert): Chinese characters, but not kana or Hangul.
bool is_cjk(char32_t code);

// Writes the canonical decomposition (NFD) of one character to `out`; returns its length.
int decompose(char32_t code, char32_t out[kLongestDecomposition]);

// Writes the lower-case form of one character to `out`, without rules for context or language; returns its length.
int lower(char32_t code, char32_t out[kLongestLower]);

}  // namespace unicode
