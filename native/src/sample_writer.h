// Writes one sample into a batch: sentence-order pair, truncation, whole-word and n-gram masking at ERNIE's levels.
//
// A unit is a character, word, phrase or entity: tokens that are masked together. BERT's whole-word masking has words
// only; the levels are those of ERNIE 1.0 (Sun et al., 2019, arXiv:1904.09223), the pairs those of ALBERT (Lan et al.,
// 2019, arXiv:1909.11942).
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "batch_maker.h"

namespace ernie {

class SampleWriter {
  public:
    SampleWriter(const MaskingSettings& settings, const MaskingDraws& draws) : settings_(settings), draws_(draws) {}

    // Writes the sample at the entry `origin` (row * S + column) of the batch; returns its sentence-order label.
    // Throws std::invalid_argument for a token outside the vocabulary or a damaged corpus.
    int64_t write(const CorpusTokens& corpus, const Request& request, int64_t origin, BatchArrays& batch);

  private:
    // Tokens [begin, end) of the corpus.
    struct Span {
        int64_t begin, end;
    };
    struct Unit {
        int32_t begin, end;  // columns of the sample
        int32_t text_end;    // index of the first unit that belongs to another text
        uint8_t boundary;    // boundary byte of its first token
        bool masked;
    };

    void cut_pair(const CorpusTokens& corpus, const Request& request, Random& random, Span& first, Span& second);
    static void truncate(Span& first, Span& second, int64_t target, Random& random);
    static void shorten(Span& text, int64_t kept, Random& random);

    void append_special(int32_t id, int64_t type);
    void append_text(const CorpusTokens& corpus, Span text, int64_t type, int level);
    template <typename Token>
    void append_tokens(const Token* tokens, const CorpusTokens& corpus, Span text, int64_t type, int level);

    void choose(int level, Random& random);
    template <typename Condition>
    void collect(Condition condition);
    bool draw_units(bool ngrams, Random& random);
    void mask(int64_t origin, BatchArrays& batch, Random& random);

    const MaskingSettings& settings_;
    const MaskingDraws& draws_;
    int64_t* ids_ = nullptr;
    int64_t* types_ = nullptr;
    int64_t size_ = 0;    // tokens written so far
    int64_t budget_ = 0;  // tokens that may still be masked
    int32_t first_drawn_ = -1;
    // Kept from sample to sample, to save allocations.
    std::vector<int64_t> cuts_;
    std::vector<Unit> units_;
    std::vector<int32_t> candidates_;
};

}  // namespace ernie
