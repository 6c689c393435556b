// The sample map of one epoch: the sentences of every sample.
#pragma once
#include <cstdint>
#include <vector>

namespace ernie {

// One sample, 16 bytes: the tokens [begin, begin + length) of the corpus, which are whole sentences of one document or
// a part of a long sentence. A batch keeps at most `target` of them. The ends of the sentences are in the corpus's
// offsets.
struct Sample {
    int64_t begin;
    int32_t length;
    uint16_t target;
    uint16_t pair;  // 1: a sentence ends inside, so it can be cut into a sentence-order pair; 0: masked LM only
};
static_assert(sizeof(Sample) == 16);

struct SampleMapSettings {
    int64_t window;         // largest target, in tokens without special tokens: 2 … 65535
    double short_seq_prob;  // share of the samples whose target is drawn uniformly from 2 … window
    bool pairs;             // take at least two sentences if the document has them
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

// The samples of the documents first … last - 1. Throws std::invalid_argument if the index is not in ascending order.
//
// A sample takes sentences until it has `target` tokens. With `pairs` it takes at least two sentences, and it takes the
// last sentence of the document too if that would be left alone. A sentence longer than the window ends the sample
// before it and is cut into windows, each of which is a sample; the rest of the sentence begins the next sample. Random
// draws are keyed by (seed, document).
SampleMap build_sample_map(const CorpusIndex& corpus, int64_t first, int64_t last, const SampleMapSettings& settings);

}  // namespace ernie
