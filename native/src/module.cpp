// The extension module `native._core`; bind_<concept>.cpp holds the bindings of each concept.
#include "bind.h"

#include <nanobind/stl/string.h>

#include <string>

NB_MODULE(_core, m) {
    m.doc() = "The parts of the ERNIE data pipeline that would be slow in Python.";
    m.def("version", [] { return std::string(ERNIE_NATIVE_VERSION); },
          "Version of the distribution from which this extension was built.");
    bind_tokenizer(m);
    bind_sample_map(m);
    bind_batch_maker(m);
}
