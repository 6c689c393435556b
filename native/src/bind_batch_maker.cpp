#include "batch_maker.h"
#include "bind.h"
#include "bind_arrays.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <optional>
#include <tuple>

namespace {

using namespace ernie;
using namespace nanobind::literals;
using CorpusArrays = std::tuple<AnyArray, std::optional<AnyArray>, AnyArray, uint64_t>;

CorpusTokens view(const CorpusArrays& arrays) {
    const auto& [tokens, boundaries, offsets, seed] = arrays;
    CorpusTokens corpus{};
    if (has_dtype<uint16_t>(tokens))
        corpus.tokens16 = elements<uint16_t>(tokens, "tokens");
    else
        corpus.tokens32 = elements<int32_t>(tokens, "tokens (if it is not uint16)");
    corpus.offsets = elements<int64_t>(offsets, "offsets");
    corpus.tokens = static_cast<int64_t>(tokens.size());
    corpus.sentences = static_cast<int64_t>(offsets.size()) - 1;
    corpus.seed = seed;
    if (boundaries) {
        corpus.boundaries = elements<uint8_t>(*boundaries, "boundaries");
        if (boundaries->size() != tokens.size())
            throw nb::value_error(("there are " + std::to_string(boundaries->size()) + " boundary bytes for " +
                                   std::to_string(tokens.size()) + " tokens; the corpus is damaged.")
                                      .c_str());
    }
    return corpus;
}

// A BatchMaker, and the arrays that it reads.
class Maker {
  public:
    Maker(std::vector<CorpusArrays> corpora, int32_t vocab_size, int32_t cls_id, int32_t sep_id, int32_t mask_id,
          int32_t pad_id, const AnyArray& continuation, const AnyArray& ordinary_ids, const AnyArray& levels,
          int64_t max_seq_length, double masked_lm_prob, int64_t max_ngrams, bool sentence_order, double mask_share,
          double random_share, bool replace_whole_units, int64_t pad_multiple, bool pack)
        : corpora_(std::move(corpora)), continuation_(continuation) {
        MaskingSettings settings{};
        settings.vocab_size = vocab_size;
        settings.cls_id = cls_id;
        settings.sep_id = sep_id;
        settings.mask_id = mask_id;
        settings.pad_id = pad_id;
        settings.continuation = elements<bool>(continuation, "continuation");
        if (vocab_size < 1 || continuation.size() != static_cast<size_t>(vocab_size))
            throw nb::value_error("continuation must have one entry for every token of the vocabulary.");
        const int32_t* ordinary = elements<int32_t>(ordinary_ids, "ordinary_ids");
        settings.ordinary_ids.assign(ordinary, ordinary + ordinary_ids.size());
        const double* shares = elements<double>(levels, "levels", 2);
        if (levels.shape(1) != 4)
            throw nb::value_error("levels must have four columns: character, word, phrase, entity.");
        settings.levels.assign(shares, shares + levels.size());
        settings.max_seq_length = max_seq_length;
        settings.masked_lm_prob = masked_lm_prob;
        settings.max_ngrams = max_ngrams;
        settings.sentence_order = sentence_order;
        settings.mask_share = mask_share;
        settings.random_share = random_share;
        settings.replace_whole_units = replace_whole_units;
        settings.pad_multiple = pad_multiple;
        settings.pack = pack;
        std::vector<CorpusTokens> views;
        for (const CorpusArrays& arrays : corpora_) views.push_back(view(arrays));
        maker_.emplace(std::move(views), std::move(settings));
        pack_ = pack;
    }

    size_t capacity(size_t samples) const {
        if (samples > max_samples) throw nb::value_error(too_many);
        return maker_->capacity(samples);
    }

    nb::dict make(const AnyArray& corpora, const AnyArray& rows, const AnyArray& epochs, const AnyArray& samples,
                  std::optional<nb::object> out) const {
        const std::vector<Request> requests = read(corpora, rows, epochs, samples);
        nb::object owner;
        int64_t* block;
        if (out) {
            owner = *out;
            block = borrow(owner, capacity(requests.size()));
        } else {
            // Not initialised: the batch needs only a part of it, and memory that is never written costs nothing.
            auto fresh = std::unique_ptr<int64_t[]>(new int64_t[capacity(requests.size())]);
            block = fresh.get();
            owner = nb::capsule(fresh.release(), [](void* p) noexcept { delete[] static_cast<int64_t*>(p); });
        }
        BatchArrays batch;
        {
            nb::gil_scoped_release release;
            batch = maker_->make(requests, block);
        }
        return to_dict(batch, requests.size(), owner);
    }

  private:
    static constexpr size_t max_samples = size_t{1} << 24;
    static constexpr const char* too_many = "a batch can have at most 2^24 samples; make several batches.";

    static std::vector<Request> read(const AnyArray& corpora, const AnyArray& rows, const AnyArray& epochs,
                                     const AnyArray& samples) {
        const int32_t* corpus = elements<int32_t>(corpora, "corpora");
        const int64_t* row = elements<int64_t>(rows, "rows", 2);
        const int64_t* epoch = elements<int64_t>(epochs, "epochs");
        const int64_t* sample = elements<int64_t>(samples, "samples");
        const size_t count = corpora.size();
        if (rows.shape(1) != 2 || rows.shape(0) != count || epochs.size() != count || samples.size() != count)
            throw nb::value_error("corpora [n], rows [n, 2], epochs [n] and samples [n] must all have the same n.");
        if (count > max_samples) throw nb::value_error(too_many);
        std::vector<Request> requests(count);
        for (size_t i = 0; i < count; ++i) {
            requests[i].corpus = corpus[i];
            std::memcpy(&requests[i].row, row + 2 * i, sizeof(Sample));
            requests[i].epoch = epoch[i];
            requests[i].sample = sample[i];
        }
        return requests;
    }

    static int64_t* borrow(const nb::object& out, size_t capacity) {
        nb::ndarray<> array;
        if (!nb::try_cast(out, array, false)) throw nb::type_error("out must be a writable int64 array.");
        const int64_t* data = elements<int64_t>(nb::cast<AnyArray>(out), "out");
        if (array.size() < capacity)
            throw nb::value_error(
                ("out has " + std::to_string(array.size()) + " entries; this batch needs capacity() = " +
                 std::to_string(capacity) + ".")
                    .c_str());
        return const_cast<int64_t*>(data);
    }

    nb::dict to_dict(const BatchArrays& batch, size_t samples, const nb::object& owner) const {
        nb::dict arrays;
        const auto add = [&](const char* name, int64_t* data, std::initializer_list<size_t> shape) {
            arrays[name] = numpy_object(nb::ndarray<nb::numpy, int64_t>(data, shape, owner));
        };
        const auto rows = static_cast<size_t>(batch.rows), length = static_cast<size_t>(batch.length);
        const auto masked = static_cast<size_t>(batch.masked);
        add("input_ids", batch.input_ids, {rows, length});
        add("token_type_ids", batch.token_type_ids, {rows, length});
        if (pack_) {
            add("position_ids", batch.position_ids, {rows, length});
            add("segment_ids", batch.segment_ids, {rows, length});
        }
        add("lengths", batch.lengths, {rows});
        add("cls_positions", batch.cls_positions, {samples});
        add("sentence_order_labels", batch.sentence_order_labels, {samples});
        add("mask_positions", batch.mask_positions, {masked});
        add("labels", batch.labels, {masked});
        return arrays;
    }

    std::vector<CorpusArrays> corpora_;
    AnyArray continuation_;
    std::optional<BatchMaker> maker_;
    bool pack_ = false;
};

}  // namespace

void bind_batch_maker(nb::module_& m) {
    nb::class_<Maker>(m, "BatchMaker", "Makes batches for masked-LM pretraining from corpora in memory.")
        .def(nb::init<std::vector<CorpusArrays>, int32_t, int32_t, int32_t, int32_t, int32_t, const AnyArray&,
                      const AnyArray&, const AnyArray&, int64_t, double, int64_t, bool, double, double, bool, int64_t,
                      bool>(),
             "corpora"_a, nb::kw_only(), "vocab_size"_a, "cls_id"_a, "sep_id"_a, "mask_id"_a, "pad_id"_a,
             "continuation"_a, "ordinary_ids"_a, "levels"_a, "max_seq_length"_a, "masked_lm_prob"_a, "max_ngrams"_a,
             "sentence_order"_a, "mask_share"_a, "random_share"_a, "replace_whole_units"_a, "pad_multiple"_a, "pack"_a)
        .def("capacity", &Maker::capacity, "samples"_a,
             "int64 entries that `out` needs for a batch of `samples` samples.")
        .def("make", &Maker::make, "corpora"_a, "rows"_a, "epochs"_a, "samples"_a, "out"_a = nb::none(),
             "One batch, as a dict of int64 arrays.");
}
