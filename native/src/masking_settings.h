// Settings of the masked-LM batches, and the random draws that follow from them.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "random.h"

namespace ernie {

constexpr int character_level = 0, word_level = 1, phrase_level = 2, entity_level = 3;

struct MaskingSettings {
    int32_t vocab_size, cls_id, sep_id, mask_id, pad_id;
    const bool* continuation;           // [vocab_size]: true for `##` pieces
    std::vector<int32_t> ordinary_ids;  // random replacements are drawn from these ids
    int64_t max_seq_length;             // 5 … 65535, special tokens included
    double masked_lm_prob;              // share of the tokens to mask
    int64_t max_ngrams;                 // 1 … 64: units that are masked together
    std::vector<double> levels;  // [epochs, 4]: shares of the samples masked by character, word, phrase, entity
    bool sentence_order;
    double mask_share, random_share;  // of the chosen tokens: replaced by [MASK], by a random id; the rest stays
    bool replace_whole_units;         // draw the replacement once for each unit, not for each token
    int64_t pad_multiple;             // row length is rounded up to a multiple of it, but not above max_seq_length
    bool pack;                        // put several samples into one row
};

// Throws std::invalid_argument if a setting is out of range or contradicts another.
void check(const MaskingSettings& settings);

// Draws levels and n-gram lengths with the probabilities of the settings, which must be valid.
class MaskingDraws {
  public:
    explicit MaskingDraws(const MaskingSettings& settings);

    // The level of a sample in `epoch`; the last row of `levels` holds for all later epochs. Takes one random word.
    int level(int64_t epoch, Random& random) const {
        const size_t epochs = level_thresholds_.size() / 4;
        const size_t row = 4 * std::min<size_t>(static_cast<size_t>(epoch), epochs - 1);
        const uint32_t word = random.next();
        int level = 0;
        while (word >= level_thresholds_[row + static_cast<size_t>(level)]) ++level;
        return level;
    }

    // 1 … max_ngrams, n with a probability proportional to 1 / n. Takes one random word.
    int32_t ngram_length(Random& random) const {
        const uint32_t word = random.next();
        int32_t n = 1;
        while (word >= ngram_thresholds_[static_cast<size_t>(n - 1)]) ++n;
        return n;
    }

  private:
    std::vector<uint64_t> ngram_thresholds_;  // cumulative, one for each n
    std::vector<uint64_t> level_thresholds_;  // [epochs, 4], cumulative in each row
};

}  // namespace ernie
