#include "encoding.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace ernie {
namespace {

[[noreturn]] void refuse(const std::string& sentence) { throw std::invalid_argument(sentence); }

// Shortens the longer text to the length of the other, then both in turn, beginning with the second.
void truncate_longest_first(Layout& layout, std::size_t room) {
    layout.second = std::min(layout.second, std::max(room - std::min(room, layout.first), room / 2));
    layout.first = std::min(layout.first, room - layout.second);
}

void truncate_one(std::size_t& length, std::size_t other, std::size_t room, const char* other_name) {
    if (other > room)
        refuse(std::string("the ") + other_name + " text alone has " + std::to_string(other) + " tokens, but " +
               "max_length leaves room for " + std::to_string(room) + "; use truncation longest_first.");
    length = std::min(length, room - other);
}

}  // namespace

Truncation truncation_named(const std::string& name) {
    if (name == "longest_first") return Truncation::kLongestFirst;
    if (name == "only_first") return Truncation::kOnlyFirst;
    if (name == "only_second") return Truncation::kOnlySecond;
    if (name == "none") return Truncation::kNone;
    refuse("truncation must be longest_first, only_first, only_second or none, not '" + name + "'.");
}

Layout lay_out(std::size_t first, std::optional<std::size_t> second, const Limits& limits) {
    const std::size_t specials = !limits.add_special_tokens ? 0 : second ? 3 : 2;
    Layout layout{first, second.value_or(0), specials, 0};
    layout.full_length = layout.length();
    if (!limits.max_length) return layout;
    if (*limits.max_length < static_cast<std::int64_t>(specials))
        refuse("max_length is " + std::to_string(*limits.max_length) + ", but the special tokens alone need " +
               std::to_string(specials) + "; give a larger max_length.");
    const std::size_t room = static_cast<std::size_t>(*limits.max_length) - specials;
    if (first + layout.second <= room) return layout;
    switch (limits.truncation) {
        case Truncation::kLongestFirst: truncate_longest_first(layout, room); break;
        case Truncation::kOnlyFirst: truncate_one(layout.first, layout.second, room, "second"); break;
        case Truncation::kOnlySecond: truncate_one(layout.second, layout.first, room, "first"); break;
        case Truncation::kNone: break;
    }
    return layout;
}

std::size_t unknown_tokens(const Encoding& encoding) {
    const auto begin = encoding.tokens.ids.begin(), second = begin + static_cast<std::ptrdiff_t>(encoding.first);
    const auto count = [&](auto from, std::size_t length) {
        return std::count(from, from + static_cast<std::ptrdiff_t>(length), encoding.unk);
    };
    return static_cast<std::size_t>(count(begin, encoding.layout.first) + count(second, encoding.layout.second));
}

Encoding encode(const ErnieTokenizer& tokenizer, const Text& text, const Text* pair, const Limits& limits) {
    SpannedTokens tokens;
    tokens.reserve(text.length + (pair ? pair->length : 0));
    tokenizer.tokenize(text, limits.specials, tokens);
    const std::size_t first = tokens.size();
    if (pair) tokenizer.tokenize(*pair, limits.specials, tokens);
    const auto second = pair ? std::optional(tokens.size() - first) : std::nullopt;
    const Layout layout = lay_out(first, second, limits);
    return {std::move(tokens), first, pair != nullptr, layout, tokenizer.cls, tokenizer.sep,
            tokenizer.unknown};
}

FlatTokens encode_flat(const ErnieTokenizer& tokenizer, const std::vector<Text>& texts, Specials specials) {
    FlatTokens flat;
    std::size_t characters = 0;
    for (const Text& text : texts) characters += text.length;
    flat.tokens.reserve(characters);  // Chinese text has about one token for each character
    flat.splits.reserve(texts.size() + 1);
    flat.splits.push_back(0);
    for (const Text& text : texts) {
        tokenizer.tokenize(text, specials, flat.tokens);
        flat.splits.push_back(static_cast<std::int64_t>(flat.tokens.size()));
    }
    return flat;
}

Batch encode_batch(
    const ErnieTokenizer& tokenizer, const std::vector<Text>& texts, const std::vector<Text>& pairs,
    const Limits& limits) {
    Batch batch;
    batch.firsts = encode_flat(tokenizer, texts, limits.specials);
    if (!pairs.empty()) batch.seconds = encode_flat(tokenizer, pairs, limits.specials);
    const auto length = [](const FlatTokens& flat, std::size_t row) {
        return static_cast<std::size_t>(flat.splits[row + 1] - flat.splits[row]);
    };
    for (std::size_t row = 0; row < texts.size(); ++row) {
        const auto second = pairs.empty() ? std::nullopt : std::optional(length(batch.seconds, row));
        batch.layouts.push_back(lay_out(length(batch.firsts, row), second, limits));
        batch.longest = std::max(batch.longest, batch.layouts.back().length());
    }
    return batch;
}

template <class Id>
void fill(
    const ErnieTokenizer& tokenizer, const Batch& batch, std::size_t width, Id* input_ids, Id* type_ids, Id* mask) {
    for (std::size_t row = 0; row < batch.layouts.size(); ++row) {
        const Layout& layout = batch.layouts[row];
        Id* next = input_ids + row * width;
        Id* const end = next + width;
        const auto copy = [&](const FlatTokens& flat, std::size_t count) {
            next = std::copy_n(flat.tokens.ids.begin() + flat.splits[row], count, next);
        };
        if (layout.specials) *next++ = tokenizer.cls;
        copy(batch.firsts, layout.first);
        if (layout.specials) *next++ = tokenizer.sep;
        const std::size_t typed = next - (input_ids + row * width);
        if (!batch.seconds.splits.empty()) {
            copy(batch.seconds, layout.second);
            if (layout.specials) *next++ = tokenizer.sep;
        }
        std::fill(next, end, static_cast<Id>(tokenizer.pad));
        std::fill(type_ids + row * width + typed, type_ids + row * width + layout.length(), Id{1});
        std::fill_n(mask + row * width, layout.length(), Id{1});
    }
}

template void fill(const ErnieTokenizer&, const Batch&, std::size_t, std::int32_t*, std::int32_t*, std::int32_t*);
template void fill(const ErnieTokenizer&, const Batch&, std::size_t, std::int64_t*, std::int64_t*, std::int64_t*);

}  // namespace ernie
