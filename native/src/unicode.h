// What the tokenizer needs to know of a character, from tables made at build time (generate_unicode_tables.py).
#pragma once

#include <cstdint>

namespace unicode {

enum Kind : std::uint8_t { kLetter, kControl, kSpace, kMark, kPunctuation };

// Lengths of 0 say that the character stands for itself.
struct Character {
    std::uint8_t kind;
    std::uint8_t combining_class;
    std::uint8_t decomposition_length;
    std::uint16_t decomposition;
    std::uint8_t lower_length;
    std::uint16_t lower;
};

// The longest canonical decomposition of one character, and the longest small form.
constexpr int kLongestDecomposition = 4;
constexpr int kLongestLower = 2;

// Of the tables, as in `unicodedata.unidata_version`.
const char* version();

const Character& character(char32_t code);

// BERT's CJK ranges (google-research/bert): Han characters, neither kana nor Hangul.
bool is_cjk(char32_t code);

// Canonical decomposition (NFD) of one character into `out`; returns its length.
int decompose(char32_t code, char32_t out[kLongestDecomposition]);

// Small form of one character by itself (no final sigma, no language) into `out`; returns its length.
int lower(char32_t code, char32_t out[kLongestLower]);

}  // namespace unicode
