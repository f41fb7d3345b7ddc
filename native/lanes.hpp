// The vectors that every kernel computes with: as wide as the instruction set this file is compiled for.
//
// Kernels are vectorised across channels: one vector holds the same quantity of neighbouring channels (its lanes), so a
// recurrence over time needs no horizontal operation. The GCC/Clang vector extension compiles to SSE2, AVX2, AVX-512 or
// NEON; CMake compiles each kernel file once per instruction set, in a namespace named by LONGWAVE_ISA.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#if defined(__AVX512F__)
#define LONGWAVE_VECTOR_BYTES 64
#elif defined(__AVX__)
#define LONGWAVE_VECTOR_BYTES 32
#else
#define LONGWAVE_VECTOR_BYTES 16
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are passed between inlined functions of one file only
#endif

namespace longwave::LONGWAVE_ISA {

template <class T> struct VectorOf;
template <> struct VectorOf<float> {
    typedef float type __attribute__((vector_size(LONGWAVE_VECTOR_BYTES)));
    typedef float unaligned __attribute__((vector_size(LONGWAVE_VECTOR_BYTES), aligned(4), may_alias));
};
template <> struct VectorOf<double> {
    typedef double type __attribute__((vector_size(LONGWAVE_VECTOR_BYTES)));
    typedef double unaligned __attribute__((vector_size(LONGWAVE_VECTOR_BYTES), aligned(8), may_alias));
};

template <class T> using Vector = typename VectorOf<T>::type;
template <class T> constexpr int lanes = LONGWAVE_VECTOR_BYTES / sizeof(T);

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class T> inline Vector<T> load(const T* p) {
    return *reinterpret_cast<const typename VectorOf<T>::unaligned*>(p);
}
template <class T> inline void store(T* p, Vector<T> v) { *reinterpret_cast<typename VectorOf<T>::unaligned*>(p) = v; }

// The first `left` lanes, which may be none or all of them; those that are not read are zero.
template <class T> inline Vector<T> load(const T* p, int64_t left) {
    if (left >= lanes<T>) return load(p);
    Vector<T> v = {};
    for (int64_t i = 0; i < left; ++i) v[i] = p[i];
    return v;
}
template <class T> inline void store(T* p, Vector<T> v, int64_t left) {
    if (left >= lanes<T>) return store(p, v);
    for (int64_t i = 0; i < left; ++i) p[i] = v[i];
}

// Of two vectors, blocks of STEP lanes off the diagonal exchanged: one stage of a transposition.
template <int STEP, class V, int... I> inline void exchange(V& a, V& b, std::integer_sequence<int, I...>) {
    constexpr int W = sizeof...(I);
    const V low = __builtin_shufflevector(a, b, ((I & STEP) ? W + I - STEP : I)...);
    b = __builtin_shufflevector(a, b, ((I & STEP) ? W + I : I + STEP)...);
    a = low;
}
template <int STEP, class Real> inline void exchange_all(Vector<Real> (&v)[lanes<Real>]) {
    if constexpr (STEP > 0) {
#pragma GCC unroll 16
        for (int i = 0; i < lanes<Real>; ++i)
            if (!(i & STEP)) exchange<STEP>(v[i], v[i + STEP], std::make_integer_sequence<int, lanes<Real>>{});
        exchange_all<STEP / 2, Real>(v);
    }
}
// to(j, i) = from(i, j) for i and j of one vector each; rows lie at these distances.
template <class Real> inline void transpose_block(const Real* from, int64_t from_row, Real* to, int64_t to_row) {
    Vector<Real> v[lanes<Real>];
    for (int i = 0; i < lanes<Real>; ++i) v[i] = load(from + i * from_row);
    exchange_all<lanes<Real> / 2, Real>(v);
    for (int i = 0; i < lanes<Real>; ++i) store(to + i * to_row, v[i]);
}

// The sum of all lanes.
template <class Real, int BY = lanes<Real> / 2> inline Real across(Vector<Real> v) {
    if constexpr (BY == 0) return v[0];
    else return [&]<int... I>(std::integer_sequence<int, I...>) {
        return across<Real, BY / 2>(v + __builtin_shufflevector(v, v, (I ^ BY)...));
    }(std::make_integer_sequence<int, lanes<Real>>{});
}

// Complex numbers lie in a vector as (re, im) pairs of neighbouring lanes.
template <class V, int... I> inline V swap_pairs(V v, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(v, v, (I ^ 1)...);
}
template <class V, int... I> inline V repeat_real(V v, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(v, v, (I & ~1)...);
}
template <class V, int... I> inline V repeat_imag(V v, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(v, v, (I | 1)...);
}

template <class Real> using Pairs = std::make_integer_sequence<int, lanes<Real>>;

// A coefficient, ready to multiply.
template <class Real, bool COMPLEX> struct Factor {
    using V = Vector<Real>;
    V re = {}, im = {};
    Factor() = default;
    Factor(V a, bool conjugate) {
        if constexpr (COMPLEX) {
            V sign = {};
            for (int i = 0; i < lanes<Real>; ++i) sign[i] = ((i & 1) == conjugate) ? Real(-1) : Real(1);
            re = repeat_real(a, Pairs<Real>{});
            im = sign * repeat_imag(a, Pairs<Real>{});
        } else {
            re = a;
        }
    }
    V times(V h, V plus) const {
        if constexpr (COMPLEX) return re * h + (im * swap_pairs(h, Pairs<Real>{}) + plus);
        else return re * h + plus;
    }
};

}  // namespace longwave::LONGWAVE_ISA
