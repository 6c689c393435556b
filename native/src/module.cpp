// The native extension. It holds the hot loops of the data pipeline; so far only its version.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <string>

NB_MODULE(_core, m) {
    m.doc() = "Hot loops of the ERNIE data pipeline.";
    m.def("version", [] { return std::string(ERNIE_NATIVE_VERSION); }, "Version of the distribution this extension was built from.");
}
