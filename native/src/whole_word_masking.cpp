// Which units of a sample are masked: whole words, phrases and entities, and n-grams of them.
#include <algorithm>
#include <cmath>
#include <utility>

#include "sample_writer.h"

namespace ernie {

// Chooses units until the budget of tokens is spent: first units of the sample's level, then n-grams of all others.
void SampleWriter::choose(int level, Random& random) {
    const double expected = settings_.masked_lm_prob * static_cast<double>(size_);
    budget_ = std::max<int64_t>(1, static_cast<int64_t>(std::nearbyint(expected)));
    first_drawn_ = -1;
    bool any = false;
    if (level > word_level) {
        const int boundary = level + 1;  // boundary bytes count the levels from 1
        collect([boundary](const Unit& unit) { return unit.boundary == boundary; });
        any |= draw_units(false, random);
        collect([boundary](const Unit& unit) { return unit.boundary != boundary; });
    } else {
        collect([](const Unit&) { return true; });
    }
    any |= draw_units(settings_.max_ngrams > 1, random);
    // If every unit is longer than the budget, one is masked anyway: every sample needs a label.
    if (!any) units_[first_drawn_].masked = true;
}

template <typename Condition>
void SampleWriter::collect(Condition condition) {
    candidates_.clear();
    for (size_t unit = 0; unit < units_.size(); ++unit)
        if (condition(units_[unit])) candidates_.push_back(static_cast<int32_t>(unit));
}

// Chooses candidates in random order; returns whether it chose any.
bool SampleWriter::draw_units(bool ngrams, Random& random) {
    bool any = false;
    const size_t count = candidates_.size();
    for (size_t i = 0; i < count && budget_ > 0; ++i) {
        std::swap(candidates_[i], candidates_[i + random.below(static_cast<uint32_t>(count - i))]);
        const int32_t unit = candidates_[i];
        if (first_drawn_ < 0) first_drawn_ = unit;
        if (units_[unit].masked) continue;
        const int32_t stop = std::min(unit + (ngrams ? draws_.ngram_length(random) : 1), units_[unit].text_end);
        // A unit that is larger than the rest of the budget, or is chosen already, ends the n-gram.
        for (int32_t each = unit; each < stop && !units_[each].masked; ++each) {
            const int32_t tokens = units_[each].end - units_[each].begin;
            if (tokens > budget_) break;
            units_[each].masked = true;
            budget_ -= tokens;
            any = true;
        }
    }
    return any;
}

// Writes the labels of the chosen units, and replaces their tokens by [MASK], by a random id or not at all.
void SampleWriter::mask(int64_t origin, BatchArrays& batch, Random& random) {
    const uint64_t mask_below = threshold(settings_.mask_share);
    const uint64_t random_below = threshold(settings_.mask_share + settings_.random_share);
    const std::vector<int32_t>& ordinary = settings_.ordinary_ids;
    for (const Unit& unit : units_) {
        if (!unit.masked) continue;
        uint32_t word = 0;
        for (int32_t column = unit.begin; column < unit.end; ++column) {
            batch.mask_positions[batch.masked] = origin + column;
            batch.labels[batch.masked++] = ids_[column];
            if (column == unit.begin || !settings_.replace_whole_units) word = random.next();
            if (word < mask_below)
                ids_[column] = settings_.mask_id;
            else if (word < random_below)
                ids_[column] = ordinary[random.below(static_cast<uint32_t>(ordinary.size()))];
        }
    }
}

}  // namespace ernie
