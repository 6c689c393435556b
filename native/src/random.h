// Random numbers that are a pure function of (seed, stream, epoch, sample). There is no state between samples, so the
// order, the batch size and the number of workers do not change a sample.
//
// Philox4x32-10: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3",
// SC'11. Checked against the authors' known-answer vectors (Random123) in tests/native/test_random.py.
#pragma once
#include <array>
#include <cstdint>

namespace ernie {

using Block = std::array<uint32_t, 4>;

inline Block philox4x32(Block counter, std::array<uint32_t, 2> key) {
    for (int round = 0; round < 10; ++round) {
        const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
        const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
        counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
                   static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
        key[0] += 0x9E3779B9;
        key[1] += 0xBB67AE85;
    }
    return counter;
}

// The purpose of the numbers. Streams never overlap, because the stream is part of the counter.
enum class Stream : uint32_t { sample_map = 1, sample = 2, permutation = 3 };

// The 32-bit words of the blocks 0, 1, 2, … of one (seed, stream, epoch, sample).
// Counter: stream << 24 | block, epoch, sample (low word, high word). Key: seed (low word, high word).
class Random {
  public:
    Random(uint64_t seed, Stream stream, uint32_t epoch, uint64_t sample)
        : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
          counter_{static_cast<uint32_t>(stream) << 24, epoch, static_cast<uint32_t>(sample),
                   static_cast<uint32_t>(sample >> 32)} {}

    uint32_t next() {
        if (used_ == 4) {
            words_ = philox4x32(counter_, key_);
            ++counter_[0];
            used_ = 0;
        }
        return words_[used_++];
    }

    // Uniform in [0, bound); the bias of the multiplication is below bound / 2^32.
    uint32_t below(uint32_t bound) { return static_cast<uint32_t>(uint64_t{next()} * bound >> 32); }

  private:
    std::array<uint32_t, 2> key_;
    Block counter_;
    Block words_{};
    unsigned used_ = 4;
};

// A random word is below threshold(p) with probability p, exact to 2^-32.
inline uint64_t threshold(double probability) { return static_cast<uint64_t>(probability * 4294967296.0); }

}  // namespace ernie
