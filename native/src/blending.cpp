#include "blending.h"

#include <stdexcept>
#include <string>

namespace ernie {

Blending::Blending(std::vector<int64_t> weights) : weights_(std::move(weights)) {
    const auto corpora = static_cast<int64_t>(weights_.size());
    if (corpora < 1 || corpora > max_corpora)
        throw std::invalid_argument("a blend can have 1 to " + std::to_string(max_corpora) + " corpora, not " +
                                    std::to_string(corpora) + ".");
    int64_t total = 0;
    for (int64_t weight : weights_) {
        if (weight < 1 || weight > max_period)
            throw std::invalid_argument("a blend's whole-number weights must be between 1 and " +
                                        std::to_string(max_period) + ", not " + std::to_string(weight) + ".");
        total += weight;
    }
    if (total > max_period)
        throw std::invalid_argument("a blend's whole-number weights must add up to at most " +
                                    std::to_string(max_period) + ", not " + std::to_string(total) + ".");

    slots_.reserve(static_cast<size_t>(total));
    std::vector<int32_t> taken(weights_.size(), 0);
    if (corpora == 1) {
        for (int64_t n = 0; n < total; ++n) slots_.push_back({0, taken[0]++});
        return;
    }
    // `due` is the share that corpus i should have by now, minus what it has got, in units of 1 / (total * span). The
    // corpus can take the slot if `due` is at least `total`, and must take one before `due` exceeds total * (span - 1).
    // Of all corpora that can take the slot, the one with the earliest deadline gets it. There is always one: the due
    // shares add up to 1, so one of them is at least 1 / corpora >= 1 / span.
    const int64_t span = 2 * corpora - 2;
    for (int64_t n = 1; n <= total; ++n) {
        int32_t best = -1;
        int64_t best_slack = 0;
        for (int32_t i = 0; i < corpora; ++i) {
            const int64_t due = span * (weights_[i] * n - total * taken[i]);
            if (due < total) continue;
            const int64_t slack = total * (span - 1) - due;
            if (best < 0 || slack * weights_[best] < best_slack * weights_[i]) {
                best = i;
                best_slack = slack;
            }
        }
        slots_.push_back({best, taken[best]++});
    }
}

}  // namespace ernie
