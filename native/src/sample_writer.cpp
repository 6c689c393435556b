#include "sample_writer.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

namespace ernie {
namespace {

constexpr int64_t no_label = -100;  // Paddle's cross entropy ignores it

[[noreturn]] void refuse(const std::string& message) { throw std::invalid_argument(message); }

}  // namespace

int64_t SampleWriter::write(const CorpusTokens& corpus, const Request& request, int64_t origin, BatchArrays& batch) {
    Random random(corpus.seed, Stream::sample, static_cast<uint32_t>(request.epoch),
                  static_cast<uint64_t>(request.sample));
    ids_ = batch.input_ids + origin;
    types_ = batch.token_type_ids + origin;
    units_.clear();
    size_ = 0;
    int64_t sentence_order_label = no_label;
    const int level = draws_.level(request.epoch, random);

    append_special(settings_.cls_id, 0);
    if (settings_.sentence_order && request.row.pair) {
        Span first, second;
        cut_pair(corpus, request, random, first, second);
        const bool swapped = random.next() >> 31;
        if (swapped) std::swap(first, second);
        truncate(first, second, request.row.target, random);
        append_text(corpus, first, 0, level);
        append_special(settings_.sep_id, 0);
        append_text(corpus, second, 1, level);
        append_special(settings_.sep_id, 1);
        sentence_order_label = swapped;
    } else {
        Span text{request.row.begin, request.row.begin + request.row.length};
        shorten(text, std::min<int64_t>(text.end - text.begin, request.row.target), random);
        append_text(corpus, text, 0, level);
        append_special(settings_.sep_id, 0);
    }
    choose(level, random);
    mask(origin, batch, random);
    return sentence_order_label;
}

// Cuts the sample after one of its sentences, except the last, each with the same probability.
void SampleWriter::cut_pair(
    const CorpusTokens& corpus, const Request& request, Random& random, Span& first, Span& second) {
    const int64_t begin = request.row.begin, end = begin + request.row.length;
    const int64_t* last = corpus.offsets + corpus.sentences + 1;
    cuts_.clear();
    int64_t before = begin;
    for (const int64_t* at = std::upper_bound(corpus.offsets, last, begin); at < last && *at < end; ++at) {
        if (*at < before)
            refuse("the offsets of corpus " + std::to_string(request.corpus) +
                   " are not in ascending order; its index is damaged.");
        if (*at > before) cuts_.push_back(*at);
        before = *at;
    }
    if (cuts_.empty())
        refuse("the sample at token " + std::to_string(begin) + " of corpus " + std::to_string(request.corpus) +
               " is marked as a pair, but no sentence ends inside it; the sample map is not of this corpus.");
    const int64_t cut = cuts_[random.below(static_cast<uint32_t>(cuts_.size()))];
    first = {begin, cut};
    second = {cut, end};
}

// The longer text loses tokens first, then both in turn; the second text loses the odd token.
void SampleWriter::truncate(Span& first, Span& second, int64_t target, Random& random) {
    const int64_t length = first.end - first.begin, other = second.end - second.begin;
    if (length + other <= target) return;
    const int64_t kept = std::min(length, std::max(target - other, target - target / 2));
    shorten(first, kept, random);
    shorten(second, target - kept, random);
}

// Removes a random part of the excess tokens at the start of the text and the rest at its end.
void SampleWriter::shorten(Span& text, int64_t kept, Random& random) {
    const int64_t excess = text.end - text.begin - kept;
    if (excess == 0) return;
    text.begin += random.below(static_cast<uint32_t>(excess + 1));
    text.end = text.begin + kept;
}

void SampleWriter::append_special(int32_t id, int64_t type) {
    ids_[size_] = id;
    types_[size_++] = type;
}

void SampleWriter::append_text(const CorpusTokens& corpus, Span text, int64_t type, int level) {
    if (corpus.tokens16)
        append_tokens(corpus.tokens16 + text.begin, corpus, text, type, level);
    else
        append_tokens(corpus.tokens32 + text.begin, corpus, text, type, level);
}

template <typename Token>
void SampleWriter::append_tokens(const Token* tokens, const CorpusTokens& corpus, Span text, int64_t type, int level) {
    const uint8_t* boundaries = corpus.boundaries ? corpus.boundaries + text.begin : nullptr;
    const bool unit_per_token = level == character_level || !boundaries;
    const size_t first_unit = units_.size();
    const int64_t length = text.end - text.begin;
    for (int64_t i = 0; i < length; ++i) {
        const auto id = static_cast<int32_t>(tokens[i]);
        if (id < 0 || id >= settings_.vocab_size)
            refuse("token " + std::to_string(text.begin + i) + " of a corpus is " + std::to_string(id) +
                   ", outside the vocabulary of " + std::to_string(settings_.vocab_size) +
                   " tokens; use the vocabulary that the corpus was built with.");
        ids_[size_ + i] = id;
        // The first token of a text always begins a unit, also if truncation cut a unit in two.
        const bool begins_unit = !settings_.continuation[id] && (unit_per_token || boundaries[i]);
        if (begins_unit || i == 0)
            units_.push_back({static_cast<int32_t>(size_ + i), 0, 0, boundaries ? boundaries[i] : uint8_t{0}, false});
    }
    std::fill(types_ + size_, types_ + size_ + length, type);
    size_ += length;
    const size_t end = units_.size();
    for (size_t unit = first_unit; unit < end; ++unit) {
        units_[unit].end = unit + 1 < end ? units_[unit + 1].begin : static_cast<int32_t>(size_);
        units_[unit].text_end = static_cast<int32_t>(end);
    }
}

}  // namespace ernie
