// One position of a Mamba layer, written into the state where it lies, as decoding wants it.
//
// The convolution forgets its oldest input, and of a selective state space each channel goes on by
//
//     h = exp(dt A) h + dt u B,   y = (C . h + D u) silu(z)
//
// Vectors lie along the states, where memory is contiguous; what a channel has one number of is made for a task's channels
// at once, in their lanes. A task is CHANNELS channels of a row of the batch.
//
// A whole mixer is these two between products that read a matrix each, for which nothing has to pass through Python.
#include <algorithm>

#include "exponential.hpp"
#include "kernels.hpp"
#include "lanes.hpp"
#include "scratch.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

constexpr int CHANNELS = 64;

// x = f(x, c), for the vectors of a task's channels, `first` and on; what lies beyond the last channel is nobody's.
template <class Real, class Function> void each(Real (&x)[CHANNELS], Function f) {
    for (int i = 0; i < CHANNELS; i += lanes<Real>) store(x + i, f(load(x + i), i));
}

template <class V, class Real> V between(V x, Real low, Real high) {
    const V least = V{} + low, most = V{} + high, raised = x < least ? least : x;
    return raised > most ? most : raised;
}

template <class Real> struct Advance {
    using V = Vector<Real>;
    static constexpr int W = lanes<Real>;

    const StateAdvance<Real>& s;
    const int64_t batch = s.batch, row = s.heads * s.dim, group = row / s.groups;  // channels of each

    void run(int64_t m, int64_t first) const {
        const int n = int(std::min<int64_t>(CHANNELS, row - first));
        Real dt[CHANNELS] = {}, decay[CHANNELS] = {}, y[CHANNELS] = {};
        for (int i = 0; i < n; ++i) {
            const int64_t at = s.per_head ? (first + i) / s.dim : first + i;
            dt[i] = s.dt[m][at] + (s.bias ? s.bias[at] : Real(0));
            if (s.per_head) decay[i] = s.a[at];
        }
        if (s.softplus) each(dt, [](V x, int) { return Softplus<Real>(x).value; });
        each(dt, [&](V x, int) { return between(x, Real(s.limits[0]), Real(s.limits[1])); });
        if (s.per_head) each(decay, [&](V x, int i) { return exponential<Real>(x * load(dt + i)); });
        for (int i = 0; i < n; ++i) y[i] = channel(m, first + i, dt[i], decay[i]);
        if (s.z.data) each(y, [&](V x, int i) { return x * Silu<Real>(load(s.z[m] + first + i, std::max(n - i, 0))).value; });
        std::copy_n(y, n, s.y + m * row + first);
    }
    Real channel(int64_t m, int64_t c, Real dt, Real decay) const {
        const int64_t shared = c / group * s.states;
        const Real *a = s.per_head ? nullptr : s.a + c * s.states, *b = s.b[m] + shared, *k = s.c[m] + shared;
        const Real u = s.u[m][c], drive = dt * u;
        Real* h = s.h + (m * row + c) * s.states;
        V sum = {};
        for (int64_t n = 0; n < s.states; n += W) {
            const int64_t left = s.states - n;
            const V kept = a ? exponential<Real>(load(a + n, left) * dt) : V{} + decay;
            const V now = kept * load(h + n, left) + drive * load(b + n, left);
            store(h + n, now, left);
            sum += load(k + n, left) * now;
        }
        return across<Real>(sum) + (s.d ? s.d[c] * u : Real(0));
    }
};

template <class Real> struct Slide {
    using V = Vector<Real>;
    const WindowSlide<Real>& s;
    const int64_t batch = s.batch, row = s.dim;

    void run(int64_t m, int64_t first) const {
        const int n = int(std::min<int64_t>(CHANNELS, row - first));
        Real y[CHANNELS] = {};
        for (int i = 0; i < n; ++i) y[i] = channel(m, first + i);
        if (s.silu) each(y, [](V x, int) { return Silu<Real>(x).value; });
        std::copy_n(y, n, s.y + m * row + first);
    }
    Real channel(int64_t m, int64_t c) const {
        const int64_t last = s.width - 1;
        const Real* weight = s.weight + c * s.width;
        Real *window = s.window + (m * row + c) * s.width, sum = s.bias ? s.bias[c] : Real(0);
        for (int64_t j = 0; j < last; ++j) sum += weight[j] * (window[j] = window[j + 1]);
        return sum + weight[last] * (window[last] = s.x[m][c]);
    }
};

template <class Task> void in_parallel(const Task& task, int threads) {
    const int64_t blocks = ceil_div(task.row, CHANNELS);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < task.batch * blocks; ++i) task.run(i / blocks, i % blocks * CHANNELS);
}

template <class Real> struct Mixer {
    const MixerToken<Real>& s;
    const int64_t inner = s.heads * s.dim, modes = s.groups * s.states;

    // in_proj makes u and z; of u comes (dt, B, C), of that dt for every channel.
    void mamba() const {
        const int64_t made = s.rank + 2 * modes;
        Real *uz = memory(5 * inner + made), *u = uz + s.batch * 2 * inner, *dt = u + s.batch * inner, *y = dt + s.batch * inner,
             *selected = y + s.batch * inner;
        map(s.in, s.in_bias, {s.x, s.dim_in}, s.dim_in, uz, 2 * inner);
        convolve({uz, 2 * inner}, u, inner);
        map(s.select, nullptr, {u, inner}, inner, selected, made);
        map(s.step, nullptr, {selected, made}, s.rank, dt, inner);
        const Real *B = selected + s.rank, *C = B + modes;
        advance({u, inner}, {dt, inner}, {B, made}, {C, made}, {uz + inner, 2 * inner}, y);
        map(s.out, s.out_bias, {y, inner}, inner, s.y, s.dim_out);
    }
    // in_proj makes z, (u, B, C) and dt of every head.
    void mamba2() const {
        const int64_t channels = inner + 2 * modes, made = inner + channels + s.heads;
        Real *z = memory(made + channels + 2 * inner), *u = z + s.batch * made, *y = u + s.batch * channels,
             *normed = y + s.batch * inner;
        map(s.in, s.in_bias, {s.x, s.dim_in}, s.dim_in, z, made);
        convolve({z + inner, made}, u, channels);
        const Real *B = u + inner, *C = B + modes;
        advance({u, channels}, {z + inner + channels, made}, {B, channels}, {C, channels}, {s.norm ? nullptr : z, made}, y);
        if (s.norm)
            gated_norm<Real>({s.batch, inner / s.norm_size, s.norm_size, s.norm_first, s.eps, {y, 0, inner, 1}, {z, 0, made, 1}, {},
                              s.norm, normed, nullptr, nullptr, 1});
        map(s.out, s.out_bias, {s.norm ? normed : y, inner}, inner, s.y, s.dim_out);
    }

  private:
    // The parts' own scratch is of vectors, so this one is left alone.
    Real* memory(int64_t n) const { return scratch<Real>(s.batch * n); }

    void map(const Real* matrix, const Real* bias, Rows<Real> x, int64_t in, Real* y, int64_t out) const {
        linear<Real>({s.batch, in, out, {x.data, 0, x.stride, 1}, {matrix, 0, in, 1}, {}, bias, y, nullptr, s.threads});
    }
    void convolve(Rows<Real> x, Real* y, int64_t dim) const {
        window_slide<Real>({s.batch, dim, s.width, true, s.window, x, s.taps, s.taps_bias, y, s.threads});
    }
    void advance(Rows<Real> u, Rows<Real> dt, Rows<Real> B, Rows<Real> C, Rows<Real> z, Real* y) const {
        state_advance<Real>({s.batch, s.heads, s.groups, s.dim, s.states, s.rank == 0, true, s.limits, s.h, u, dt, s.a, B, C, s.d, z,
                             s.dt_bias, y, s.threads});
    }
};

}  // namespace

template <class Real> void state_advance(const StateAdvance<Real>& s) { in_parallel(Advance<Real>{s}, s.threads); }
template <class Real> void window_slide(const WindowSlide<Real>& s) { in_parallel(Slide<Real>{s}, s.threads); }
template <class Real> void mixer_token(const MixerToken<Real>& s) { s.rank ? Mixer<Real>{s}.mamba() : Mixer<Real>{s}.mamba2(); }

template void state_advance<float>(const StateAdvance<float>&);
template void state_advance<double>(const StateAdvance<double>&);
template void window_slide<float>(const WindowSlide<float>&);
template void window_slide<double>(const WindowSlide<double>&);
template void mixer_token<float>(const MixerToken<float>&);
template void mixer_token<double>(const MixerToken<double>&);

}  // namespace longwave::LONGWAVE_ISA
