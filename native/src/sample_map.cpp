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

// The sentences taken so far for the next sample.
struct Run {
    int64_t begin, end;
    int64_t sentences;
    int64_t target;
};

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
        int64_t filled_sentences = 0;
        Run run = open(corpus_.offsets[first], random);
        for (int64_t sentence = first; sentence < end; ++sentence) {
            const int64_t begin = corpus_.offsets[sentence];
            const int64_t stop = corpus_.offsets[sentence + 1];
            if (begin < 0 || stop > corpus_.tokens) refuse("offsets", sentence, "points outside the tokens");
            if (stop < begin) refuse("offsets", sentence + 1, "is less than the entry before it");
            if (stop == begin) continue;
            ++filled_sentences;
            if (stop - begin > settings_.window) run = cut(run, begin, stop, random);
            run.end = stop;
            ++run.sentences;
            const bool enough = !settings_.pairs || (run.sentences >= 2 && sentence + 2 != end);
            if (run.end - run.begin >= run.target && enough) {
                emit(run);
                run = open(stop, random);
            }
        }
        if (run.end > run.begin) emit(run);
        map_.empty_documents += filled_sentences == 0;
        map_.single_sentence_documents += filled_sentences == 1;
    }

  private:
    Run open(int64_t begin, Random& random) const {
        int64_t target = settings_.window;
        if (short_ != 0 && random.next() < short_) target = 2 + random.below(static_cast<uint32_t>(target - 1));
        return {begin, begin, 0, target};
    }

    void emit(const Run& run) {
        const bool pair = run.sentences >= 2;
        map_.samples.push_back(
            {run.begin, static_cast<int32_t>(run.end - run.begin), static_cast<uint16_t>(run.target), pair});
        map_.pairs += pair;
    }

    // Ends the run, cuts whole windows off the sentence, and gives the run that its rest, at least one token, begins.
    Run cut(Run run, int64_t begin, int64_t stop, Random& random) {
        if (run.end > run.begin) {
            emit(run);
            run = open(begin, random);
        }
        ++map_.cut_sentences;
        for (; stop - begin > settings_.window; begin += settings_.window)
            emit({begin, begin + settings_.window, 1, settings_.window});
        return {begin, begin, 0, run.target};
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
    Walk walk(corpus, settings, map);
    for (int64_t document = first; document < last; ++document) walk.document(document);
    return map;
}

}  // namespace ernie
