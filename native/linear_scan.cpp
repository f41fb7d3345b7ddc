// The linear recurrence h[t] = a[t] h[t-1] + b[t], real or complex, forward and backward.
//
// Its adjoint is a recurrence of the same form in the other direction,
//
//     g[t] = conj(a[t+1]) g[t+1] + dh[t],    db = g,    da[t] = g[t] conj(h[t-1])
//
// A task is one row and TILE vectors of neighbouring channels, whose states stay in registers along the whole row. Complex
// numbers stay in memory order, (re, im) in neighbouring lanes: a h = re(a) h + (-im(a), im(a)) swap(h).
#include <algorithm>
#include <utility>

#include "kernels.hpp"
#include "lanes.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

constexpr int TILE = 4;  // vectors of a task: enough independent chains to hide the latency of the multiply-adds

// `count` channels (complex ones are two scalars each) of one row, from channel c0.
template <class Real, bool COMPLEX> struct Lane {
    using V = Vector<Real>;
    static constexpr int PER_VECTOR = lanes<Real> / (COMPLEX ? 2 : 1), PARTS = COMPLEX ? 2 : 1;

    static V read(const View<const Real>& view, int64_t row, int64_t t, int64_t c0, int count) {
        const Real* p = view.data + PARTS * (row * view.batch + t * view.time + c0 * view.dim);
        if (view.dim == 1 && count == PER_VECTOR) return load(p);
        V v = {};
        for (int c = 0; c < count; ++c)
            for (int part = 0; part < PARTS; ++part) v[c * PARTS + part] = p[PARTS * c * view.dim + part];
        return v;
    }
    static void write(Real* to, int64_t at, V v, int count) {
        if (count == PER_VECTOR) return store(to + PARTS * at, v);
        for (int i = 0; i < count * PARTS; ++i) to[PARTS * at + i] = v[i];
    }
};

template <class Real> View<const Real> contiguous(const Real* data, int64_t length, int64_t dim) {
    return {data, length * dim, dim, 1};
}

// The part of row `row` that a task works on: first, first + step, ..., `count` positions; `cut(t)`: no state flows into t.
template <class Real> struct Path {
    const LinearScan<Real>& s;
    int64_t row, end;
    Path(const LinearScan<Real>& s_, int64_t row_) : s(s_), row(row_), end(s_.lengths ? s_.lengths[row_] : s_.length) {}
    int64_t position(int64_t i) const { return s.reverse ? end - 1 - i : i; }
    // A reset before t cuts the link between t - 1 and t in both directions.
    bool cut(int64_t t) const {
        const int64_t at = s.reverse ? t + 1 : t;
        return s.reset && at < end && s.reset[row * s.length + at];
    }
};

template <class Real, bool COMPLEX> void zero_rest(const Path<Real>& path, Real* to, int64_t c0, int64_t count) {
    using L = Lane<Real, COMPLEX>;
    if (!to) return;
    for (int64_t t = path.end; t < path.s.length; ++t)
        std::fill_n(to + L::PARTS * ((path.row * path.s.length + t) * path.s.dim + c0), L::PARTS * count, Real(0));
}

template <class Real, bool COMPLEX, int N> void forward(const LinearScan<Real>& s, int64_t row, int64_t c0, int64_t width) {
    using V = Vector<Real>;
    using L = Lane<Real, COMPLEX>;
    const Path<Real> path(s, row);
    int count[N];
    V h[N] = {};
    Factor<Real, COMPLEX> a[N];
    for (int v = 0; v < N; ++v) {
        count[v] = int(std::min<int64_t>(L::PER_VECTOR, width - v * L::PER_VECTOR));
        const int64_t c = c0 + v * L::PER_VECTOR;
        if (s.initial) h[v] = L::read(contiguous(s.initial, 1, s.dim), row, 0, c, count[v]);
        if (s.a.time == 0 && path.end > 0) a[v] = {L::read(s.a, row, 0, c, count[v]), false};
    }
    for (int64_t i = 0; i < path.end; ++i) {
        const int64_t t = path.position(i);
        const bool cut = path.cut(t);
#pragma GCC unroll 4
        for (int v = 0; v < N; ++v) {
            const int64_t c = c0 + v * L::PER_VECTOR;
            const V b = L::read(s.b, row, t, c, count[v]);
            if (s.a.time != 0) a[v] = {L::read(s.a, row, t, c, count[v]), false};
            h[v] = cut ? b : a[v].times(h[v], b);
            L::write(s.states, (row * s.length + t) * s.dim + c, h[v], count[v]);
        }
    }
    for (int v = 0; v < N; ++v) L::write(s.final, row * s.dim + c0 + v * L::PER_VECTOR, h[v], count[v]);
    zero_rest<Real, COMPLEX>(path, s.states, c0, width);
}

template <class Real, bool COMPLEX, int N> void backward(const LinearScan<Real>& s, int64_t row, int64_t c0, int64_t width) {
    using V = Vector<Real>;
    using L = Lane<Real, COMPLEX>;
    const Path<Real> path(s, row);
    int count[N];
    V g[N] = {}, sum[N] = {};
    Factor<Real, COMPLEX> a[N];
    for (int v = 0; v < N; ++v) {
        count[v] = int(std::min<int64_t>(L::PER_VECTOR, width - v * L::PER_VECTOR));
        const int64_t c = c0 + v * L::PER_VECTOR;
        if (s.grad_final) g[v] = L::read(contiguous(s.grad_final, 1, s.dim), row, 0, c, count[v]);
        if (s.a.time == 0 && path.end > 0) a[v] = {L::read(s.a, row, 0, c, count[v]), true};
    }
    for (int64_t i = path.end - 1; i >= 0; --i) {
        const int64_t t = path.position(i);
        const bool cut = path.cut(t);
#pragma GCC unroll 4
        for (int v = 0; v < N; ++v) {  // g holds the gradient of h[t] that comes from later positions
            const int64_t c = c0 + v * L::PER_VECTOR;
            g[v] += L::read(s.grad_h, row, t, c, count[v]);
            L::write(s.states, (row * s.length + t) * s.dim + c, g[v], count[v]);
            if (s.grad_a) {
                V before = {};
                if (!cut && i > 0) before = L::read(s.h, row, path.position(i - 1), c, count[v]);
                if (!cut && i == 0 && s.initial) before = L::read(contiguous(s.initial, 1, s.dim), row, 0, c, count[v]);
                V da = g[v] * before;
                if constexpr (COMPLEX) {  // g conj(h)
                    const Factor<Real, true> conjugate(before, true);
                    da = conjugate.times(g[v], V{});
                }
                if (s.sum_grad_a) sum[v] += da;
                else L::write(s.grad_a, (row * s.length + t) * s.dim + c, da, count[v]);
            }
            if (s.a.time != 0) a[v] = {L::read(s.a, row, t, c, count[v]), true};
            g[v] = cut ? V{} : a[v].times(g[v], V{});
        }
    }
    for (int v = 0; v < N; ++v) {
        const int64_t at = row * s.dim + c0 + v * L::PER_VECTOR;
        if (s.final) L::write(s.final, at, g[v], count[v]);
        if (s.grad_a && s.sum_grad_a) L::write(s.grad_a, at, sum[v], count[v]);
    }
    zero_rest<Real, COMPLEX>(path, s.states, c0, width);
    if (!s.sum_grad_a) zero_rest<Real, COMPLEX>(path, s.grad_a, c0, width);
}

template <class Real, bool COMPLEX, bool BACKWARD> void run(const LinearScan<Real>& s) {
    constexpr int64_t per_vector = Lane<Real, COMPLEX>::PER_VECTOR, per_task = TILE * per_vector;
    const int64_t tasks = (s.dim + per_task - 1) / per_task;
    const auto work = [&](auto vectors, int64_t row, int64_t c0, int64_t width) {
        constexpr int N = decltype(vectors)::value;
        if constexpr (BACKWARD) backward<Real, COMPLEX, N>(s, row, c0, width);
        else forward<Real, COMPLEX, N>(s, row, c0, width);
    };
#pragma omp parallel for num_threads(s.threads) schedule(dynamic)
    for (int64_t task = 0; task < tasks * s.batch; ++task) {
        const int64_t row = task / tasks, c0 = (task % tasks) * per_task, width = std::min(per_task, s.dim - c0);
        switch ((width + per_vector - 1) / per_vector) {
            case 1: work(std::integral_constant<int, 1>{}, row, c0, width); break;
            case 2: work(std::integral_constant<int, 2>{}, row, c0, width); break;
            case 3: work(std::integral_constant<int, 3>{}, row, c0, width); break;
            default: work(std::integral_constant<int, TILE>{}, row, c0, width);
        }
    }
}

}  // namespace

template <class Real> void linear_scan(const LinearScan<Real>& s) {
    s.is_complex ? run<Real, true, false>(s) : run<Real, false, false>(s);
}
template <class Real> void linear_scan_backward(const LinearScan<Real>& s) {
    s.is_complex ? run<Real, true, true>(s) : run<Real, false, true>(s);
}

template void linear_scan<float>(const LinearScan<float>&);
template void linear_scan<double>(const LinearScan<double>&);
template void linear_scan_backward<float>(const LinearScan<float>&);
template void linear_scan_backward<double>(const LinearScan<double>&);

}  // namespace longwave::LONGWAVE_ISA
