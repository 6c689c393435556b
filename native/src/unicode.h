// Properties of characters that the tokenizer needs, from tables made at build time (generate_unicode_tables.py).
#pragma once

#include <cstdint>

namespace unicode {

// `kSymbol`: a letter for BERT's tokenizer, punctuation for PaddleNLP's.
enum Kind : std::uint8_t { kLetter, kControl, kSpace, kMark, kPunctuation, kSymbol };

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

// The ASCII letter or digit of a full-width one (U+FF10-FF19, FF21-FF3A, FF41-FF5A); other characters unchanged.
inline char32_t fold_width(char32_t code) {
    const bool wide = (code >= 0xFF10 && code <= 0xFF19) || (code >= 0xFF21 && code <= 0xFF3A) ||
                      (code >= 0xFF41 && code <= 0xFF5A);
    return wide ? code - 0xFEE0 : code;
}

// Writes the canonical decomposition (NFD) of one character to `out`; returns its length.
int decompose(char32_t code, char32_t out[kLongestDecomposition]);

// Writes the lower-case form of one character to `out`, without rules for context or language; returns its length.
int lower(char32_t code, char32_t out[kLongestLower]);

}  // namespace unicode
