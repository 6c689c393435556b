#include "sample_map.h"

#include <stdexcept>
#include <string>

#include "random.h"

namespace ernie {
namespace {

void check(const CorpusIndex& corpus, int64_t first, int64_t last, const SampleMapSettings& settings) {
    if (settings.window < 2 || settings.window > 65535)
        throw std::invalid_argument("a sample's window lies between 2 and 65535 tokens of text, not at " +
                                    std::to_string(settings.window) + ".");
    if (!(settings.short_seq_prob >= 0 && settings.short_seq_prob <= 1))
        throw std::invalid_argument("short_seq_prob lies between 0 and 1, not at " +
                                    std::to_string(settings.short_seq_prob) + ".");
    if (first < 0 || first > last || last > corpus.document_count)
        throw std::invalid_argument("documents " + std::to_string(first) + " to " + std::to_string(last) +
                                    " are no range of a corpus of " + std::to_string(corpus.document_count) +
                                    " documents.");
}

[[noreturn]] void refuse(const char* array, int64_t index, const char* reason) {
    throw std::invalid_argument(std::string(array) + "[" + std::to_string(index) + "] " + reason +
                                "; the corpus index is damaged.");
}

// The documents are walked one by one; what is carried between the sentences of one is held here.
class Walk {
  public:
    Walk(const CorpusIndex& corpus, const SampleMapSettings& settings, SampleMap& map)
        : corpus_(corpus), settings_(settings), short_(threshold(settings.short_seq_prob)), map_(map) {}

    void document(int64_t document) {
        const int64_t first = corpus_.documents[document];
        const int64_t end = corpus_.documents[document + 1];
        if (first < 0 || end > corpus_.sentences) refuse("documents", document, "points outside the sentences");
        if (end < first) refuse("documents", document + 1, "is less than the entry before it");
        Random random(settings_.seed, Stream::sample_map, 0, static_cast<uint64_t>(document));
        const size_t samples_before = map_.samples.size();
        int64_t filled_sentences = 0;
        open(corpus_.offsets[first], random);
        for (int64_t sentence = first; sentence < end; ++sentence) {
            const int64_t begin = corpus_.offsets[sentence];
            const int64_t stop = corpus_.offsets[sentence + 1];
            if (begin < 0 || stop > corpus_.tokens) refuse("offsets", sentence, "points outside the tokens");
            if (stop < begin) refuse("offsets", sentence + 1, "is less than the entry before it");
            if (stop == begin) continue;
            ++filled_sentences;
            if (stop - begin > settings_.window) {
                cut(begin, stop, random);
            } else {
                end_ = stop;
                ++taken_;
            }
            const bool enough = !settings_.pairs || (taken_ >= 2 && sentence + 2 != end);
            if (end_ - begin_ >= target_ && enough) close(random);
        }
        if (end_ > begin_) emit();
        map_.empty_documents += map_.samples.size() == samples_before;
        map_.single_sentence_documents += filled_sentences == 1;
    }

  private:
    void open(int64_t begin, Random& random) {
        begin_ = end_ = begin;
        taken_ = 0;
        target_ = settings_.window;
        if (short_ != 0 && random.next() < short_) target_ = 2 + random.below(static_cast<uint32_t>(settings_.window - 1));
    }

    void close(Random& random) {
        emit();
        open(end_, random);
    }

    void emit() {
        const bool pair = taken_ >= 2;
        map_.samples.push_back({begin_, static_cast<int32_t>(end_ - begin_), static_cast<uint16_t>(target_), pair});
        map_.pairs += pair;
    }

    // The rest, at least one token, begins the next run and counts as a sentence of it.
    void cut(int64_t begin, int64_t stop, Random& random) {
        if (end_ > begin_) close(random);
        ++map_.cut_sentences;
        for (; stop - begin > settings_.window; begin += settings_.window)
            map_.samples.push_back(
                {begin, static_cast<int32_t>(settings_.window), static_cast<uint16_t>(settings_.window), 0});
        begin_ = begin;
        end_ = stop;
        taken_ = 1;
    }

    const CorpusIndex& corpus_;
    const SampleMapSettings& settings_;
    const uint64_t short_;
    SampleMap& map_;
    int64_t begin_ = 0, end_ = 0, taken_ = 0, target_ = 0;
};

}  // namespace

SampleMap build_sample_map(const CorpusIndex& corpus, int64_t first, int64_t last, const SampleMapSettings& settings) {
    check(corpus, first, last, settings);
    SampleMap map;
    Walk walk(corpus, settings, map);
    for (int64_t document = first; document < last; ++document) walk.document(document);
    return map;
}

}  // namespace ernie
