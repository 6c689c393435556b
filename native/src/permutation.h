// A keyed permutation of 0 … size - 1 in O(1) memory: a Feistel network over the next power of two, walked along its
// cycle until it lands inside (J. Black, P. Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002).
#pragma once
#include <array>
#include <cstdint>

#include "random.h"

namespace ernie {

class Permutation {
  public:
    // size >= 1
    Permutation(uint64_t size, uint64_t seed, uint32_t epoch) : size_(size) {
        unsigned bits = 0;
        while (bits < 63 && (uint64_t{1} << bits) < size) ++bits;
        right_bits_ = (bits + 1) / 2;
        left_mask_ = (uint64_t{1} << (bits - right_bits_)) - 1;
        right_mask_ = (uint64_t{1} << right_bits_) - 1;
        Random random(seed, Stream::permutation, epoch, 0);
        for (uint64_t& key : keys_) {
            key = uint64_t{random.next()} << 32;
            key |= random.next();
        }
    }

    // position < size; expected number of walks below two, since the domain is less than twice the size.
    uint64_t operator()(uint64_t position) const {
        do {
            position = encrypt(position);
        } while (position >= size_);
        return position;
    }

  private:
    uint64_t encrypt(uint64_t value) const {
        uint64_t left = value >> right_bits_;
        uint64_t right = value & right_mask_;
        for (unsigned round = 0; round < keys_.size(); round += 2) {
            left ^= mix(right ^ keys_[round]) & left_mask_;
            right ^= mix(left ^ keys_[round + 1]) & right_mask_;
        }
        return left << right_bits_ | right;
    }

    // The finaliser of SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, OOPSLA 2014).
    static uint64_t mix(uint64_t value) {
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
        return value ^ (value >> 31);
    }

    uint64_t size_, left_mask_, right_mask_;
    unsigned right_bits_;
    std::array<uint64_t, 8> keys_;
};

}  // namespace ernie
