// A mean of values with weights e^k that decay: the attention of RWKV version 4, forward and backward.
//
// The state is the mean m of what was read, and its weight e^L. One more value enters with weight e^x:
//
//     add(m, L; x, v) = ((1 - s) m + s v,  log(e^L + e^x)),   s = e^x / (e^L + e^x)
//
//     y[t]       = the mean of add(m[t-1], L[t-1]; k[t] + u, v[t])
//     m[t], L[t] = add(m[t-1], L[t-1] + w; k[t], v[t])
//
// Here the weight is D e^o with the largest exponent o that there was, so nothing overflows, 1 <= D, and no logarithm is taken
// before the last position. The adjoint of add, for gradients dm', dL' of its result:
//
//     q = dm' (v - m) s (1 - s),   dm = (1 - s) dm',   dv = s dm',   dx = q + s dL',   dL = (1 - s) dL' - q
//
// A task is one row and TILE vectors of channels. The forward pass leaves a checkpoint at the beginning of each chunk of
// positions, and the backward pass recomputes m and both shares of a chunk from it. A value that begins a sequence takes all
// of the mean; the share before it is zero, and with it all gradients that would go there.
#include <algorithm>
#include <cmath>

#include "exponential.hpp"
#include "kernels.hpp"
#include "lanes.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

constexpr int TILE = 2;            // vectors of a task: two chains of exponentials side by side
constexpr double NOTHING = -1e38;  // L of no value: finite, so that differences of it are numbers

template <class Real> struct Mean {
    using V = Vector<Real>;
    V m = {}, D = V{} + 1, o = V{} + Real(NOTHING);
};

// The parts of a new mean that are the value added and the mean before.
template <class V> struct Shares {
    V fresh, old;
};

// Adds v with weight e^x. The mean moves from the nearer end by the smaller share, whose error then counts with the distance
// alone; and 1 minus the smaller share keeps its relative precision.
template <class Real> inline Shares<Vector<Real>> add(Mean<Real>& s, Vector<Real> x, Vector<Real> v) {
    using V = Vector<Real>;
    const V one = V{} + 1, e = exp_minus_abs<Real>(s.o - x), apart = v - s.m;
    const V old = s.D * (s.o < x ? e : one), fresh = s.o < x ? one : e;
    s.D = old + fresh;
    s.o = s.o < x ? x : s.o;
    const V small = (fresh < old ? fresh : old) / s.D, large = one - small;
    s.m = fresh < old ? s.m + small * apart : v - small * apart;
    return {fresh < old ? small : large, fresh < old ? large : small};
}

// A sum over all positions that keeps what a rounding takes from it for the next term: the terms cancel, and are many.
template <class V> struct Sum {
    V sum = {}, lost = {};
    void add(V x) {
        const V term = x - lost, after = sum + term;
        lost = (after - sum) - term;
        sum = after;
    }
};

// One row and N vectors of channels from c0, of which the last may be short.
template <class Real, int N> struct Task {
    using V = Vector<Real>;
    using State = Mean<Real>;
    static constexpr int W = lanes<Real>;
    const WKV<Real>& s;
    const int64_t row, c0, chunks = (s.length + WKV_CHUNK - 1) / WKV_CHUNK;
    int count[N];
    V w[N], u[N];

    Task(const WKV<Real>& s_, int64_t row_, int64_t c0_) : s(s_), row(row_), c0(c0_) {
        for (int n = 0; n < N; ++n) {
            count[n] = int(std::min<int64_t>(W, s.dim - c0 - n * W));
            w[n] = read(s.w + c0, 1, n);
            u[n] = read(s.u + c0, 1, n);
        }
    }

    V read(const Real* from, int64_t stride, int n) const {
        from += n * W * stride;
        if (stride == 1 && count[n] == W) return load(from);
        V v = {};
        for (int i = 0; i < count[n]; ++i) v[i] = from[i * stride];
        return v;
    }
    V read(const View<const Real>& x, int64_t t, int n) const {
        return read(x.data + row * x.batch + t * x.time + c0 * x.dim, x.dim, n);
    }
    void write(Real* to, int n, V v) const {
        to += n * W;
        if (count[n] == W) return store(to, v);
        for (int i = 0; i < count[n]; ++i) to[i] = v[i];
    }
    // Where the task's channels lie in a (batch, parts, dim) tensor.
    template <class T> T* in(T* tensor, int64_t parts, int64_t of) const { return tensor + (row * parts + of) * s.dim + c0; }

    Mark mark(int64_t t) const { return s.marks ? Mark(s.marks[row * s.length + t]) : GOES_ON; }

    void save(int64_t chunk, const State (&state)[N]) const {
        for (int n = 0; n < N; ++n) {
            write(in(s.checkpoints, 3 * chunks, 3 * chunk), n, state[n].m);
            write(in(s.checkpoints, 3 * chunks, 3 * chunk + 1), n, state[n].D);
            write(in(s.checkpoints, 3 * chunks, 3 * chunk + 2), n, state[n].o);
        }
    }
    State saved(int64_t chunk, int n) const {
        return {read(in(s.checkpoints, 3 * chunks, 3 * chunk), 1, n), read(in(s.checkpoints, 3 * chunks, 3 * chunk + 1), 1, n),
                read(in(s.checkpoints, 3 * chunks, 3 * chunk + 2), 1, n)};
    }

    void forward() const {
        State state[N];
        if (s.initial)
            for (int n = 0; n < N; ++n) {
                state[n].m = read(in(s.initial, 2, 0), 1, n);
                state[n].o = read(in(s.initial, 2, 1), 1, n);
            }
        for (int64_t t = 0; t < s.length; ++t) {
            if (s.checkpoints && t % WKV_CHUNK == 0) save(t / WKV_CHUNK, state);
            const Mark marked = mark(t);
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) {
                if (marked == PADDING) {
                    write(in(s.y, s.length, t), n, V{});
                    continue;
                }
                if (marked == BEGINS) state[n] = {};
                const V k = read(s.k, t, n), v = read(s.v, t, n);
                State now = state[n];
                add(now, k + u[n], v);
                write(in(s.y, s.length, t), n, now.m);
                state[n].o += w[n];
                add(state[n], k, v);
            }
        }
        for (int n = 0; n < N; ++n) {
            V L = state[n].o;
            for (int i = 0; i < W; ++i) L[i] += std::log(state[n].D[i]);
            write(in(s.final, 2, 0), n, state[n].m);
            write(in(s.final, 2, 1), n, L);
        }
    }

    // What the backward pass needs of a position: the mean before it, and the shares in the output and in the state.
    struct Position {
        V m;
        Shares<V> output, state;
    };

    void recompute(int64_t chunk, Position (&past)[WKV_CHUNK][N]) const {
        const int64_t begin = chunk * WKV_CHUNK, end = std::min<int64_t>(begin + WKV_CHUNK, s.length);
        State state[N];
        for (int n = 0; n < N; ++n) state[n] = saved(chunk, n);
        for (int64_t t = begin; t < end; ++t) {
            const Mark marked = mark(t);
            if (marked == PADDING) continue;
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) {
                if (marked == BEGINS) state[n] = {};
                const V k = read(s.k, t, n), v = read(s.v, t, n);
                Position& here = past[t - begin][n];
                State now = state[n];
                here.m = state[n].m;
                here.output = add(now, k + u[n], v);
                state[n].o += w[n];
                here.state = add(state[n], k, v);
            }
        }
    }

    void backward() const {
        V dm[N] = {}, dL[N] = {};  // gradients of the state after t that come from later positions
        Sum<V> dw[N], du[N];
        if (s.grad_final)
            for (int n = 0; n < N; ++n) {
                dm[n] = read(in(s.grad_final, 2, 0), 1, n);
                dL[n] = read(in(s.grad_final, 2, 1), 1, n);
            }
        Position past[WKV_CHUNK][N];
        for (int64_t chunk = chunks - 1; chunk >= 0; --chunk) {
            recompute(chunk, past);
            for (int64_t t = std::min<int64_t>((chunk + 1) * WKV_CHUNK, s.length) - 1; t >= chunk * WKV_CHUNK; --t) {
                const Mark marked = mark(t);
#pragma GCC unroll 4
                for (int n = 0; n < N; ++n) {
                    V dk = {}, dv = {};
                    if (marked != PADDING) {
                        const V dy = read(s.grad_y, t, n), v = read(s.v, t, n);
                        const auto [m, output, state] = past[t - chunk * WKV_CHUNK][n];
                        const V p = dy * (v - m) * (output.fresh * output.old), q = dm[n] * (v - m) * (state.fresh * state.old);
                        const V decayed = state.old * dL[n] - q;  // the gradient of L + w
                        dk = p + q + state.fresh * dL[n];
                        dv = output.fresh * dy + state.fresh * dm[n];
                        dm[n] = output.old * dy + state.old * dm[n];
                        dL[n] = decayed - p;
                        dw[n].add(decayed);
                        du[n].add(p);
                    }
                    write(in(s.grad_k, s.length, t), n, dk);
                    write(in(s.grad_v, s.length, t), n, dv);
                }
            }
        }
        for (int n = 0; n < N; ++n) {
            write(in(s.grad_w, 1, 0), n, dw[n].sum);
            write(in(s.grad_u, 1, 0), n, du[n].sum);
            write(in(s.grad_initial, 2, 0), n, dm[n]);
            write(in(s.grad_initial, 2, 1), n, dL[n]);
        }
    }
};

template <class Real, bool BACKWARD> void run(const WKV<Real>& s) {
    constexpr int64_t width = lanes<Real>;
    const int64_t tasks = (s.dim + TILE * width - 1) / (TILE * width);
    const auto work = [](const auto& task) {
        if constexpr (BACKWARD) task.backward();
        else task.forward();
    };
#pragma omp parallel for num_threads(s.threads) schedule(dynamic)
    for (int64_t i = 0; i < tasks * s.batch; ++i) {
        const int64_t row = i / tasks, c0 = (i % tasks) * TILE * width;
        if (s.dim - c0 > width) work(Task<Real, TILE>(s, row, c0));
        else work(Task<Real, 1>(s, row, c0));
    }
}

}  // namespace

template <class Real> void wkv(const WKV<Real>& s) { run<Real, false>(s); }
template <class Real> void wkv_backward(const WKV<Real>& s) { run<Real, true>(s); }

template void wkv<float>(const WKV<float>&);
template void wkv<double>(const WKV<double>&);
template void wkv_backward<float>(const WKV<float>&);
template void wkv_backward<double>(const WKV<double>&);

}  // namespace longwave::LONGWAVE_ISA
