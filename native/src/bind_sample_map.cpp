#include "bind.h"

void bind_sample_map(nanobind::module_&) {}
