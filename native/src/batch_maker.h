// Batches for masked-LM pretraining: several samples, each written by a SampleWriter, padded or packed into rows.
// tests/native/oracle.py is the specification, in plain Python.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "masking_settings.h"
#include "sample_map.h"

namespace ernie {

struct CorpusTokens {
    const uint16_t* tokens16;   // [tokens]; null if the tokens are int32
    const int32_t* tokens32;    // [tokens]; used if tokens16 is null
    const uint8_t* boundaries;  // [tokens], or null: then each token with its `##` pieces is a unit
    const int64_t* offsets;     // [sentences + 1]
    int64_t tokens, sentences;
    uint64_t seed;
};

// Asks for one sample of a batch. `epoch` and `sample` only key the random draws.
struct Request {
    int64_t corpus;
    Sample row;
    int64_t epoch, sample;
};

// The arrays of one batch of n samples in R rows of S tokens, all int64, one after the other in one block of memory.
struct BatchArrays {
    int64_t* input_ids;              // [R, S]
    int64_t* token_type_ids;         // [R, S]
    int64_t* position_ids;           // [R, S], packed only: counted from 0 in every sample
    int64_t* segment_ids;            // [R, S], packed only: number of the sample in its row from 1; 0 for padding
    int64_t* lengths;                // [R]
    int64_t* cls_positions;          // [n], row * S + column
    int64_t* sentence_order_labels;  // [n]: 1 swapped, 0 in order, -100 no pair
    int64_t* mask_positions;         // [N], row * S + column, ascending within a sample
    int64_t* labels;                 // [N]
    int64_t rows, length, masked;    // R, S and N
};

class BatchMaker {
  public:
    // Throws std::invalid_argument for settings out of range or in contradiction, and for a damaged corpus.
    BatchMaker(std::vector<CorpusTokens> corpora, MaskingSettings settings);

    // int64 entries that the block of a batch of `samples` samples needs.
    size_t capacity(size_t samples) const;

    // Throws std::invalid_argument for a request or a token that is out of range. Thread-safe.
    BatchArrays make(const std::vector<Request>& requests, int64_t* block) const;

  private:
    struct Placement;

    int64_t checked_length(const Request& request, size_t index) const;
    BatchArrays lay_out(const std::vector<Request>& requests, int64_t* block, std::vector<Placement>& placements) const;

    std::vector<CorpusTokens> corpora_;
    MaskingSettings settings_;
    MaskingDraws draws_;
};

}  // namespace ernie
