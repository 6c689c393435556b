#include "masking_settings.h"

#include <cmath>
#include <stdexcept>
#include <string>

namespace ernie {
namespace {

constexpr uint64_t certain = uint64_t{1} << 32;  // above every 32-bit word

[[noreturn]] void refuse(const std::string& message) { throw std::invalid_argument(message); }

void check_id(const char* name, int32_t id, int32_t vocab_size) {
    if (id < 0 || id >= vocab_size)
        refuse(std::string(name) + " is " + std::to_string(id) + ", outside the vocabulary of " +
               std::to_string(vocab_size) + " tokens.");
}

void check_share(const char* name, double share) {
    if (!(share >= 0 && share <= 1))
        refuse(std::string(name) + " must be between 0 and 1, not " + std::to_string(share) + ".");
}

void check_range(const char* name, int64_t value, int64_t low, int64_t high) {
    if (value < low || value > high)
        refuse(std::string(name) + " must be between " + std::to_string(low) + " and " + std::to_string(high) + ", not "
        +
               std::to_string(value) + ".");
}

}  // namespace

void check(const MaskingSettings& settings) {
    check_id("cls_id", settings.cls_id, settings.vocab_size);
    check_id("sep_id", settings.sep_id, settings.vocab_size);
    check_id("mask_id", settings.mask_id, settings.vocab_size);
    check_id("pad_id", settings.pad_id, settings.vocab_size);
    if (settings.ordinary_ids.empty()) refuse("ordinary_ids is empty; give the ids of random replacements.");
    for (int32_t id : settings.ordinary_ids) {
        check_id("an entry of ordinary_ids", id, settings.vocab_size);
        if (id == settings.cls_id || id == settings.sep_id || id == settings.mask_id || id == settings.pad_id)
            refuse("ordinary_ids holds the special token " + std::to_string(id) + "; leave special tokens out.");
    }
    check_range("max_seq_length", settings.max_seq_length, 5, 65535);
    check_range("max_ngrams", settings.max_ngrams, 1, 64);
    check_range("pad_multiple", settings.pad_multiple, 1, 65535);
    check_share("masked_lm_prob", settings.masked_lm_prob);
    check_share("mask_share", settings.mask_share);
    check_share("random_share", settings.random_share);
    check_share("mask_share + random_share", settings.mask_share + settings.random_share);
    if (settings.levels.empty() || settings.levels.size() % 4)
        refuse("levels must have one row of 4 shares for each epoch.");
    for (size_t row = 0; row < settings.levels.size(); row += 4) {
        double sum = 0;
        for (size_t i = row; i < row + 4; ++i) {
            check_share("a share in levels", settings.levels[i]);
            sum += settings.levels[i];
        }
        if (std::abs(sum - 1) > 1e-6)
            refuse("row " + std::to_string(row / 4) + " of levels adds up to " + std::to_string(sum) + ", not to 1.");
    }
}

MaskingDraws::MaskingDraws(const MaskingSettings& settings) {
    double total = 0;
    for (int64_t n = 1; n <= settings.max_ngrams; ++n) total += 1.0 / static_cast<double>(n);
    double sum = 0;
    for (int64_t n = 1; n <= settings.max_ngrams; ++n) {
        sum += 1.0 / static_cast<double>(n);
        ngram_thresholds_.push_back(threshold(sum / total));
    }
    ngram_thresholds_.back() = certain;

    for (size_t row = 0; row < settings.levels.size(); row += 4) {
        double share = 0;
        for (size_t i = 0; i < 4; ++i) {
            share += settings.levels[row + i];
            level_thresholds_.push_back(threshold(share));
        }
        // Rounding must not make a level with share 0 possible: the last level with a share takes the remainder.
        for (size_t i = 4; i-- > 0;) {
            level_thresholds_[row + i] = certain;
            if (settings.levels[row + i] > 0) break;
        }
    }
}

}  // namespace ernie
