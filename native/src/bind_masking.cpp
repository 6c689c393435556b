#include "bind.h"

void bind_masking(nanobind::module_&) {}
