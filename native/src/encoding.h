// Token ids as a model takes them: [CLS] and [SEP], truncation, token types, padding.
#pragma once

#include "tokenizer.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ernie {

enum class Truncation { kLongestFirst, kOnlyFirst, kOnlySecond, kNone };

// "longest_first", "only_first", "only_second" or "none"; throws std::invalid_argument.
Truncation truncation_named(const std::string& name);

struct Limits {
    bool add_special_tokens = true;
    std::optional<std::int64_t> max_length;
    Truncation truncation = Truncation::kLongestFirst;
};

// How a text, or a pair of texts, is laid out in a row of `length` tokens.
struct Layout {
    std::size_t first, second;  // tokens kept of each text
    std::size_t specials;       // added around them
    std::size_t full_length;    // before truncation, `specials` included

    std::size_t length() const { return first + second + specials; }
};

// `second` is empty where there is no pair. Throws std::invalid_argument where the limits cannot be kept.
Layout lay_out(std::size_t first, std::optional<std::size_t> second, const Limits& limits);

// One text or pair: [CLS] first [SEP] (second [SEP]), of which only the texts' own tokens are kept.
struct Encoding {
    SpannedTokens tokens;  // of the first text, then of the second, all of them
    std::size_t first;     // how many of those are the first text's
    bool has_pair;
    Layout layout;
    std::int32_t cls, sep;

    // Calls visit(id, start, end, type_id, added) for every token of the row; an added token has no characters.
    template <class Visit> void each(Visit visit) const {
        const auto keep = [&](std::size_t begin, std::size_t count, int type) {
            for (std::size_t at = begin; at < begin + count; ++at)
                visit(tokens.ids[at], tokens.starts[at], tokens.ends[at], type, false);
        };
        if (layout.specials) visit(cls, 0, 0, 0, true);
        keep(0, layout.first, 0);
        if (layout.specials) visit(sep, 0, 0, 0, true);
        keep(first, layout.second, 1);
        if (layout.specials && has_pair) visit(sep, 0, 0, 1, true);
    }
};

Encoding encode(const ErnieTokenizer& tokenizer, const Text& text, const Text* pair, const Limits& limits);

// Ids of many texts back to back; those of text i are [splits[i], splits[i + 1]).
struct FlatTokens {
    Tokens tokens;
    std::vector<std::int64_t> splits;
};

FlatTokens encode_flat(const ErnieTokenizer& tokenizer, const std::vector<Text>& texts, bool special);

// Rows of a batch before they are padded. `seconds` has no splits where there are no pairs.
struct Batch {
    FlatTokens firsts, seconds;
    std::vector<Layout> layouts;
    std::size_t longest = 0;
};

Batch encode_batch(
    const ErnieTokenizer& tokenizer, const std::vector<Text>& texts, const std::vector<Text>& pairs,
    const Limits& limits);

// Writes the rows into arrays [rows, width], which are zero (`input_ids`: filled up with `pad` here).
template <class Id>
void fill(const ErnieTokenizer& tokenizer, const Batch& batch, std::size_t width, Id* input_ids, Id* type_ids, Id* mask);

}  // namespace ernie
