// Weighted mixing of several corpora with random access.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ernie {

// Places corpora so that after every prefix of n positions corpus i was taken n * weight_i / total times, to less than
// one: the chairman assignment of R. Tijdeman (Discrete Mathematics 32, 1980), deviation at most 1 - 1 / (2k - 2) for k
// corpora. With whole-number weights it repeats after `total` positions, so one period answers for every position.
class Blending {
  public:
    // Every weight >= 1, total at most max_period; throws std::invalid_argument otherwise.
    explicit Blending(std::vector<int64_t> weights);

    static constexpr int64_t max_period = int64_t{1} << 20;
    static constexpr int64_t max_corpora = 1024;

    int64_t period() const { return static_cast<int64_t>(slots_.size()); }

    // corpus: which corpus stands at `position` >= 0; index: how many of its samples came before.
    void at(int64_t position, int32_t& corpus, int64_t& index) const {
        const int64_t turn = position / period();
        const Slot& slot = slots_[static_cast<size_t>(position - turn * period())];
        corpus = slot.corpus;
        index = turn * weights_[static_cast<size_t>(slot.corpus)] + slot.before;
    }

  private:
    struct Slot {
        int32_t corpus;
        int32_t before;
    };
    std::vector<int64_t> weights_;
    std::vector<Slot> slots_;
};

}  // namespace ernie
