// One step of a system that is diagonal plus low rank, on rows of complex numbers, and its adjoint:
//
//     x' = x + a x - sum_r (x . f_r) s_r,
//
// where . is the plain product of real numbers, re and im in turn: s . x = 2 re sum s x is that with f = (2 re s, -2 im s).
// With h the gradient of x', that of x is h + conj(a) h + sum_r w_r f_r, where w_r = -(h . s_r).
#pragma once
#include <algorithm>
#include <cstdint>

#include "lanes.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

using V = Vector<double>;
constexpr int LANES = lanes<double>;
using C = Factor<double, true>;

// Vectors of double precision from and to memory of either.
inline V load_double(const double* p) { return load(p); }
inline void store_double(double* p, V v) { store(p, v); }
typedef float Half __attribute__((vector_size(LONGWAVE_VECTOR_BYTES / 2), aligned(4), may_alias));
inline V load_double(const float* p) { return __builtin_convertvector(*reinterpret_cast<const Half*>(p), V); }
inline void store_double(float* p, V v) { *reinterpret_cast<Half*>(p) = __builtin_convertvector(v, Half); }

// Rows of `modes` complex numbers as vectors, the last one filled up with zeros.
struct Rows {
    int64_t modes, vectors;
    explicit Rows(int64_t modes_) : modes(modes_), vectors((2 * modes_ + LANES - 1) / LANES) {}
    template <class T> void read(V* to, const T* from) const {
        for (int64_t k = 0; k < vectors; ++k) {
            if (LANES * (k + 1) <= 2 * modes) {
                to[k] = load_double(from + LANES * k);
            } else {
                to[k] = V{};
                for (int64_t i = LANES * k; i < 2 * modes; ++i) to[k][i - LANES * k] = from[i];
            }
        }
    }
    template <class T> void write(T* to, const V* from) const {
        for (int64_t k = 0; k < vectors; ++k) {
            if (LANES * (k + 1) <= 2 * modes) store_double(to + LANES * k, from[k]);
            else
                for (int64_t i = LANES * k; i < 2 * modes; ++i) to[i] = T(from[k][i - LANES * k]);
        }
    }
};

inline double product(const V* x, const V* y, int64_t vectors) {
    V sum = {};
    for (int64_t k = 0; k < vectors; ++k) sum += x[k] * y[k];
    double total = 0;
    for (int i = 0; i < LANES; ++i) total += sum[i];
    return total;
}

inline void add(V* to, double factor, const V* x, int64_t vectors) {
    for (int64_t k = 0; k < vectors; ++k) to[k] += factor * x[k];
}

// x times re at real and im at imaginary parts.
inline void scale(V* x, double re, double im, int64_t vectors) {
    V factors;
    for (int i = 0; i < LANES; ++i) factors[i] = i & 1 ? im : re;
    for (int64_t k = 0; k < vectors; ++k) x[k] *= factors;
}

// The numbers of a system, or their gradients: `n` vectors of a, and of f_r and s_r for each of `rank` r.
struct Feedback {
    int64_t n, rank;
    V *a, *f, *s;
    static int64_t size(int64_t n, int64_t rank) { return n * (1 + 2 * rank); }
    Feedback(V* memory, int64_t n_, int64_t rank_) : n(n_), rank(rank_), a(memory), f(a + n), s(f + rank * n) {}

    void step(V* x, double* weights) const {
        for (int64_t r = 0; r < rank; ++r) weights[r] = product(x, f + r * n, n);
        for (int64_t i = 0; i < n; ++i) x[i] = C(a[i], false).times(x[i], x[i]);
        for (int64_t r = 0; r < rank; ++r) add(x, -weights[r], s + r * n, n);
    }
    // h, the gradient of the state after x, becomes that of x, `given` being what else it gets; the system's is added up.
    void step_back(const V* x, V* h, const V* given, const Feedback& gradient, double* weights) const {
        for (int64_t r = 0; r < rank; ++r) {
            add(gradient.s + r * n, -product(x, f + r * n, n), h, n);
            weights[r] = -product(h, s + r * n, n);
            add(gradient.f + r * n, weights[r], x, n);
        }
        for (int64_t i = 0; i < n; ++i) {
            gradient.a[i] = C(x[i], true).times(h[i], gradient.a[i]);
            h[i] = C(a[i], true).times(h[i], h[i]) + given[i];
        }
        for (int64_t r = 0; r < rank; ++r) add(h, weights[r], f + r * n, n);
    }
};

}  // namespace
}  // namespace longwave::LONGWAVE_ISA
