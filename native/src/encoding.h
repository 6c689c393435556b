// Token ids as a model needs them: [CLS] and [SEP], truncation, token types, padding.
#pragma once

#include "tokenizer.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ernie {

enum class Truncation { kLongestFirst, kOnlyFirst, kOnlySecond, kNone };

// From "longest_first", "only_first", "only_second" or "none"; throws std::invalid_argument for other names.
Truncation truncation_named(const std::string& name);

struct Limits {
    bool add_special_tokens = true;
    Specials specials = Specials::kAll;  // in the texts
    std::optional<std::int64_t> max_length;
    Truncation truncation = Truncation::kLongestFirst;
};

// The lengths of the parts of a row: a text or a pair of texts, with special tokens.
struct Layout {
    std::size_t first, second;  // tokens kept of each text
    std::size_t specials;       // special tokens that are added
    std::size_t full_length;    // before truncation, `specials` included

    std::size_t length() const { return first + second + specials; }
};

// `second` is empty if there is no pair. Throws std::invalid_argument if the row cannot be made as short as max_length.
Layout lay_out(std::size_t first, std::optional<std::size_t> second, const Limits& limits);

// One text or pair, [CLS] first [SEP] (second [SEP]), stored without the special tokens.
struct Encoding {
    SpannedTokens tokens;  // all tokens of the first text, then of the second, before truncation
    std::size_t first;     // number of tokens of the first text
    bool has_pair;
    Layout layout;
    std::int32_t cls, sep, unk;

    // Calls visit(id, start, end, type_id, added) for every token of the row; start and end of an added token are 0.
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

// The tokens of the row that the vocabulary does not know.
std::size_t unknown_tokens(const Encoding& encoding);

Encoding encode(const ErnieTokenizer& tokenizer, const Text& text, const Text* pair, const Limits& limits);

// The tokens of several texts, concatenated; text i has those from splits[i] to splits[i + 1] - 1.
struct FlatTokens {
    Tokens tokens;
    std::vector<std::int64_t> splits;
};

FlatTokens encode_flat(const ErnieTokenizer& tokenizer, const std::vector<Text>& texts, Specials specials);

// Rows of a batch before padding. `seconds` is empty if there are no pairs.
struct Batch {
    FlatTokens firsts, seconds;
    std::vector<Layout> layouts;
    std::size_t longest = 0;
};

Batch encode_batch(
    const ErnieTokenizer& tokenizer, const std::vector<Text>& texts, const std::vector<Text>& pairs,
    const Limits& limits);

// Writes the rows into arrays [rows, width], which must be zero. Pads `input_ids` with the id of [PAD].
template <class Id>
void fill(
    const ErnieTokenizer& tokenizer, const Batch& batch, std::size_t width, Id* input_ids, Id* type_ids, Id* mask);

}  // namespace ernie
