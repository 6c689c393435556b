// Python bindings of the tokenizer. It reads text in Python's own memory, without a copy, and releases the GIL.
#include "bind.h"
#include "bind_arrays.h"
#include "encoding.h"
#include "tokenizer.h"
#include "unicode.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <utility>

namespace nb = nanobind;
using namespace nb::literals;
using namespace ernie;

namespace {

// Characters; for shorter texts, releasing the GIL and taking it back costs more than it gains.
constexpr std::size_t kWorthReleasing = 1000;

[[noreturn]] void wrong_type(const std::string& what, const char* wanted, nb::handle given) {
    throw nb::type_error((what + " must be " + wanted + ", not " + Py_TYPE(given.ptr())->tp_name + ".").c_str());
}

// Valid as long as `given` lives; the characters of a str never change.
Text text_of(nb::handle given, const char* name, std::size_t index = 0, bool numbered = false) {
    if (!PyUnicode_Check(given.ptr()))
        wrong_type(name + (numbered ? "[" + std::to_string(index) + "]" : ""), "a str", given);
#if PY_VERSION_HEX < 0x030C0000
    if (PyUnicode_READY(given.ptr()) != 0) throw nb::python_error();
#endif
    const auto length = static_cast<std::size_t>(PyUnicode_GET_LENGTH(given.ptr()));
    if (length >= std::numeric_limits<std::int32_t>::max())
        throw std::invalid_argument(std::string(name) + " has 2^31 - 1 characters or more; split it.");
    return {PyUnicode_DATA(given.ptr()), length, static_cast<int>(PyUnicode_KIND(given.ptr()))};
}

// Views of the strings in a sequence, and the references that keep the strings alive while the GIL is released.
struct Texts {
    nb::object held;
    std::vector<Text> views;
    std::size_t characters = 0;

    Texts() = default;
    Texts(nb::handle sequence, const char* name) {
        if (PyUnicode_Check(sequence.ptr()) || !PySequence_Check(sequence.ptr()))
            wrong_type(name, "a list of str", sequence);
        held = nb::steal(PySequence_Tuple(sequence.ptr()));
        if (!held.is_valid()) throw nb::python_error();
        const auto count = static_cast<std::size_t>(PyTuple_GET_SIZE(held.ptr()));
        views.reserve(count);
        for (std::size_t index = 0; index < count; ++index) {
            views.push_back(text_of(PyTuple_GET_ITEM(held.ptr(), index), name, index, true));
            characters += views.back().length;
        }
    }
};

std::u32string u32_of(nb::handle given, const char* name, std::size_t index) {
    const Text text = text_of(given, name, index, true);
    std::u32string characters(text.length, 0);
    for (std::size_t position = 0; position < text.length; ++position)
        characters[position] = PyUnicode_READ(text.width, text.characters, position);
    return characters;
}

nb::str str_of(const std::u32string& characters) {
    return nb::steal<nb::str>(
        PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, characters.data(), static_cast<Py_ssize_t>(characters.size())));
}

// Releases the GIL while an instance lives, if the work is long enough.
class ReleasedGil {
public:
    explicit ReleasedGil(std::size_t characters) {
        if (characters >= kWorthReleasing) released_.emplace();
    }

private:
    std::optional<nb::gil_scoped_release> released_;
};

// Zeros [rows, columns]. If there is not enough memory, Python gets a MemoryError.
template <class Value> nb::ndarray<nb::numpy, Value, nb::ndim<2>> zeros(std::size_t rows, std::size_t columns) {
    if (columns > (std::size_t{1} << 40) / std::max<std::size_t>(rows, 1)) throw std::bad_alloc();
    void* data = std::calloc(std::max<std::size_t>(rows * columns, 1), sizeof(Value));
    if (!data) throw std::bad_alloc();
    nb::capsule owner(data, [](void* memory) noexcept { std::free(memory); });
    return {static_cast<Value*>(data), {rows, columns}, owner};
}

Rules rules_named(const std::string& name) {
    if (name == "bert") return Rules::kBert;
    if (name == "paddlenlp") return Rules::kPaddleNlp;
    throw std::invalid_argument("rules must be bert or paddlenlp, not '" + name + "'.");
}

const char* name_of(Rules rules) { return rules == Rules::kBert ? "bert" : "paddlenlp"; }

Specials specials_named(const std::string& name) {
    if (name == "none") return Specials::kNone;
    if (name == "mask") return Specials::kMask;
    if (name == "all") return Specials::kAll;
    throw std::invalid_argument("special_tokens must be none, mask or all, not '" + name + "'.");
}

ErnieTokenizer make(nb::handle tokens, const Options& options) {
    const Texts given(tokens, "tokens");
    std::vector<std::u32string> entries;
    entries.reserve(given.views.size());
    for (std::size_t index = 0; index < given.views.size(); ++index)
        entries.push_back(u32_of(PyTuple_GET_ITEM(given.held.ptr(), index), "tokens", index));
    return ErnieTokenizer(std::move(entries), options);
}

// Python code reads the file. Errors of the tokens themselves get the name of the file here.
ErnieTokenizer make_from_file(nb::handle path, const Options& options) {
    nb::object vocabulary = nb::module_::import_("native.vocabulary").attr("read_vocabulary")(path);
    try {
        ErnieTokenizer tokenizer = make(vocabulary.attr("tokens"), options);
        tokenizer.missing_final_newline = nb::cast<bool>(vocabulary.attr("missing_final_newline"));
        return tokenizer;
    } catch (const std::invalid_argument& error) {
        throw std::invalid_argument(std::string(nb::str(path).c_str()) + ": " + error.what());
    }
}

Options options_of(
    bool lower_case, std::optional<bool> strip_accents, bool split_cjk, const std::string& rules, bool fold_width) {
    return {lower_case, strip_accents.value_or(lower_case), split_cjk, rules_named(rules), fold_width};
}

Limits limits_of(
    bool add_special_tokens, const std::string& specials, std::optional<std::int64_t> max_length,
    const std::string& truncation) {
    return {add_special_tokens, specials_named(specials), max_length, truncation_named(truncation)};
}

struct PaddedBatch {
    nb::object input_ids, token_type_ids, attention_mask, lengths, full_lengths;
};

template <class Id> PaddedBatch pad(const ErnieTokenizer& tokenizer, const Batch& batch, std::size_t width) {
    const std::size_t rows = batch.layouts.size();
    auto ids = zeros<Id>(rows, width), types = zeros<Id>(rows, width), mask = zeros<Id>(rows, width);
    {
        const ReleasedGil released(rows * width);
        fill(tokenizer, batch, width, ids.data(), types.data(), mask.data());
    }
    std::vector<std::int64_t> lengths, full_lengths;
    for (const Layout& layout : batch.layouts) {
        lengths.push_back(static_cast<std::int64_t>(layout.length()));
        full_lengths.push_back(static_cast<std::int64_t>(layout.full_length));
    }
    return {numpy_object(ids), numpy_object(types), numpy_object(mask), to_numpy(std::move(lengths)),
            to_numpy(std::move(full_lengths))};
}

std::size_t width_of(
    const Batch& batch, const std::string& padding, std::optional<std::int64_t> max_length,
    std::optional<std::int64_t> multiple) {
    if (padding != "longest" && padding != "max_length")
        throw std::invalid_argument("padding must be longest or max_length, not '" + padding + "'.");
    if (padding == "max_length" && !max_length)
        throw std::invalid_argument("padding is max_length, but max_length is not given; give it.");
    if (multiple && (*multiple < 1 || *multiple > 1 << 20))
        throw std::invalid_argument(
            "pad_to_multiple_of must be between 1 and 1048576, not " + std::to_string(*multiple) + ".");
    std::size_t width = batch.longest;
    if (padding == "max_length") width = std::max(width, static_cast<std::size_t>(*max_length));
    const auto step = static_cast<std::size_t>(multiple.value_or(1));
    return (width + step - 1) / step * step;
}

PaddedBatch encode_padded(
    const ErnieTokenizer& tokenizer, nb::handle texts, nb::handle pairs, const Limits& limits,
    const std::string& padding, std::optional<std::int64_t> multiple, nb::handle dtype) {
    const Texts firsts(texts, "texts");
    const Texts seconds = pairs.is_none() ? Texts() : Texts(pairs, "pairs");
    if (!pairs.is_none() && seconds.views.size() != firsts.views.size())
        throw std::invalid_argument("there are " + std::to_string(firsts.views.size()) + " texts, but " +
                                    std::to_string(seconds.views.size()) + " pairs; give one pair for each text.");
    const std::string type = nb::str(nb::module_::import_("numpy").attr("dtype")(dtype).attr("name")).c_str();
    if (type != "int64" && type != "int32")
        throw std::invalid_argument("dtype must be int64 or int32, not " + type + ".");
    Batch batch;
    {
        const ReleasedGil released(firsts.characters + seconds.characters);
        batch = encode_batch(tokenizer, firsts.views, seconds.views, limits);
    }
    const std::size_t width = width_of(batch, padding, limits.max_length, multiple);
    if (tokenizer.pad == ErnieTokenizer::kNone)
        for (const Layout& layout : batch.layouts)
            if (layout.length() < width)
                throw std::invalid_argument("the vocabulary has no [PAD] to pad rows with; add it.");
    return type == "int64" ? pad<std::int64_t>(tokenizer, batch, width) : pad<std::int32_t>(tokenizer, batch, width);
}

// A list of the results of `value`, which returns a new reference, for each token of the row.
template <class Value> nb::object column(const Encoding& encoding, Value value) {
    nb::object list = nb::steal(PyList_New(static_cast<Py_ssize_t>(encoding.layout.length())));
    if (!list.is_valid()) throw nb::python_error();
    Py_ssize_t index = 0;
    encoding.each([&](auto... token) {
        PyObject* made = value(token...);
        if (!made) throw nb::python_error();
        PyList_SET_ITEM(list.ptr(), index++, made);
    });
    return list;
}

nb::object none_or(std::int32_t id) { return id == ErnieTokenizer::kNone ? nb::none() : nb::object(nb::int_(id)); }

void bind_encoding(nb::module_& m) {
    nb::class_<Encoding>(m, "Encoding")
        .def_prop_ro("ids", [](const Encoding& self) {
            return column(self, [](int id, int, int, int, bool) { return PyLong_FromLong(id); });
        })
        .def_prop_ro("token_type_ids", [](const Encoding& self) {
            return column(self, [](int, int, int, int type, bool) { return PyLong_FromLong(type); });
        })
        .def_prop_ro("offsets", [](const Encoding& self) {
            return column(self, [](int, int start, int end, int, bool) { return Py_BuildValue("(ii)", start, end); });
        })
        .def_prop_ro("special_tokens_mask", [](const Encoding& self) {
            return column(self, [](int, int, int, int, bool added) { return PyLong_FromLong(added); });
        })
        .def_prop_ro("full_length", [](const Encoding& self) { return self.layout.full_length; })
        .def_prop_ro("overflow", [](const Encoding& self) { return self.layout.full_length - self.layout.length(); })
        .def_prop_ro("truncated", [](const Encoding& self) { return self.layout.full_length > self.layout.length(); })
        .def_prop_ro("unknown", &unknown_tokens)
        .def_prop_ro("text_lengths", [](const Encoding& self) {
            return nb::make_tuple(self.first, self.tokens.size() - self.first);
        })
        .def("__len__", [](const Encoding& self) { return self.layout.length(); });
    nb::class_<PaddedBatch>(m, "PaddedBatch")
        .def_ro("input_ids", &PaddedBatch::input_ids)
        .def_ro("token_type_ids", &PaddedBatch::token_type_ids)
        .def_ro("attention_mask", &PaddedBatch::attention_mask)
        .def_ro("lengths", &PaddedBatch::lengths)
        .def_ro("full_lengths", &PaddedBatch::full_lengths);
}

nb::list tokens_of(const ErnieTokenizer& self) {
    nb::list tokens;
    for (const auto& token : self.tokens()) tokens.append(str_of(token));
    return tokens;
}

using State = std::tuple<nb::list, bool, bool, bool, std::string, bool, bool>;

State state_of(const ErnieTokenizer& self) {
    const Options& options = self.options();
    return {tokens_of(self),        options.lower_case, options.strip_accents,       options.split_cjk,
            name_of(options.rules), options.fold_width, self.missing_final_newline};
}

void restore(ErnieTokenizer& self, const State& state) {
    const auto& [tokens, lower_case, strip_accents, split_cjk, rules, fold_width, missing_final_newline] = state;
    new (&self) ErnieTokenizer(make(tokens, options_of(lower_case, strip_accents, split_cjk, rules, fold_width)));
    self.missing_final_newline = missing_final_newline;
}

}  // namespace

void bind_tokenizer(nb::module_& m) {
    m.def("unicode_version", [] { return std::string(unicode::version()); });
    bind_encoding(m);
    nb::class_<ErnieTokenizer>(m, "ErnieTokenizer")
        .def("__init__",
             [](ErnieTokenizer* self, nb::handle tokens, bool lower, std::optional<bool> strip, bool split,
                const std::string& rules, bool fold) {
                 new (self) ErnieTokenizer(make(tokens, options_of(lower, strip, split, rules, fold)));
             },
             "tokens"_a, nb::kw_only(), "lower_case"_a = true, "strip_accents"_a = nb::none(), "split_cjk"_a = true,
             "rules"_a = "bert", "fold_width"_a = false)
        .def_static("from_file",
             [](nb::handle path, bool lower, std::optional<bool> strip, bool split, const std::string& rules,
                bool fold) { return make_from_file(path, options_of(lower, strip, split, rules, fold)); },
             "path"_a, nb::kw_only(), "lower_case"_a = true, "strip_accents"_a = nb::none(), "split_cjk"_a = true,
             "rules"_a = "bert", "fold_width"_a = false)
        .def("encode",
             [](const ErnieTokenizer& self, nb::handle text, nb::handle pair, bool special,
                const std::string& specials, std::optional<std::int64_t> max_length, const std::string& truncation) {
                 const Limits limits = limits_of(special, specials, max_length, truncation);
                 const Text first = text_of(text, "text");
                 const auto second = pair.is_none() ? std::nullopt : std::optional(text_of(pair, "pair"));
                 const ReleasedGil released(first.length + (second ? second->length : 0));
                 return encode(self, first, second ? &*second : nullptr, limits);
             },
             "text"_a, "pair"_a = nb::none(), nb::kw_only(), "add_special_tokens"_a = true,
             "special_tokens"_a = "all", "max_length"_a = nb::none(), "truncation"_a = "longest_first")
        .def("encode_batch",
             [](const ErnieTokenizer& self, nb::handle texts, nb::handle pairs, bool special,
                const std::string& specials, std::optional<std::int64_t> max_length, const std::string& truncation, const std::string& padding,
                std::optional<std::int64_t> multiple, nb::handle dtype) {
                 return encode_padded(
                     self, texts, pairs, limits_of(special, specials, max_length, truncation), padding, multiple, dtype);
             },
             "texts"_a, "pairs"_a = nb::none(), nb::kw_only(), "add_special_tokens"_a = true,
             "special_tokens"_a = "all", "max_length"_a = nb::none(), "truncation"_a = "longest_first", "padding"_a = "longest",
             "pad_to_multiple_of"_a = nb::none(), "dtype"_a = "int64")
        .def("encode_flat",
             [](const ErnieTokenizer& self, nb::handle given, bool special) {
                 const Texts texts(given, "texts");
                 FlatTokens flat;
                 {
                     const ReleasedGil released(texts.characters);
                     flat = encode_flat(self, texts.views, special ? Specials::kAll : Specials::kNone);
                 }
                 return nb::make_tuple(
                     to_numpy(std::move(flat.tokens.ids)), to_numpy(std::move(flat.splits)),
                     to_numpy(std::move(flat.tokens.starts)));
             },
             "texts"_a, nb::kw_only(), "special_tokens"_a = false)
        .def("token_to_id",
             [](const ErnieTokenizer& self, nb::handle token) { return none_or(self.id(u32_of(token, "token", 0))); },
             "token"_a)
        .def("id_to_token",
             [](const ErnieTokenizer& self, std::int64_t id) {
                 if (id < 0 || id >= static_cast<std::int64_t>(self.tokens().size()))
                     throw nb::index_error(("there is no token with id " + std::to_string(id) + "; ids go from 0 to " +
                                            std::to_string(self.tokens().size() - 1) + ".").c_str());
                 return str_of(self.tokens()[static_cast<std::size_t>(id)]);
             },
             "id"_a)
        .def_prop_ro("tokens", tokens_of)
        .def_prop_ro("vocab_size", [](const ErnieTokenizer& self) { return self.tokens().size(); })
        .def("__len__", [](const ErnieTokenizer& self) { return self.tokens().size(); })
        .def_prop_ro("duplicates", &ErnieTokenizer::duplicates)
        .def_ro("missing_final_newline", &ErnieTokenizer::missing_final_newline)
        .def_prop_ro("pad_id", [](const ErnieTokenizer& self) { return none_or(self.pad); })
        .def_prop_ro("mask_id", [](const ErnieTokenizer& self) { return none_or(self.mask); })
        .def_ro("cls_id", &ErnieTokenizer::cls)
        .def_ro("sep_id", &ErnieTokenizer::sep)
        .def_ro("unk_id", &ErnieTokenizer::unknown)
        .def_prop_ro("lower_case", [](const ErnieTokenizer& self) { return self.options().lower_case; })
        .def_prop_ro("strip_accents", [](const ErnieTokenizer& self) { return self.options().strip_accents; })
        .def_prop_ro("split_cjk", [](const ErnieTokenizer& self) { return self.options().split_cjk; })
        .def_prop_ro("rules", [](const ErnieTokenizer& self) { return name_of(self.options().rules); })
        .def_prop_ro("fold_width", [](const ErnieTokenizer& self) { return self.options().fold_width; })
        .def("__getstate__", state_of)
        .def("__setstate__", restore);
}
