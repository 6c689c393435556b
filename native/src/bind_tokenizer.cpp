#include "bind.h"

void bind_tokenizer(nanobind::module_&) {}
