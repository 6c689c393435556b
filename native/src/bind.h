// What module.cpp puts together.
#pragma once
#include <nanobind/nanobind.h>

void bind_tokenizer(nanobind::module_& m);
void bind_sample_map(nanobind::module_& m);
void bind_masking(nanobind::module_& m);
