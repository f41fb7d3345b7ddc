// Products of matrices that fit the caches: a tile of accumulators takes its scalars from one and its vectors from the other.
#pragma once
#include <algorithm>
#include <cstdint>

#include "lanes.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

// sum[m][n] += sum_k a(m, k) b(k, n): scalars a at a[m * row + k * column], vectors b at b[k * stride + n * lanes].
template <int M, int N, class Real>
[[gnu::always_inline]] inline void multiply_tile(Vector<Real> (&sum)[M][N], const Real* a, int64_t row, int64_t column, const Real* b,
                                                 int64_t stride, int64_t K) {
    using V = Vector<Real>;
    for (int64_t k = 0; k < K; ++k, a += column, b += stride) {
        V bk[N];
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) bk[n] = load(b + n * lanes<Real>);
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) {
            const V am = a[m * row] - V{};  // x - 0 is x, so this is a broadcast; 0 + x would not be, for x = -0
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) sum[m][n] += am * bk[n];
        }
    }
}

// Where B(k, n) may differ from zero: everywhere, at k <= n, at k >= n.
enum class Terms { all, to_diagonal, from_diagonal };

// A(m, k) lies at p[m * row + k * column].
template <class Real> struct Scalars {
    const Real* p;
    int64_t row, column;
};

// C(m, n) = sum_k A(m, k) B(k, n), or += with `add`. The rows of C and B lie one after the other, at these distances; of each
// the columns are multiplied in whole vectors, those past the last one too.
template <class Real> struct Product {
    static constexpr int W = lanes<Real>, ROWS = LONGWAVE_VECTOR_BYTES == 64 ? 8 : 4, VECTORS = 2;
    Real* c;
    int64_t c_row;
    Scalars<Real> a;
    const Real* b;
    int64_t b_row, rows, columns, K;
    bool add = false;
    Terms terms = Terms::all;

    template <int M, int N> void tile(int64_t m, int64_t n) const {
        const int64_t first = terms == Terms::from_diagonal ? std::min(n, K) : 0;
        const int64_t last = terms == Terms::to_diagonal ? std::min(n + N * W, K) : K;
        Real* to = c + m * c_row + n;
        Vector<Real> sum[M][N] = {};
        multiply_tile<M, N, Real>(sum, a.p + m * a.row + first * a.column, a.row, a.column, b + first * b_row + n, b_row,
                                  last - first);
        for (int i = 0; i < M; ++i)
            for (int j = 0; j < N; ++j) {
                Real* at = to + i * c_row + j * W;
                store(at, add ? load(at) + sum[i][j] : sum[i][j]);
            }
    }
    template <int N> void panel(int64_t n) const {
        int64_t m = 0;
        for (; m + ROWS <= rows; m += ROWS) tile<ROWS, N>(m, n);
        if (ROWS > 4 && (rows - m) & 4) tile<4, N>(m, n), m += 4;
        if ((rows - m) & 2) tile<2, N>(m, n), m += 2;
        if ((rows - m) & 1) tile<1, N>(m, n);
    }
    void run() const {
        int64_t n = 0;
        for (; n + W < columns; n += VECTORS * W) panel<VECTORS>(n);
        if (n < columns) panel<1>(n);
    }
};

}  // namespace
}  // namespace longwave::LONGWAVE_ISA
