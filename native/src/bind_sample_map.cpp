#include "bind.h"
#include "bind_arrays.h"
#include "blending.h"
#include "permutation.h"
#include "sample_map.h"

#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

namespace {

using namespace ernie;
using namespace nanobind::literals;

void require(bool condition, const char* message) {
    if (!condition) throw nb::value_error(message);
}

nb::tuple build(const AnyArray& offsets, const AnyArray& documents, int64_t tokens, int64_t first, int64_t last,
                int64_t window, double short_seq_prob, bool pairs, uint64_t seed) {
    const CorpusIndex corpus{elements<int64_t>(offsets, "offsets"), static_cast<int64_t>(offsets.size()) - 1,
                             elements<int64_t>(documents, "documents"), static_cast<int64_t>(documents.size()) - 1,
                             tokens};
    require(corpus.sentences >= 0 && corpus.document_count >= 0,
            "offsets and documents must have at least one entry each.");
    SampleMap map;
    {
        nb::gil_scoped_release release;
        map = build_sample_map(corpus, first, last, {window, short_seq_prob, pairs, seed});
    }
    nb::dict counts;
    counts["samples"] = map.samples.size();
    counts["pairs"] = map.pairs;
    counts["empty_documents"] = map.empty_documents;
    counts["single_sentence_documents"] = map.single_sentence_documents;
    counts["cut_sentences"] = map.cut_sentences;
    auto owner = std::make_unique<std::vector<Sample>>(std::move(map.samples));
    auto* data = reinterpret_cast<int64_t*>(owner->data());
    const size_t size = owner->size();
    nb::capsule capsule(owner.release(), [](void* p) noexcept { delete static_cast<std::vector<Sample>*>(p); });
    return nb::make_tuple(numpy_object(nb::ndarray<nb::numpy, int64_t>(data, {size, 2}, capsule)), counts);
}

nb::tuple permute(const AnyArray& positions, int64_t size, uint64_t seed) {
    const int64_t* values = elements<int64_t>(positions, "positions");
    require(size >= 1 && size <= (int64_t{1} << 62), "size must be between 1 and 2^62.");
    std::vector<int64_t> epochs(positions.size()), rows(positions.size());
    {
        nb::gil_scoped_release release;
        for (size_t i = 0; i < rows.size(); ++i) {
            require(values[i] >= 0, "positions must be at least 0.");
            epochs[i] = values[i] / size;
            rows[i] = values[i] - epochs[i] * size;
            require(epochs[i] <= int64_t{0xFFFFFFFF}, "a position is in an epoch above 2^32 - 1.");
        }
        // Neighbouring positions are mostly of one epoch and share its permutation.
        for (size_t first = 0, end; first < rows.size(); first = end) {
            for (end = first; end < rows.size() && epochs[end] == epochs[first];) ++end;
            Permutation(size, seed, static_cast<uint32_t>(epochs[first])).apply(rows.data() + first, end - first);
        }
    }
    return nb::make_tuple(to_numpy(std::move(epochs)), to_numpy(std::move(rows)));
}

nb::tuple blend(const Blending& blending, const AnyArray& positions) {
    const int64_t* values = elements<int64_t>(positions, "positions");
    std::vector<int32_t> corpora(positions.size());
    std::vector<int64_t> indices(positions.size());
    {
        nb::gil_scoped_release release;
        for (size_t i = 0; i < indices.size(); ++i) {
            require(values[i] >= 0, "positions must be at least 0.");
            blending.at(values[i], corpora[i], indices[i]);
        }
    }
    return nb::make_tuple(to_numpy(std::move(corpora)), to_numpy(std::move(indices)));
}

}  // namespace

void bind_sample_map(nb::module_& m) {
    m.def("philox4x32", [](Block counter, std::array<uint32_t, 2> key) { return philox4x32(counter, key); },
          "counter"_a, "key"_a, "One block of Philox4x32-10.");
    m.def("build_sample_map", &build, "offsets"_a, "documents"_a, nb::kw_only(), "tokens"_a, "first"_a, "last"_a,
          "window"_a, "short_seq_prob"_a, "pairs"_a, "seed"_a,
          "The samples of one epoch, and counts of special cases.");
    m.def("permute", &permute, "positions"_a, nb::kw_only(), "size"_a, "seed"_a,
          "The epoch and the row at each position of an endless run over `size` rows.");
    nb::class_<Blending>(m, "Blending", "Weighted mixing of several corpora with random access.")
        .def(nb::init<std::vector<int64_t>>(), "weights"_a)
        .def_prop_ro("period", &Blending::period)
        .def("at", &blend, "positions"_a,
             "The corpus at each position, and the number of its samples at earlier positions.");
    m.attr("MAX_BLENDING_PERIOD") = Blending::max_period;
}
