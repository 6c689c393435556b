#include "sample_map.h"

#include <stdexcept>
#include <string>

#include "random.h"

namespace ernie {
namespace {

void check(const CorpusIndex& corpus, int64_t first, int64_t last, const SampleMapSettings& settings) {
    if (settings.window < 2 || settings.window > 65535)
        throw std::invalid_argument("a sample's window must be between 2 and 65535 tokens of text, not " +
                                    std::to_string(settings.window) + ".");
    if (!(settings.short_seq_prob >= 0 && settings.short_seq_prob <= 1))
        throw std::invalid_argument("short_seq_prob must be between 0 and 1, not " +
                                    std::to_string(settings.short_seq_prob) + ".");
    if (first < 0 || first > last || last > corpus.document_count)
        throw std::invalid_argument("documents " + std::to_string(first) + " to " + std::to_string(last) +
                                    " are not a range of a corpus of " + std::to_string(corpus.document_count) +
                                    " documents.");
}

[[noreturn]] void refuse(const char* array, int64_t index, const char* reason) {
    throw std::invalid_argument(std::string(array) + "[" + std::to_string(index) + "] " + reason +
                                "; the corpus index is damaged.");
}

// A sample that is still taking sentences.
struct OpenSample {
    int64_t begin, end;
    int64_t sentences;
    int64_t target;
};

// Adds the samples of documents to a map.
class SampleMapBuilder {
  public:
    SampleMapBuilder(const CorpusIndex& corpus, const SampleMapSettings& settings, SampleMap& map)
        : corpus_(corpus), settings_(settings), short_(threshold(settings.short_seq_prob)), map_(map) {}

    void add(int64_t document) {
        const int64_t first = corpus_.documents[document];
        const int64_t end = corpus_.documents[document + 1];
        if (first < 0 || end > corpus_.sentences) refuse("documents", document, "points outside the sentences");
        if (end < first) refuse("documents", document + 1, "is less than the entry before it");
        Random random(settings_.seed, Stream::sample_map, 0, static_cast<uint64_t>(document));
        int64_t sentences = 0;  // without empty ones
        OpenSample sample = open(corpus_.offsets[first], random);
        for (int64_t sentence = first; sentence < end; ++sentence) {
            const int64_t begin = corpus_.offsets[sentence];
            const int64_t stop = corpus_.offsets[sentence + 1];
            if (begin < 0 || stop > corpus_.tokens) refuse("offsets", sentence, "points outside the tokens");
            if (stop < begin) refuse("offsets", sentence + 1, "is less than the entry before it");
            if (stop == begin) continue;
            ++sentences;
            if (stop - begin > settings_.window) sample = cut(sample, begin, stop, random);
            sample.end = stop;
            ++sample.sentences;
            const bool enough = !settings_.pairs || (sample.sentences >= 2 && sentence + 2 != end);
            if (sample.end - sample.begin >= sample.target && enough) {
                emit(sample);
                sample = open(stop, random);
            }
        }
        if (sample.end > sample.begin) emit(sample);
        map_.empty_documents += sentences == 0;
        map_.single_sentence_documents += sentences == 1;
    }

  private:
    OpenSample open(int64_t begin, Random& random) const {
        int64_t target = settings_.window;
        if (short_ != 0 && random.next() < short_) target = 2 + random.below(static_cast<uint32_t>(target - 1));
        return {begin, begin, 0, target};
    }

    void emit(const OpenSample& sample) {
        const bool pair = sample.sentences >= 2;
        const auto length = static_cast<int32_t>(sample.end - sample.begin);
        map_.samples.push_back({sample.begin, length, static_cast<uint16_t>(sample.target), pair});
        map_.pairs += pair;
    }

    // Emits the open sample and a sample for each whole window of the long sentence [begin, stop). Returns the sample
    // that begins with the rest of the sentence, which has at least one token.
    OpenSample cut(OpenSample sample, int64_t begin, int64_t stop, Random& random) {
        if (sample.end > sample.begin) {
            emit(sample);
            sample = open(begin, random);
        }
        ++map_.cut_sentences;
        for (; stop - begin > settings_.window; begin += settings_.window)
            emit({begin, begin + settings_.window, 1, settings_.window});
        return {begin, begin, 0, sample.target};
    }

    const CorpusIndex corpus_;
    const SampleMapSettings settings_;
    const uint64_t short_;
    SampleMap& map_;
};

}  // namespace

SampleMap build_sample_map(const CorpusIndex& corpus, int64_t first, int64_t last, const SampleMapSettings& settings) {
    check(corpus, first, last, settings);
    SampleMap map;
    SampleMapBuilder builder(corpus, settings, map);
    for (int64_t document = first; document < last; ++document) builder.add(document);
    return map;
}

}  // namespace ernie
