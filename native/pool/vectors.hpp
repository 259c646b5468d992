// SIMD vectors of W floats as 32-bit patterns; a bfloat16 is widened to a float by 16 zero bits.
#pragma once

#include <cstdint>

namespace upscore::pool::UPSCORE_INSTRUCTIONS {

namespace {

#ifdef __AVX2__
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

constexpr bool LITTLE_ENDIAN_ORDER = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;

template <class T, int W, int ALIGNMENT = sizeof(T)>
struct Unaligned {
    typedef T Type __attribute__((vector_size(W * sizeof(T)), aligned(ALIGNMENT), may_alias));
};

template <int W>
struct Vector {
    typedef uint32_t U __attribute__((vector_size(W * 4)));
    typedef int32_t I __attribute__((vector_size(W * 4)));
    typedef float F __attribute__((vector_size(W * 4)));
};
template <int W>
using U = typename Vector<W>::U;

template <int W>
inline U<W> broadcast(uint32_t x) {
    return x + U<W>{};
}

// All bits set in lanes where x is greater or NaN.
template <int W>
inline U<W> exceeds(U<W> x, U<W> best) {
    using F = typename Vector<W>::F;
    return (U<W>)((F)x > (F)best) | (U<W>)((F)x != (F)x);
}

template <int W>
inline U<W> load(const uint32_t* at) {
    return *reinterpret_cast<const typename Unaligned<uint32_t, W>::Type*>(at);
}
template <int W>
inline U<W> load(const uint16_t* at) {
    return __builtin_convertvector(*reinterpret_cast<const typename Unaligned<uint16_t, W>::Type*>(at), U<W>) << 16;
}
template <int W>
inline U<W> load(const uint8_t* at) {
    return __builtin_convertvector(*reinterpret_cast<const typename Unaligned<uint8_t, W>::Type*>(at), U<W>);
}

template <int W>
inline void store(uint32_t* at, U<W> x) {
    *reinterpret_cast<typename Unaligned<uint32_t, W>::Type*>(at) = x;
}
template <int W>
inline void store(uint16_t* at, U<W> x) {
    using Type = typename Unaligned<uint16_t, W>::Type;
    *reinterpret_cast<Type*>(at) = __builtin_convertvector(x >> 16, Type);
}
template <int W>
inline void store(uint8_t* at, U<W> x) {
    using Type = typename Unaligned<uint8_t, W>::Type;
    *reinterpret_cast<Type*>(at) = __builtin_convertvector(x, Type);
}

// 2W adjacent values: those at even and those at odd positions.
template <int W>
struct Pair {
    U<W> even, odd;
};

inline Pair<4> deinterleave(U<4> a, U<4> b) { return {__builtin_shufflevector(a, b, 0, 2, 4, 6), __builtin_shufflevector(a, b, 1, 3, 5, 7)}; }
[[maybe_unused]] inline Pair<8> deinterleave(U<8> a, U<8> b) {
    return {__builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14), __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15)};
}
inline Pair<4> interleave(Pair<4> p) {
    return {__builtin_shufflevector(p.even, p.odd, 0, 4, 1, 5), __builtin_shufflevector(p.even, p.odd, 2, 6, 3, 7)};
}
[[maybe_unused]] inline Pair<8> interleave(Pair<8> p) {
    return {__builtin_shufflevector(p.even, p.odd, 0, 8, 1, 9, 2, 10, 3, 11), __builtin_shufflevector(p.even, p.odd, 4, 12, 5, 13, 6, 14, 7, 15)};
}

template <int W>
inline Pair<W> load_pairs(const uint32_t* at) {
    return deinterleave(load<W>(at), load<W>(at + W));
}
template <int W>
inline Pair<W> load_pairs(const uint16_t* at) {
    const U<W> joined = *reinterpret_cast<const typename Unaligned<uint32_t, W, sizeof(uint16_t)>::Type*>(at);
    const U<W> low = joined << 16, high = joined & 0xffff0000u;
    return LITTLE_ENDIAN_ORDER ? Pair<W>{low, high} : Pair<W>{high, low};
}
template <int W>
inline void store_pairs(uint32_t* at, Pair<W> p) {
    const Pair<W> j = interleave(p);
    store<W>(at, j.even);
    store<W>(at + W, j.odd);
}
template <int W>
inline void store_pairs(uint16_t* at, Pair<W> p) {
    const U<W> low = LITTLE_ENDIAN_ORDER ? p.even : p.odd, high = LITTLE_ENDIAN_ORDER ? p.odd : p.even;
    *reinterpret_cast<typename Unaligned<uint32_t, W, sizeof(uint16_t)>::Type*>(at) = low >> 16 | high;
}

}  // namespace

}  // namespace upscore::pool::UPSCORE_INSTRUCTIONS
