// NumPy arrays as arguments and results. An argument is used without a copy or refused with an error; never converted.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace ernie {

namespace nb = nanobind;
using AnyArray = nb::ndarray<nb::ro>;

template <typename T>
const char* dtype_name();
template <>
inline const char* dtype_name<bool>() { return "bool"; }
template <>
inline const char* dtype_name<uint8_t>() { return "uint8"; }
template <>
inline const char* dtype_name<uint16_t>() { return "uint16"; }
template <>
inline const char* dtype_name<int32_t>() { return "int32"; }
template <>
inline const char* dtype_name<int64_t>() { return "int64"; }
template <>
inline const char* dtype_name<double>() { return "float64"; }

inline std::string describe(const AnyArray& array) {
    static const char* const kinds[] = {"int", "uint", "float", "handle", "bfloat", "complex", "bool"};
    const auto type = array.dtype();
    std::string text = type.code < 7 ? kinds[type.code] : "unknown";
    if (type.code != 6) text += std::to_string(type.bits);
    text += " [";
    for (size_t i = 0; i < array.ndim(); ++i) text += (i ? ", " : "") + std::to_string(array.shape(i));
    return text + "]";
}

inline bool is_contiguous(const AnyArray& array) {
    int64_t stride = 1;
    for (size_t i = array.ndim(); i-- > 0;) {
        if (array.shape(i) != 1 && array.stride(i) != stride) return false;
        stride *= static_cast<int64_t>(array.shape(i));
    }
    return true;
}

template <typename T>
bool has_dtype(const AnyArray& array) {
    return array.dtype() == nb::dtype<T>();
}

// The elements of an array. Throws a TypeError unless it is C-contiguous, aligned and in main memory, with dtype T and
// `ndim` axes.
template <typename T>
const T* elements(const AnyArray& array, const char* name, size_t ndim = 1) {
    const auto address = reinterpret_cast<uintptr_t>(array.data());
    if (!has_dtype<T>(array) || array.ndim() != ndim || array.device_type() != nb::device::cpu::value ||
        !(is_contiguous(array) || array.size() == 0) || address % alignof(T))
        throw nb::type_error(
            (std::string(name) + " must be a C-contiguous " + dtype_name<T>() + " array of " + std::to_string(ndim) +
             (ndim == 1 ? " axis, not " : " axes, not ") + describe(array) + ".")
                .c_str());
    return static_cast<const T*>(array.data());
}

// The array as NumPy names its type. NumPy has two 64-bit integer types on Linux: nanobind's arrays have C's `long long`,
// and libraries that compare types by identity, such as OpenVINO, accept only `np.int64`, which is C's `long`.
template <typename T, typename... Options>
nb::object numpy_object(const nb::ndarray<nb::numpy, T, Options...>& array) {
    nb::object made = nb::cast(array);
    return std::is_same_v<T, int64_t> ? made.attr("view")("int64") : made;
}

// A NumPy array [n] that owns the elements of the vector.
template <typename T>
nb::object to_numpy(std::vector<T> values) {
    auto owner = std::make_unique<std::vector<T>>(std::move(values));
    T* data = owner->data();
    const size_t size = owner->size();
    nb::capsule capsule(owner.release(), [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    return numpy_object(nb::ndarray<nb::numpy, T, nb::ndim<1>>(data, {size}, capsule));
}

}  // namespace ernie
