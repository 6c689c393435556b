// The one-epoch sample map: which run of sentences makes which sample.
#pragma once
#include <cstdint>
#include <vector>

namespace ernie {

// One sample, 16 bytes: the tokens [begin, begin + length) of the corpus, whole sentences of one document, of which
// `target` are kept when the batch is made. The sentences' ends are found again in the corpus's offsets.
struct Sample {
    int64_t begin;
    int32_t length;
    uint16_t target;
    uint16_t pair;  // 1: a sentence ends inside, so that it can be cut into a sentence-order pair; 0: masked LM only
};
static_assert(sizeof(Sample) == 16);

struct SampleMapSettings {
    int64_t window;         // tokens of text a sample holds, special tokens left out: 2 … 65535
    double short_seq_prob;  // share of the samples with a shorter target, uniform in [2, window]
    bool pairs;             // samples of at least two sentences where the document has them
    uint64_t seed;
};

struct SampleMap {
    std::vector<Sample> samples;
    int64_t empty_documents = 0;
    int64_t single_sentence_documents = 0;
    int64_t cut_sentences = 0;  // longer than the window
    int64_t pairs = 0;          // samples that can be cut into a pair
};

struct CorpusIndex {
    const int64_t* offsets;    // [sentences + 1], in tokens
    int64_t sentences;
    const int64_t* documents;  // [document_count + 1], in sentences
    int64_t document_count;
    int64_t tokens;
};

// Walks the documents first … last - 1. Throws std::invalid_argument where the index is not in order.
//
// A sample takes sentences until it holds its target, and, where pairs are wanted, at least two, and does not leave a single
// sentence of the document behind. A sentence longer than the window ends the sample before it and is cut into windows,
// each a sample of its own; what remains of it begins the next one. Draws are keyed by (seed, document).
SampleMap build_sample_map(const CorpusIndex& corpus, int64_t first, int64_t last, const SampleMapSettings& settings);

}  // namespace ernie
