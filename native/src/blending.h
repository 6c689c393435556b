// Weighted mixing of several corpora with random access.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ernie {

// Assigns a corpus to every position. In the first n positions, corpus i occurs n * weight_i / total times, with a
// deviation below one: the chairman assignment of R. Tijdeman (Discrete Mathematics 32, 1980), whose deviation is at
// most 1 - 1 / (2k - 2) for k corpora. With whole-number weights the assignment repeats after `total` positions, so
// only one period is stored.
class Blending {
  public:
    // Throws std::invalid_argument unless every weight is at least 1 and their total at most max_period.
    explicit Blending(std::vector<int64_t> weights);

    static constexpr int64_t max_period = int64_t{1} << 20;
    static constexpr int64_t max_corpora = 1024;

    int64_t period() const { return static_cast<int64_t>(slots_.size()); }

    // The corpus at `position`, which must be at least 0, and the number of its samples at earlier positions.
    void at(int64_t position, int32_t& corpus, int64_t& index) const {
        const int64_t repeat = position / period();
        const Slot& slot = slots_[static_cast<size_t>(position - repeat * period())];
        corpus = slot.corpus;
        index = repeat * weights_[static_cast<size_t>(slot.corpus)] + slot.before;
    }

  private:
    struct Slot {
        int32_t corpus;
        int32_t before;  // earlier slots of the same corpus
    };
    std::vector<int64_t> weights_;
    std::vector<Slot> slots_;
};

}  // namespace ernie
