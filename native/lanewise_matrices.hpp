// Products of small matrices, one per lane: every element of a matrix is a vector that holds that element for its channels.
#pragma once
#include <algorithm>
#include <cstdint>

#include "lanes.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

constexpr int ROWS = 4;  // a tile: ROWS x COLUMNS accumulators in registers
constexpr int COLUMNS = LONGWAVE_VECTOR_BYTES == 64 ? 4 : 2;

// Element (m, k) of a matrix lies at p[m * row + k * column].
template <class V> struct Matrix {
    V* p;
    int64_t row, column;
    Matrix at(int64_t m, int64_t k) const { return {p + m * row + k * column, row, column}; }
    operator Matrix<const V>() const { return {p, row, column}; }
};

enum class Terms { all, to_diagonal, from_diagonal };  // which k of A(m, k): every one, k <= m, k >= m

template <int M, int N, class V>
[[gnu::always_inline]] inline void multiply_tile(Matrix<V> C, Matrix<const V> A, Matrix<const V> B, int k0, int k1, bool add) {
    V sum[M][N] = {};
    const V* __restrict__ a = A.p + k0 * A.column;
    const V* __restrict__ b = B.p + k0 * B.column;
    for (int k = k0; k < k1; ++k, a += A.column, b += B.column) {
        V bk[N];
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) bk[n] = b[n * B.row];
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
            const V am = a[m * A.row];
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) sum[m][n] += am * bk[n];
        }
    }
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) {
            V& c = C.p[m * C.row + n * C.column];
            c = add ? c + sum[m][n] : sum[m][n];
        }
}

// C(m, n) = sum_k A(m, k) B(n, k), or += with `add`.
template <class V>
void multiply(Matrix<V> C, Matrix<const V> A, Matrix<const V> B, int M, int N, int K, bool add, Terms terms = Terms::all) {
    for (int m = 0; m < M;) {
        const int rows = M - m >= ROWS ? ROWS : 1;
        const int k0 = terms == Terms::from_diagonal ? std::min(m, K) : 0;
        const int k1 = terms == Terms::to_diagonal ? std::min(m + rows, K) : K;
        for (int n = 0; n < N;) {
            const int columns = N - n >= COLUMNS ? COLUMNS : 1;
            const Matrix<V> c = C.at(m, n);
            const Matrix<const V> a = A.at(m, 0), b = B.at(n, 0);
            if (rows == ROWS && columns == COLUMNS) multiply_tile<ROWS, COLUMNS>(c, a, b, k0, k1, add);
            else if (rows == ROWS) multiply_tile<ROWS, 1>(c, a, b, k0, k1, add);
            else if (columns == COLUMNS) multiply_tile<1, COLUMNS>(c, a, b, k0, k1, add);
            else multiply_tile<1, 1>(c, a, b, k0, k1, add);
            n += columns;
        }
        m += rows;
    }
}

}  // namespace
}  // namespace longwave::LONGWAVE_ISA
