#include "batch_maker.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "sample_writer.h"

namespace ernie {
namespace {

[[noreturn]] void refuse(const std::string& message) { throw std::invalid_argument(message); }

MaskingSettings checked(MaskingSettings settings) {
    check(settings);
    return settings;
}

void check(const CorpusTokens& corpus, size_t index) {
    if (corpus.sentences < 0 || corpus.offsets[0] < 0 || corpus.offsets[corpus.sentences] > corpus.tokens)
        refuse("the offsets of corpus " + std::to_string(index) + " point outside its tokens; its index is damaged.");
}

}  // namespace

// Where a sample is in the batch. `segment` is its number in the row, from 1.
struct BatchMaker::Placement {
    int64_t row, column, length, segment;
};

BatchMaker::BatchMaker(std::vector<CorpusTokens> corpora, MaskingSettings settings)
    : corpora_(std::move(corpora)), settings_(checked(std::move(settings))), draws_(settings_) {
    for (size_t i = 0; i < corpora_.size(); ++i) check(corpora_[i], i);
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
               std::to_string(corpora_.size()) + ", counted from 0.");
    const CorpusTokens& corpus = corpora_[static_cast<size_t>(request.corpus)];
    if (row.begin < 0 || row.length < 1 || row.begin > corpus.tokens - row.length)
        refuse(where() + "has " + std::to_string(row.length) + " tokens from token " + std::to_string(row.begin) +
               ", but corpus " + std::to_string(request.corpus) + " has " + std::to_string(corpus.tokens) +
               " tokens; use the sample map of this corpus.");
    if (request.epoch < 0 || request.epoch > int64_t{0xFFFFFFFF} || request.sample < 0)
        refuse(where() + "has epoch " + std::to_string(request.epoch) + " and sample number " +
               std::to_string(request.sample) + "; both must be at least 0, and the epoch at most 2^32 - 1.");
    const int64_t specials = settings_.sentence_order && row.pair ? 3 : 2;
    const int64_t kept = std::min<int64_t>(row.length, row.target);
    if (row.pair > 1 || row.target < specials - 1 || kept + specials > settings_.max_seq_length)
        refuse(where() + "keeps " + std::to_string(row.target) + " tokens and " + std::to_string(specials) +
               " special ones, which max_seq_length " + std::to_string(settings_.max_seq_length) +
               " does not allow; build the sample map for this length.");
    return kept + specials;
}

BatchArrays BatchMaker::lay_out(
    const std::vector<Request>& requests, int64_t* block, std::vector<Placement>& placements) const {
    std::vector<int64_t> lengths, segments;
    int64_t longest = 1;
    for (size_t i = 0; i < requests.size(); ++i) {
        const int64_t length = checked_length(requests[i], i);
        size_t row = settings_.pack ? 0 : lengths.size();
        // First fit: the first row with enough space, otherwise a new row.
        while (row < lengths.size() && lengths[row] + length > settings_.max_seq_length) ++row;
        if (row == lengths.size()) {
            lengths.push_back(0);
            segments.push_back(0);
        }
        placements.push_back({static_cast<int64_t>(row), lengths[row], length, ++segments[row]});
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

BatchArrays BatchMaker::make(const std::vector<Request>& requests, int64_t* block) const {
    std::vector<Placement> placements;
    placements.reserve(requests.size());
    BatchArrays batch = lay_out(requests, block, placements);
    SampleWriter writer(settings_, draws_);
    for (size_t i = 0; i < requests.size(); ++i) {
        const Placement& placement = placements[i];
        const int64_t origin = placement.row * batch.length + placement.column;
        const CorpusTokens& corpus = corpora_[static_cast<size_t>(requests[i].corpus)];
        batch.sentence_order_labels[i] = writer.write(corpus, requests[i], origin, batch);
        batch.cls_positions[i] = origin;
        if (!settings_.pack) continue;
        for (int64_t column = 0; column < placement.length; ++column) batch.position_ids[origin + column] = column;
        std::fill_n(batch.segment_ids + origin, placement.length, placement.segment);
    }
    return batch;
}

}  // namespace ernie
