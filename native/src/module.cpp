// The native extension: each concept binds itself.
#include "bind.h"

#include <nanobind/stl/string.h>

#include <string>

NB_MODULE(_core, m) {
    m.doc() = "Hot loops of the ERNIE data pipeline.";
    m.def("version", [] { return std::string(ERNIE_NATIVE_VERSION); }, "Version of the distribution this extension was built from.");
    bind_tokenizer(m);
    bind_sample_map(m);
    bind_masking(m);
}
