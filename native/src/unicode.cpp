#include "unicode.h"

#include <algorithm>

namespace unicode {
namespace {

#include "unicode_tables.h"

constexpr char32_t kHangul = 0xAC00, kLead = 0x1100, kVowel = 0x1161, kTrail = 0x11A7;
constexpr char32_t kVowels = 21, kTrails = 28, kSyllables = 19 * kVowels * kTrails;

// The Unicode Standard, section 3.12, "Hangul Syllable Decomposition".
int decompose_hangul(char32_t syllable, char32_t* out) {
    out[0] = kLead + syllable / (kVowels * kTrails);
    out[1] = kVowel + syllable / kTrails % kVowels;
    out[2] = kTrail + syllable % kTrails;
    return out[2] == kTrail ? 2 : 3;
}

int mapped(char32_t code, int length, int index, char32_t* out) {
    if (length == 0) {
        out[0] = code;
        return 1;
    }
    std::copy_n(kMappings + index, length, out);
    return length;
}

}  // namespace

const char* version() { return kVersion; }

const Character& character(char32_t code) { return kCharacters[kIndices[kBlocks[code >> 8] << 8 | (code & 0xFF)]]; }

bool is_cjk(char32_t code) {
    return (code >= 0x4E00 && code <= 0x9FFF) || (code >= 0x3400 && code <= 0x4DBF) ||
           (code >= 0x20000 && code <= 0x2A6DF) || (code >= 0x2A700 && code <= 0x2B73F) ||
           (code >= 0x2B740 && code <= 0x2B81F) || (code >= 0x2B820 && code <= 0x2CEAF) ||
           (code >= 0xF900 && code <= 0xFAFF) || (code >= 0x2F800 && code <= 0x2FA1F);
}

int decompose(char32_t code, char32_t out[kLongestDecomposition]) {
    if (code >= kHangul && code < kHangul + kSyllables) return decompose_hangul(code - kHangul, out);
    const Character& known = character(code);
    return mapped(code, known.decomposition_length, known.decomposition, out);
}

int lower(char32_t code, char32_t out[kLongestLower]) {
    const Character& known = character(code);
    return mapped(code, known.lower_length, known.lower, out);
}

}  // namespace unicode
