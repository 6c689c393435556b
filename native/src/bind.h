// The bindings that module.cpp registers.
#pragma once
#include <nanobind/nanobind.h>

void bind_tokenizer(nanobind::module_& m);
void bind_sample_map(nanobind::module_& m);
void bind_batch_maker(nanobind::module_& m);
