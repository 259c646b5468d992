// A hash table with open addressing that numbers codes consecutively, in order of first insertion.
#pragma once

#include <cstdint>
#include <vector>

#include "../memory.hpp"

namespace upscore::crf {

template <class Code>
class Table {
  public:
    explicit Table(int64_t expected) {
        uint64_t size = 1024;
        while (size < static_cast<uint64_t>(expected) * 2) size *= 2;
        require_memory(static_cast<double>(size) * sizeof(int32_t));
        slots_.assign(size, -1);
        mask_ = size - 1;
    }

    int32_t insert(Code code) {
        if (codes_.size() * 2 > slots_.size()) grow();
        for (uint64_t at = hash(code) & mask_;; at = (at + 1) & mask_) {
            const int32_t found = slots_[at];
            if (found < 0) {
                slots_[at] = static_cast<int32_t>(codes_.size());
                codes_.push_back(code);
                return slots_[at];
            }
            if (codes_[found] == code) return found;
        }
    }

    // Return the code's number, or -1 if it was never inserted.
    int32_t find(Code code) const {
        for (uint64_t at = hash(code) & mask_;; at = (at + 1) & mask_) {
            const int32_t found = slots_[at];
            if (found < 0 || codes_[found] == code) return found;
        }
    }

    const std::vector<Code>& codes() const { return codes_; }
    int64_t size() const { return static_cast<int64_t>(codes_.size()); }

  private:
    static uint64_t hash(Code code) {
        uint64_t x = static_cast<uint64_t>(code);
        if constexpr (sizeof(Code) > 8) x ^= static_cast<uint64_t>(code >> 64) * 0x9E3779B97F4A7C15ull;
        x *= 0x9E3779B97F4A7C15ull;
        return x ^ (x >> 32);
    }

    void grow() {
        // New slots beside the old ones, and the codes while the vector doubles its capacity.
        require_memory(static_cast<double>(slots_.size()) * 2 * sizeof(int32_t) + static_cast<double>(codes_.size()) * 3 * sizeof(Code));
        slots_.assign(slots_.size() * 2, -1);
        mask_ = slots_.size() - 1;
        for (size_t i = 0; i < codes_.size(); ++i) {
            uint64_t at = hash(codes_[i]) & mask_;
            while (slots_[at] >= 0) at = (at + 1) & mask_;
            slots_[at] = static_cast<int32_t>(i);
        }
    }

    std::vector<int32_t> slots_;
    std::vector<Code> codes_;
    uint64_t mask_ = 0;
};

}  // namespace upscore::crf
