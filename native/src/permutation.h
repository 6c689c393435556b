// A keyed permutation of 0 … size - 1 in O(1) memory: a Feistel network over the next power of two, with cycle walking:
// it is applied again until the result is below `size` (J. Black, P. Rogaway, "Ciphers with Arbitrary Finite Domains",
// CT-RSA 2002).
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "random.h"

namespace ernie {

class Permutation {
  public:
    // 1 <= size <= 2^62
    Permutation(int64_t size, uint64_t seed, uint32_t epoch) : size_(size) {
        unsigned bits = 0;
        while ((int64_t{1} << bits) < size) ++bits;
        right_bits_ = (bits + 1) / 2;
        left_mask_ = (uint64_t{1} << (bits - right_bits_)) - 1;
        right_mask_ = (uint64_t{1} << right_bits_) - 1;
        Random random(seed, Stream::permutation, epoch, 0);
        for (uint64_t& key : keys_) {
            key = uint64_t{random.next()} << 32;
            key |= random.next();
        }
    }

    // Replaces each value, which must be below `size`, by its image. The domain of the network is less than twice
    // `size`, so a value needs less than two steps on average. The first steps of all values are in one loop: they are
    // independent, and the processor can overlap them.
    void apply(int64_t* values, size_t count) const {
        for (size_t i = 0; i < count; ++i) values[i] = encrypt(values[i]);
        for (size_t i = 0; i < count; ++i)
            while (values[i] >= size_) values[i] = encrypt(values[i]);
    }

  private:
    int64_t encrypt(int64_t value) const {
        uint64_t left = static_cast<uint64_t>(value) >> right_bits_;
        uint64_t right = static_cast<uint64_t>(value) & right_mask_;
        for (unsigned round = 0; round < keys_.size(); round += 2) {
            left ^= mix(right ^ keys_[round]) & left_mask_;
            right ^= mix(left ^ keys_[round + 1]) & right_mask_;
        }
        return static_cast<int64_t>(left << right_bits_ | right);
    }

    // The finaliser of SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, OOPSLA 2014).
    static uint64_t mix(uint64_t value) {
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
        return value ^ (value >> 31);
    }

    int64_t size_;
    uint64_t left_mask_, right_mask_;
    unsigned right_bits_;
    std::array<uint64_t, 8> keys_;
};

}  // namespace ernie
