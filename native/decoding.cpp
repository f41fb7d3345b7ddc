// One position between the projections of a Mamba layer, written into the state where it lies, as decoding wants it.
//
// The convolution forgets its oldest input, and of a selective state space each channel goes on by
//
//     h = exp(dt A) h + dt u B,   y = (C . h + D u) silu(z)
//
// Vectors lie along the states, where memory is contiguous; what a channel has one number of is made for a task's channels
// at once, in their lanes. A task is CHANNELS channels, counted through the rows of the batch.
#include <algorithm>

#include "exponential.hpp"
#include "kernels.hpp"
#include "lanes.hpp"

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
    const int64_t row = s.heads * s.dim, count = s.batch * row;

    void run(int64_t first) const {
        const int n = int(std::min<int64_t>(CHANNELS, count - first));
        Real dt[CHANNELS] = {}, decay[CHANNELS] = {}, y[CHANNELS] = {};
        for (int i = 0; i < n; ++i) {
            const int64_t c = first + i, at = s.per_head ? c / s.dim : c;
            dt[i] = s.dt[at] + (s.bias ? s.bias[at % (s.per_head ? s.heads : row)] : Real(0));
        }
        if (s.softplus) each(dt, [](V x, int) { return Softplus<Real>(x).value; });
        each(dt, [&](V x, int) { return between(x, Real(s.limits[0]), Real(s.limits[1])); });
        if (s.per_head) {
            for (int i = 0; i < n; ++i) decay[i] = s.a[(first + i) / s.dim % s.heads] * dt[i];
            each(decay, [](V x, int) { return exponential<Real>(x); });
        }
        for (int i = 0; i < n; ++i) y[i] = channel(first + i, dt[i], decay[i]);
        if (s.z) each(y, [&](V x, int i) { return x * Silu<Real>(load(s.z + first + i, std::max(n - i, 0))).value; });
        std::copy_n(y, n, s.y + first);
    }
    Real channel(int64_t c, Real dt, Real decay) const {
        const int64_t group = c / row * s.groups + c % row / s.dim / (s.heads / s.groups);
        const Real *a = s.per_head ? nullptr : s.a + c % row * s.states, *b = s.b + group * s.states, *k = s.c + group * s.states;
        const Real drive = dt * s.u[c];
        Real* h = s.h + c * s.states;
        V sum = {};
        for (int64_t n = 0; n < s.states; n += W) {
            const int64_t left = s.states - n;
            const V kept = a ? exponential<Real>(load(a + n, left) * dt) : V{} + decay;
            const V now = kept * load(h + n, left) + drive * load(b + n, left);
            store(h + n, now, left);
            sum += load(k + n, left) * now;
        }
        return across<Real>(sum) + (s.d ? s.d[c % row] * s.u[c] : Real(0));
    }
};

template <class Real> struct Slide {
    using V = Vector<Real>;
    const WindowSlide<Real>& s;
    const int64_t count = s.batch * s.dim;

    void run(int64_t first) const {
        const int n = int(std::min<int64_t>(CHANNELS, count - first));
        Real y[CHANNELS] = {};
        for (int i = 0; i < n; ++i) y[i] = channel(first + i);
        if (s.silu) each(y, [](V x, int) { return Silu<Real>(x).value; });
        std::copy_n(y, n, s.y + first);
    }
    Real channel(int64_t c) const {
        const int64_t last = s.width - 1;
        const Real* weight = s.weight + c % s.dim * s.width;
        Real *window = s.window + c * s.width, sum = s.bias ? s.bias[c % s.dim] : Real(0);
        for (int64_t j = 0; j < last; ++j) sum += weight[j] * (window[j] = window[j + 1]);
        return sum + weight[last] * (window[last] = s.x[c]);
    }
};

template <class Task> void in_parallel(const Task& task, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t first = 0; first < task.count; first += CHANNELS) task.run(first);
}

}  // namespace

template <class Real> void state_advance(const StateAdvance<Real>& s) { in_parallel(Advance<Real>{s}, s.threads); }
template <class Real> void window_slide(const WindowSlide<Real>& s) { in_parallel(Slide<Real>{s}, s.threads); }

template void state_advance<float>(const StateAdvance<float>&);
template void state_advance<double>(const StateAdvance<double>&);
template void window_slide<float>(const WindowSlide<float>&);
template void window_slide<double>(const WindowSlide<double>&);

}  // namespace longwave::LONGWAVE_ISA
