// The recurrence over blocks of `block_scan`, in either direction: x' = x M + d, where M is a dense matrix for each channel and
// x is kept in double precision whatever the precision of d. Its adjoint is the same recurrence backwards with the transpose.
//
// A task is one channel and up to ROWS rows of the batch, whose states share every element of M that is loaded.
#include <algorithm>

#include "kernels.hpp"
#include "lanes.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

using V = Vector<double>;
constexpr int LANES = lanes<double>;
constexpr int ROWS = 4;                                      // of the batch, at once
constexpr int COLUMNS = LONGWAVE_VECTOR_BYTES == 64 ? 4 : 2;  // vectors of the new state, at once

// to(r, columns from c) = x(r) M, for `columns` vectors.
template <int R, int N> void multiply(V* to, const double* x, const double* m, int64_t state, int64_t width, int64_t c) {
    V total[R][N] = {};
    for (int64_t i = 0; i < state; ++i)
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) {
            const V element = load(m + width * i + LANES * (c + n));
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) total[r][n] += x[width * r + i] * element;
        }
    for (int r = 0; r < R; ++r)
        for (int n = 0; n < N; ++n) to[width / LANES * r + c + n] = total[r][n];
}

template <class T, int R> void recur(const BlockScan<T>& s, int64_t channel, int64_t row0, const double* m, int64_t width, V* memory) {
    const int64_t vectors = width / LANES;
    double *x = reinterpret_cast<double*>(memory), *next = x + R * width;
    const auto place = [&](int r, int64_t k) { return (channel * s.batch + row0 + r) * s.blocks + k; };
    std::fill_n(x, R * width, 0.0);
    for (int r = 0; s.initial && r < R; ++r)
        std::copy_n(s.initial + (channel * s.batch + row0 + r) * s.state, s.state, x + width * r);
    const auto cut = [&](int64_t k) {
        for (int r = 0; s.fresh && r < R; ++r)
            if (s.fresh[(row0 + r) * s.blocks + k]) std::fill_n(x + width * r, width, 0.0);
    };
    for (int64_t i = 0; i < s.blocks; ++i) {
        const int64_t k = s.reverse ? s.blocks - 1 - i : i;
        if (!s.reverse) cut(k);
        for (int r = 0; r < R; ++r) {
            T* out = s.out + place(r, k) * s.out_stride;
            for (int64_t n = 0; n < s.state; ++n) out[n] = T(x[width * r + n]);
        }
        int64_t c = 0;
        for (; c + COLUMNS <= vectors; c += COLUMNS) multiply<R, COLUMNS>(reinterpret_cast<V*>(next), x, m, s.state, width, c);
        for (; c < vectors; ++c) multiply<R, 1>(reinterpret_cast<V*>(next), x, m, s.state, width, c);
        std::swap(x, next);
        for (int r = 0; r < R; ++r) {
            const T* in = s.in + place(r, k) * s.in_stride;
            for (int64_t n = 0; n < s.state; ++n) x[width * r + n] += double(in[n]);
        }
        if (s.reverse) cut(k);
    }
    for (int r = 0; r < R; ++r) std::copy_n(x + width * r, s.state, s.final + (channel * s.batch + row0 + r) * s.state);
}

}  // namespace

template <class T> void block_scan(const BlockScan<T>& s) {
    const int64_t width = (s.state + LANES - 1) / LANES * LANES, groups = (s.batch + ROWS - 1) / ROWS;
    const bool pad = width != s.state;
    const int64_t each = 2 * ROWS * width / LANES + (pad ? s.state * width / LANES : 0);
    V* memory = scratch<V>(each * s.threads);
#pragma omp parallel for num_threads(s.threads) schedule(static)
    for (int64_t task = 0; task < s.dim * groups; ++task) {
        const int64_t channel = task / groups, row0 = task % groups * ROWS;
        V* mine = memory + each * thread_number();
        const double* m = s.matrix + channel * s.state * s.state;
        if (pad) {
            double* padded = reinterpret_cast<double*>(mine + 2 * ROWS * width / LANES);
            std::fill_n(padded, s.state * width, 0.0);
            for (int64_t i = 0; i < s.state; ++i) std::copy_n(m + s.state * i, s.state, padded + width * i);
            m = padded;
        }
        switch (std::min<int64_t>(ROWS, s.batch - row0)) {
            case 1: recur<T, 1>(s, channel, row0, m, width, mine); break;
            case 2: recur<T, 2>(s, channel, row0, m, width, mine); break;
            case 3: recur<T, 3>(s, channel, row0, m, width, mine); break;
            default: recur<T, ROWS>(s, channel, row0, m, width, mine);
        }
    }
}

template void block_scan<float>(const BlockScan<float>&);
template void block_scan<double>(const BlockScan<double>&);

}  // namespace longwave::LONGWAVE_ISA
