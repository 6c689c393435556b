#include "masking.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace ernie {
namespace {

constexpr int character_level = 0, word_level = 1;  // phrase 2, entity 3: one less than the boundary byte
constexpr int64_t no_label = -100;                  // what Paddle's cross entropy ignores
constexpr uint64_t always = uint64_t{1} << 32;

[[noreturn]] void refuse(const std::string& message) { throw std::invalid_argument(message); }

void check_id(const char* name, int32_t id, int32_t vocab_size) {
    if (id < 0 || id >= vocab_size)
        refuse(std::string(name) + " is " + std::to_string(id) + ", outside the vocabulary of " +
               std::to_string(vocab_size) + " tokens.");
}

void check_share(const char* name, double share) {
    if (!(share >= 0 && share <= 1))
        refuse(std::string(name) + " lies between 0 and 1, not at " + std::to_string(share) + ".");
}

void check_range(const char* name, int64_t value, int64_t low, int64_t high) {
    if (value < low || value > high)
        refuse(std::string(name) + " lies between " + std::to_string(low) + " and " + std::to_string(high) +
               ", not at " + std::to_string(value) + ".");
}

void check(const MaskingSettings& settings) {
    check_id("cls_id", settings.cls_id, settings.vocab_size);
    check_id("sep_id", settings.sep_id, settings.vocab_size);
    check_id("mask_id", settings.mask_id, settings.vocab_size);
    check_id("pad_id", settings.pad_id, settings.vocab_size);
    if (settings.ordinary_ids.empty()) refuse("ordinary_ids is empty; random replacements are drawn from it.");
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
    if (settings.levels.empty() || settings.levels.size() % 4) refuse("levels has one row of 4 shares an epoch.");
    for (size_t row = 0; row < settings.levels.size(); row += 4) {
        for (size_t i = 0; i < 4; ++i) check_share("a share in levels", settings.levels[row + i]);
        const double sum = settings.levels[row] + settings.levels[row + 1] + settings.levels[row + 2] + settings.levels[row + 3];
        if (std::abs(sum - 1) > 1e-6)
            refuse("row " + std::to_string(row / 4) + " of levels adds up to " + std::to_string(sum) + ", not to 1.");
    }
}

void check(const CorpusTokens& corpus, size_t index) {
    if (corpus.sentences < 0 || corpus.offsets[0] < 0 || corpus.offsets[corpus.sentences] > corpus.tokens)
        refuse("the offsets of corpus " + std::to_string(index) + " point outside its tokens; its index is damaged.");
}

}  // namespace

struct BatchMaker::Place {
    int64_t row, column, length, segment;
};

BatchMaker::BatchMaker(std::vector<CorpusTokens> corpora, MaskingSettings settings)
    : corpora_(std::move(corpora)), settings_(std::move(settings)) {
    check(settings_);
    for (size_t i = 0; i < corpora_.size(); ++i) check(corpora_[i], i);

    double total = 0;
    for (int64_t n = 1; n <= settings_.max_ngrams; ++n) total += 1.0 / static_cast<double>(n);
    double sum = 0;
    for (int64_t n = 1; n <= settings_.max_ngrams; ++n) {
        sum += 1.0 / static_cast<double>(n);
        ngram_thresholds_.push_back(threshold(sum / total));
    }
    ngram_thresholds_.back() = always;

    for (size_t row = 0; row < settings_.levels.size(); row += 4) {
        double share = 0;
        for (size_t i = 0; i < 4; ++i) {
            share += settings_.levels[row + i];
            level_thresholds_.push_back(threshold(share));
        }
        // Rounding must not make a level of share 0 reachable: the last one that has a share takes the remainder.
        for (size_t i = 4; i-- > 0;) {
            level_thresholds_[row + i] = always;
            if (settings_.levels[row + i] > 0) break;
        }
    }
}

size_t BatchMaker::capacity(size_t samples) const {
    const size_t tokens = samples * static_cast<size_t>(settings_.max_seq_length);
    return tokens * (settings_.pack ? 6 : 4) + 3 * samples;
}

// Tokens of the sample in the batch, special tokens included.
int64_t BatchMaker::checked_length(const Request& request, size_t index) const {
    const Sample& row = request.row;
    const auto where = [&] { return "sample " + std::to_string(index) + " of the batch "; };
    if (request.corpus < 0 || request.corpus >= static_cast<int64_t>(corpora_.size()))
        refuse(where() + "is of corpus " + std::to_string(request.corpus) + "; there are " +
               std::to_string(corpora_.size()) + ".");
    const CorpusTokens& corpus = corpora_[static_cast<size_t>(request.corpus)];
    if (row.begin < 0 || row.length < 1 || row.begin > corpus.tokens - row.length)
        refuse(where() + "spans tokens " + std::to_string(row.begin) + " and the next " + std::to_string(row.length) +
               "; corpus " + std::to_string(request.corpus) + " has " + std::to_string(corpus.tokens) + ".");
    if (request.epoch < 0 || request.epoch > int64_t{0xFFFFFFFF} || request.sample < 0)
        refuse(where() + "is keyed by epoch " + std::to_string(request.epoch) + " and sample " +
               std::to_string(request.sample) + "; both count from 0, epochs to 2^32 - 1.");
    const int64_t specials = settings_.sentence_order && row.pair ? 3 : 2;
    const int64_t kept = std::min<int64_t>(row.length, row.target);
    if (row.pair > 1 || row.target < specials - 1 || kept + specials > settings_.max_seq_length)
        refuse(where() + "keeps " + std::to_string(row.target) + " tokens and " + std::to_string(specials) +
               " special ones, which max_seq_length " + std::to_string(settings_.max_seq_length) +
               " does not allow; build the sample map for this length.");
    return kept + specials;
}

BatchArrays BatchMaker::lay_out(const std::vector<Request>& requests, int64_t* block, std::vector<Place>& places) const {
    std::vector<int64_t> lengths, segments;
    int64_t longest = 1;
    for (size_t i = 0; i < requests.size(); ++i) {
        const int64_t length = checked_length(requests[i], i);
        size_t row = settings_.pack ? 0 : lengths.size();
        // First fit: the first row with room, else a new one.
        while (row < lengths.size() && lengths[row] + length > settings_.max_seq_length) ++row;
        if (row == lengths.size()) {
            lengths.push_back(0);
            segments.push_back(0);
        }
        places.push_back({static_cast<int64_t>(row), lengths[row], length, ++segments[row]});
        longest = std::max(longest, lengths[row] += length);
    }
    const int64_t multiple = settings_.pad_multiple;
    const int64_t length = std::min(settings_.max_seq_length, (longest + multiple - 1) / multiple * multiple);

    BatchArrays batch{};
    batch.rows = static_cast<int64_t>(lengths.size());
    batch.length = length;
    const auto take = [&block](int64_t entries) {
        int64_t* array = block;
        block += entries;
        return array;
    };
    const auto samples = static_cast<int64_t>(requests.size());
    const int64_t cells = batch.rows * length;
    batch.input_ids = take(cells);
    batch.token_type_ids = take(cells);
    batch.position_ids = settings_.pack ? take(cells) : nullptr;
    batch.segment_ids = settings_.pack ? take(cells) : nullptr;
    batch.lengths = take(batch.rows);
    batch.cls_positions = take(samples);
    batch.sentence_order_labels = take(samples);
    batch.mask_positions = take(cells);
    batch.labels = take(cells);
    std::copy(lengths.begin(), lengths.end(), batch.lengths);
    for (int64_t row = 0; row < batch.rows; ++row) {
        const int64_t from = row * length + lengths[row], to = (row + 1) * length;
        std::fill(batch.input_ids + from, batch.input_ids + to, settings_.pad_id);
        std::fill(batch.token_type_ids + from, batch.token_type_ids + to, 0);
        if (!settings_.pack) continue;
        std::fill(batch.position_ids + from, batch.position_ids + to, 0);
        std::fill(batch.segment_ids + from, batch.segment_ids + to, 0);
    }
    return batch;
}

int BatchMaker::level(const Request& request, Random& random) const {
    const size_t epochs = level_thresholds_.size() / 4;
    const size_t row = 4 * std::min<size_t>(static_cast<size_t>(request.epoch), epochs - 1);
    const uint32_t word = random.next();
    int level = 0;
    while (word >= level_thresholds_[row + static_cast<size_t>(level)]) ++level;
    return level;
}

// One sample on its way into a batch. Scratch arrays are kept from sample to sample.
class BatchMaker::Draft {
  public:
    explicit Draft(const BatchMaker& maker) : maker_(maker), settings_(maker.settings_) {}

    void write(const Request& request, const Place& place, BatchArrays& batch, int64_t& sentence_order_label) {
        const CorpusTokens& corpus = maker_.corpora_[static_cast<size_t>(request.corpus)];
        Random random(corpus.seed, Stream::sample, static_cast<uint32_t>(request.epoch),
                      static_cast<uint64_t>(request.sample));
        ids_ = batch.input_ids + place.row * batch.length + place.column;
        types_ = batch.token_type_ids + place.row * batch.length + place.column;
        units_.clear();
        const int level = maker_.level(request, random);

        size_ = 0;
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
            sentence_order_label = no_label;
        }
        choose(level, random);
        mask(place, batch, random);
    }

  private:
    struct Span {
        int64_t begin, end;
    };
    struct Unit {
        int32_t begin, end;  // columns of the sample
        int32_t run_end;     // units of the same text end before this one
        uint8_t boundary;
        bool taken;
    };

    // A sentence's end inside the run, each with the same probability.
    void cut_pair(const CorpusTokens& corpus, const Request& request, Random& random, Span& first, Span& second) {
        const int64_t begin = request.row.begin, end = begin + request.row.length;
        const int64_t* last = corpus.offsets + corpus.sentences + 1;
        cuts_.clear();
        int64_t before = begin;
        for (const int64_t* at = std::upper_bound(corpus.offsets, last, begin); at < last && *at < end; ++at) {
            if (*at < before) refuse_offsets(request.corpus);
            if (*at > before) cuts_.push_back(*at);
            before = *at;
        }
        if (cuts_.empty())
            refuse("the sample at token " + std::to_string(begin) + " of corpus " + std::to_string(request.corpus) +
                   " is marked as a pair, but no sentence ends inside; the sample map is not of this corpus.");
        const int64_t cut = cuts_[random.below(static_cast<uint32_t>(cuts_.size()))];
        first = {begin, cut};
        second = {cut, end};
    }

    [[noreturn]] static void refuse_offsets(int64_t corpus) {
        refuse("the offsets of corpus " + std::to_string(corpus) + " are not in order; its index is damaged.");
    }

    // The longer text gives up tokens first; at a tie the second one does.
    static void truncate(Span& first, Span& second, int64_t target, Random& random) {
        const int64_t length = first.end - first.begin, other = second.end - second.begin;
        if (length + other <= target) return;
        const int64_t kept = std::min(length, std::max(target - other, target - target / 2));
        shorten(first, kept, random);
        shorten(second, target - kept, random);
    }

    // Drops what is too much, a random part of it in front and the rest behind.
    static void shorten(Span& text, int64_t kept, Random& random) {
        const int64_t excess = text.end - text.begin - kept;
        if (excess == 0) return;
        text.begin += random.below(static_cast<uint32_t>(excess + 1));
        text.end = text.begin + kept;
    }

    void append_special(int32_t id, int64_t type) {
        ids_[size_] = id;
        types_[size_++] = type;
    }

    void append_text(const CorpusTokens& corpus, Span text, int64_t type, int level) {
        if (corpus.narrow)
            append(corpus.narrow + text.begin, corpus, text, type, level);
        else
            append(corpus.wide + text.begin, corpus, text, type, level);
    }

    template <typename Token>
    void append(const Token* tokens, const CorpusTokens& corpus, Span text, int64_t type, int level) {
        const uint8_t* boundaries = corpus.boundaries ? corpus.boundaries + text.begin : nullptr;
        const bool by_pieces = level == character_level || !boundaries;
        const size_t first_unit = units_.size();
        const int64_t length = text.end - text.begin;
        for (int64_t i = 0; i < length; ++i) {
            const auto id = static_cast<int32_t>(tokens[i]);
            if (id < 0 || id >= settings_.vocab_size)
                refuse("token " + std::to_string(text.begin + i) + " of a corpus is " + std::to_string(id) +
                       ", outside the vocabulary of " + std::to_string(settings_.vocab_size) +
                       " tokens; use the vocabulary that the corpus was built with.");
            ids_[size_ + i] = id;
            // A text begins with a head even where truncation cut into a unit: its rest is a unit of its own.
            const bool head = !settings_.continuation[id] && (by_pieces || boundaries[i]);
            if (head || i == 0)
                units_.push_back({static_cast<int32_t>(size_ + i), 0, 0, boundaries ? boundaries[i] : uint8_t{0}, false});
        }
        std::fill(types_ + size_, types_ + size_ + length, type);
        size_ += length;
        const size_t end = units_.size();
        for (size_t unit = first_unit; unit < end; ++unit) {
            units_[unit].end = unit + 1 < end ? units_[unit + 1].begin : static_cast<int32_t>(size_);
            units_[unit].run_end = static_cast<int32_t>(end);
        }
    }

    // Takes units until the budget of tokens is spent: those of the sample's level first, then n-grams of all others.
    void choose(int level, Random& random) {
        const double expected = settings_.masked_lm_prob * static_cast<double>(size_);
        budget_ = std::max<int64_t>(1, static_cast<int64_t>(std::nearbyint(expected)));
        first_drawn_ = -1;
        bool any = false;
        if (level > word_level) {
            collect([level](const Unit& unit) { return unit.boundary == level + 1; });
            any |= draw_units(false, random);
            collect([level](const Unit& unit) { return unit.boundary != level + 1; });
        } else {
            collect([](const Unit&) { return true; });
        }
        any |= draw_units(settings_.max_ngrams > 1, random);
        // Every unit is longer than the budget: a sample without labels would teach nothing.
        if (!any) units_[first_drawn_].taken = true;
    }

    template <typename Condition>
    void collect(Condition condition) {
        candidates_.clear();
        for (size_t unit = 0; unit < units_.size(); ++unit)
            if (condition(units_[unit])) candidates_.push_back(static_cast<int32_t>(unit));
    }

    bool draw_units(bool ngrams, Random& random) {
        bool any = false;
        const size_t count = candidates_.size();
        for (size_t i = 0; i < count && budget_ > 0; ++i) {
            std::swap(candidates_[i], candidates_[i + random.below(static_cast<uint32_t>(count - i))]);
            const int32_t unit = candidates_[i];
            if (first_drawn_ < 0) first_drawn_ = unit;
            if (units_[unit].taken) continue;
            const int32_t stop = std::min(unit + (ngrams ? ngram_length(random) : 1), units_[unit].run_end);
            // What does not fit any more, or was taken before, ends the n-gram.
            for (int32_t each = unit; each < stop && !units_[each].taken; ++each) {
                const int32_t tokens = units_[each].end - units_[each].begin;
                if (tokens > budget_) break;
                units_[each].taken = true;
                budget_ -= tokens;
                any = true;
            }
        }
        return any;
    }

    int32_t ngram_length(Random& random) const {
        const uint32_t word = random.next();
        int32_t n = 1;
        while (word >= maker_.ngram_thresholds_[static_cast<size_t>(n - 1)]) ++n;
        return n;
    }

    void mask(const Place& place, BatchArrays& batch, Random& random) {
        const uint64_t mask_below = threshold(settings_.mask_share);
        const uint64_t random_below = threshold(settings_.mask_share + settings_.random_share);
        const int64_t origin = place.row * batch.length + place.column;
        for (const Unit& unit : units_) {
            if (!unit.taken) continue;
            uint32_t fate = 0;
            for (int32_t column = unit.begin; column < unit.end; ++column) {
                batch.mask_positions[batch.masked] = origin + column;
                batch.labels[batch.masked++] = ids_[column];
                if (column == unit.begin || !settings_.replace_whole_units) fate = random.next();
                if (fate < mask_below)
                    ids_[column] = settings_.mask_id;
                else if (fate < random_below)
                    ids_[column] = settings_.ordinary_ids[random.below(static_cast<uint32_t>(settings_.ordinary_ids.size()))];
            }
        }
    }

    const BatchMaker& maker_;
    const MaskingSettings& settings_;
    int64_t* ids_ = nullptr;
    int64_t* types_ = nullptr;
    int64_t size_ = 0, budget_ = 0;
    int32_t first_drawn_ = -1;
    std::vector<int64_t> cuts_;
    std::vector<Unit> units_;
    std::vector<int32_t> candidates_;
};

BatchArrays BatchMaker::make(const std::vector<Request>& requests, int64_t* block) const {
    std::vector<Place> places;
    places.reserve(requests.size());
    BatchArrays batch = lay_out(requests, block, places);
    Draft draft(*this);
    for (size_t i = 0; i < requests.size(); ++i) {
        const Place& place = places[i];
        draft.write(requests[i], place, batch, batch.sentence_order_labels[i]);
        const int64_t origin = place.row * batch.length + place.column;
        batch.cls_positions[i] = origin;
        if (!settings_.pack) continue;
        for (int64_t column = 0; column < place.length; ++column) batch.position_ids[origin + column] = column;
        std::fill_n(batch.segment_ids + origin, place.length, place.segment);
    }
    return batch;
}

}  // namespace ernie
