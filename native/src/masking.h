// Batches for masked-LM pretraining: sentence-order pairs, truncation, whole-word and n-gram masking with ERNIE's
// knowledge levels, padding or packing. The specification in plain Python is tests/native/oracle.py.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "random.h"
#include "sample_map.h"

namespace ernie {

struct MaskingSettings {
    int32_t vocab_size, cls_id, sep_id, mask_id, pad_id;
    const bool* continuation;           // [vocab_size]: `##` pieces
    std::vector<int32_t> ordinary_ids;  // what a random replacement is drawn from
    int64_t max_seq_length;             // 5 … 65535, special tokens included
    double masked_lm_prob;
    int64_t max_ngrams;  // 1 … 64
    std::vector<double> levels;  // [epochs, 4]: shares of the samples masked by character, word, phrase, entity
    bool sentence_order;
    double mask_share, random_share;  // 0.8 and 0.1: the fate of a chosen token; the rest stays as it is
    bool replace_whole_units;         // one fate a unit instead of one a token
    int64_t pad_multiple;             // row length is rounded up to it, never above max_seq_length
    bool pack;
};

struct CorpusTokens {
    const uint16_t* narrow;     // [tokens], or null …
    const int32_t* wide;        // … and then these
    const uint8_t* boundaries;  // [tokens] or null
    const int64_t* offsets;     // [sentences + 1]
    int64_t tokens, sentences;
    uint64_t seed;
};

// Sample number `sample` of corpus `corpus` in epoch `epoch`; the last two only key the random draws.
struct Request {
    int64_t corpus;
    Sample row;
    int64_t epoch, sample;
};

// The arrays of one batch of n samples in R rows of S tokens, all int64, laid out one after the other in one block.
struct BatchArrays {
    int64_t* input_ids;              // [R, S]
    int64_t* token_type_ids;         // [R, S]
    int64_t* position_ids;           // [R, S], packed only: from 0 in every sample
    int64_t* segment_ids;            // [R, S], packed only: 1, 2, … by sample of the row, 0 for padding
    int64_t* lengths;                // [R]
    int64_t* cls_positions;          // [n], row * S + column
    int64_t* sentence_order_labels;  // [n]: 1 swapped, 0 in order, -100 no pair
    int64_t* mask_positions;         // [N], row * S + column, ascending within a sample
    int64_t* labels;                 // [N]
    int64_t rows, length, masked;
};

class BatchMaker {
  public:
    // Throws std::invalid_argument for settings that contradict each other.
    BatchMaker(std::vector<CorpusTokens> corpora, MaskingSettings settings);

    // int64 entries that a block for `samples` samples must have.
    size_t capacity(size_t samples) const;

    // Throws std::invalid_argument for a request or a token that is out of range. Thread-safe.
    BatchArrays make(const std::vector<Request>& requests, int64_t* block) const;

  private:
    struct Place;
    class Draft;

    int64_t checked_length(const Request& request, size_t index) const;
    BatchArrays lay_out(const std::vector<Request>& requests, int64_t* block, std::vector<Place>& places) const;
    int level(const Request& request, Random& random) const;

    std::vector<CorpusTokens> corpora_;
    MaskingSettings settings_;
    std::vector<uint64_t> ngram_thresholds_;
    std::vector<uint64_t> level_thresholds_;
};

}  // namespace ernie
