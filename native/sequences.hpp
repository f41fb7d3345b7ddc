// Between (batch, time, dim) tensors and vectors of neighbouring channels.
#pragma once
#include <algorithm>
#include <cstdint>

#include "kernels.hpp"
#include "lanes.hpp"

namespace longwave::LONGWAVE_ISA {

// `width` channels of a row, from channel c0, at most a vector of them.
struct Channels {
    int64_t row, c0;
    int width;
};

// n positions from t0 on; lanes beyond the last channel are zero.
template <class Real> void read(Vector<Real>* to, const View<const Real>& from, Channels at, int64_t t0, int n) {
    constexpr int W = lanes<Real>;
    const Real* p = from.data + at.row * from.batch + t0 * from.time + at.c0 * from.dim;
    if (from.dim == 1 && at.width == W) {
        for (int t = 0; t < n; ++t) to[t] = load(p + t * from.time);
        return;
    }
    std::fill_n(to, n, Vector<Real>{});
    Real* into = reinterpret_cast<Real*>(to);
    for (int lane = 0; lane < at.width; ++lane)
        for (int t = 0; t < n; ++t) into[t * W + lane] = p[lane * from.dim + t * from.time];
}

// Position t of a contiguous (batch, length, dim) tensor.
template <class Real> inline void write(Real* to, Channels at, int64_t length, int64_t dim, int64_t t, Vector<Real> v) {
    Real* p = to + (at.row * length + t) * dim + at.c0;
    if (at.width == lanes<Real>) return store(p, v);
    for (int lane = 0; lane < at.width; ++lane) p[lane] = v[lane];
}

// n numbers of each channel, contiguous (..., dim, n), as n vectors; zeros where there is no tensor. c counts channels.
template <class Real> void read_rows(Vector<Real>* to, const Real* from, int64_t c, int width, int64_t n) {
    std::fill_n(to, n, Vector<Real>{});
    for (int lane = 0; from && lane < width; ++lane)
        for (int64_t i = 0; i < n; ++i) to[i][lane] = from[(c + lane) * n + i];
}
template <class Real> void write_rows(Real* to, const Vector<Real>* from, int64_t c, int width, int64_t n) {
    for (int lane = 0; lane < width; ++lane)
        for (int64_t i = 0; i < n; ++i) to[(c + lane) * n + i] = from[i][lane];
}

}  // namespace longwave::LONGWAVE_ISA
