// SIMD vectors of W numbers by the vector extensions of GCC and Clang, for files compiled once for every instruction set.
#pragma once

#include <cstdint>

namespace upscore::crf::UPSCORE_INSTRUCTIONS {

namespace {

#ifdef __AVX2__
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

template <int W>
struct Vector {
    typedef float F __attribute__((vector_size(W * 4)));
    typedef int32_t I __attribute__((vector_size(W * 4)));
    typedef float Unaligned __attribute__((vector_size(W * 4), aligned(4), may_alias));
    typedef int32_t UnalignedI __attribute__((vector_size(W * 4), aligned(4), may_alias));
};

template <int W>
inline typename Vector<W>::F load(const float* at) {
    return *reinterpret_cast<const typename Vector<W>::Unaligned*>(at);
}

template <int W>
inline typename Vector<W>::I load(const int32_t* at) {
    return *reinterpret_cast<const typename Vector<W>::UnalignedI*>(at);
}

template <int W>
inline void store(int32_t* at, typename Vector<W>::I value) {
    *reinterpret_cast<typename Vector<W>::UnalignedI*>(at) = value;
}

template <int W>
inline void store(float* at, typename Vector<W>::F value) {
    *reinterpret_cast<typename Vector<W>::Unaligned*>(at) = value;
}

template <int W>
inline typename Vector<W>::F broadcast(float x) {
    return x - typename Vector<W>::F{};  // x - 0 is x and costs nothing; x + 0 would have to be computed, as -0 + 0 is 0
}

}  // namespace

}  // namespace upscore::crf::UPSCORE_INSTRUCTIONS
