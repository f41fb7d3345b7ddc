// Mamba's selective scan, forward and backward. For each channel, with N states,
//
//     dt[t] = softplus(delta[t] + bias)                                   (or delta[t] + bias itself)
//     h[t]  = exp(dt[t] A) h[t-1] + dt[t] u[t] B[t]                       A (N,); B, C (N,), constant or given for each position
//     y[t]  = (C[t] . h[t] + D u[t]) silu(z[t])                           complex A, B, C: 2 Re(C . h)
//
// and the adjoint, from the last position to the first, with o = dL/dy silu(z) and g = dL/dh,
//
//     g[t]  = conj(C[t]) o[t] + conj(exp(dt[t+1] A)) g[t+1]
//     dC[t] = o[t] conj(h[t]),   dB[t] = dt[t] u[t] g[t],   s[t] = Re(conj(B[t]) . g[t])
//     dx[t] = conj(exp(dt[t] A) h[t-1]) g[t]                              of the exponent x = dt A
//     du[t] = D o[t] + dt[t] s[t],   ddt[t] = u[t] s[t] + Re(conj(A) . dx[t]),   dA = sum_t dt[t] dx[t]
//
// Lanes are channels. A tile of states goes through a chunk of positions with its states in registers: the exponentials
// of a position do not wait on one another, and only one multiply-add per state is a recurrence. What depends on the
// position alone (dt, dt u, the gate) is made once for all states. Real A is kept in units of log 2, so that exp(dt A) is
// 2^(dt A), without a reduction of its argument.
//
// The forward pass leaves the states at the beginning of each chunk; the backward pass runs the chunk again from there and
// keeps exponentials and states of one tile. A task is a row and a strip of up to STRIP blocks of channels; dB and dC are
// added up over the strip's channels, in lanes first, and over the strips outside. So results do not depend on the threads.
#include <algorithm>
#include <cmath>
#include <utility>

#include "exponential.hpp"
#include "kernels.hpp"
#include "lanes.hpp"
#include "scratch.hpp"
#include "sequences.hpp"
#include "threads.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

constexpr int CHUNK = SELECTIVE_SCAN_CHUNK, STRIP = SELECTIVE_SCAN_STRIP, TILE = SELECTIVE_SCAN_TILE;
constexpr int SHORT_SUM = 8;     // positions that dA is added up over before they join the total: a long sum rounds too often
static_assert(CHUNK >= STRIP);  // the same memory holds constant coefficients of a strip and varying ones of a chunk

// ---- a number per lane, real or complex ------------------------------------------------------------------------------

template <class T, bool COMPLEX> struct Number {
    T re = {};
    static constexpr int PARTS = 1;
    Number() = default;
    Number(T re_) : re(re_) {}
    static Number read(const T* p) { return {p[0]}; }
    void write(T* p) const { p[0] = re; }
};
template <class T> struct Number<T, true> {
    T re = {}, im = {};
    static constexpr int PARTS = 2;
    Number() = default;
    Number(T re_, T im_) : re(re_), im(im_) {}
    static Number read(const T* p) { return {p[0], p[1]}; }
    void write(T* p) const { p[0] = re, p[1] = im; }
};

// x y + z, and x conj(y) + z; y may be one number for all lanes.
template <class V, class E> inline Number<V, false> times_plus(Number<V, false> x, Number<E, false> y, Number<V, false> z) {
    return {x.re * y.re + z.re};
}
template <class V, class E> inline Number<V, true> times_plus(Number<V, true> x, Number<E, true> y, Number<V, true> z) {
    return {x.re * y.re + (z.re - x.im * y.im), x.re * y.im + (x.im * y.re + z.im)};
}
template <class V, class E> inline Number<V, false> times_conj_plus(Number<V, false> x, Number<E, false> y, Number<V, false> z) {
    return {x.re * y.re + z.re};
}
template <class V, class E> inline Number<V, true> times_conj_plus(Number<V, true> x, Number<E, true> y, Number<V, true> z) {
    return {x.re * y.re + (x.im * y.im + z.re), x.im * y.re + (z.im - x.re * y.im)};
}
// s y, s conj(y) + z, for real s
template <class V, class E> inline Number<V, false> scaled(V s, Number<E, false> y) { return {s * y.re}; }
template <class V, class E> inline Number<V, true> scaled(V s, Number<E, true> y) { return {s * y.re, s * y.im}; }
template <class V> inline Number<V, false> scaled_plus(V s, Number<V, false> y, Number<V, false> z) { return {s * y.re + z.re}; }
template <class V> inline Number<V, true> scaled_plus(V s, Number<V, true> y, Number<V, true> z) {
    return {s * y.re + z.re, s * y.im + z.im};
}
template <class V, class E> inline Number<V, false> conj_scaled_plus(V s, Number<E, false> y, Number<V, false> z) {
    return {s * y.re + z.re};
}
template <class V, class E> inline Number<V, true> conj_scaled_plus(V s, Number<E, true> y, Number<V, true> z) {
    return {s * y.re + z.re, z.im - s * y.im};
}
// Re(x y) + z, Re(x conj(y)) + z
template <class V, class E> inline V real_plus(Number<V, false> x, Number<E, false> y, V z) { return x.re * y.re + z; }
template <class V, class E> inline V real_plus(Number<V, true> x, Number<E, true> y, V z) {
    return x.re * y.re + (z - x.im * y.im);
}
template <class V, class E> inline V real_conj_plus(Number<V, false> x, Number<E, false> y, V z) { return x.re * y.re + z; }
template <class V, class E> inline V real_conj_plus(Number<V, true> x, Number<E, true> y, V z) {
    return x.re * y.re + (x.im * y.im + z);
}
// Of the exponent's gradient: its parts times those of A, which are in different units.
template <class V> inline Number<V, false> parts_plus(Number<V, false> x, Number<V, false> y, Number<V, false> z) {
    return {x.re * y.re + z.re};
}
template <class V> inline Number<V, true> parts_plus(Number<V, true> x, Number<V, true> y, Number<V, true> z) {
    return {x.re * y.re + z.re, x.im * y.im + z.im};
}

// exp(dt A), with real A in units of log 2. TAME: 2^(dt Re A) is known to be a normal number.
template <class Real, bool TAME> inline Number<Vector<Real>, false> decay(Vector<Real> dt, Number<Vector<Real>, false> A) {
    if constexpr (TAME) return {exp2_tame<Real>(dt * A.re)};
    else return {exp2<Real>(dt * A.re)};
}
template <class Real, bool TAME> inline Number<Vector<Real>, true> decay(Vector<Real> dt, Number<Vector<Real>, true> A) {
    const Vector<Real> size = exponential<Real>(dt * A.re);
    const SineCosine<Real> turn(dt * A.im);
    return {size * turn.cosine, size * turn.sine};
}

// ---- a tile of states through a chunk of positions -------------------------------------------------------------------

// B or C: `step` apart from one position to the next; single numbers, or one for each lane.
template <class E> struct Coefficient {
    E* at;
    int64_t step;
};

// What the states of a chunk share, position by position.
template <class V> struct Positions {
    const uint8_t* marks;
    V *dt, *u, *drive, *out;                 // drive = dt u; out: C . h, added up over the tiles
    V *gate, *slope, *grad_y, *grad_out, *sum, *exponent;  // backward; sum: s, exponent: Re(conj(A) . dx)
    static constexpr int COUNT = 10;
    Positions(V* p) : marks(nullptr) {
        for (V** each : {&dt, &u, &drive, &out, &gate, &slope, &grad_y, &grad_out, &sum, &exponent}) *each = p, p += CHUNK;
    }
    bool begins(int t) const { return marks && marks[t] == BEGINS; }
    bool padding(int t) const { return marks && marks[t] == PADDING; }
};

template <class Real, bool COMPLEX, class E, bool TAME, bool KEEP>
void advance(const Positions<Vector<Real>>& w, int n, const Vector<Real>* A, Coefficient<const E> B, Coefficient<const E> C,
             Vector<Real>* state, Vector<Real>* kept) {
    using V = Vector<Real>;
    using Num = Number<V, COMPLEX>;
    using Coef = Number<E, COMPLEX>;
    constexpr int P = Num::PARTS, N = TILE / P;
    constexpr Real pair = COMPLEX ? 2 : 1;  // a complex state stands for itself and its conjugate
    Num h[N];
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) h[i] = Num::read(state + i * P);
    for (int t = 0; t < n; ++t) {
        if (w.begins(t)) {
#pragma GCC unroll 16
            for (int i = 0; i < N; ++i) h[i] = Num();
        }
        const V dt = w.dt[t], drive = w.drive[t];
        const E *b = B.at + t * B.step, *c = C.at + t * C.step;
        V y = {};
#pragma GCC unroll 16
        for (int i = 0; i < N; ++i) {
            const Num a = decay<Real, TAME>(dt, Num::read(A + i * P));
            h[i] = times_plus(a, h[i], scaled(drive, Coef::read(b + i * P)));
            y = real_plus(h[i], Coef::read(c + i * P), y);
            if constexpr (KEEP) {
                a.write(kept + (2 * t * N + i) * P);
                h[i].write(kept + ((2 * t + 1) * N + i) * P);
            }
        }
        w.out[t] += pair * y;
    }
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) h[i].write(state + i * P);
}

// `first`: the states before the chunk; `g`: the gradient of those after it, then of those before it.
template <class Real, bool COMPLEX, class E>
void retreat(const Positions<Vector<Real>>& w, int n, const Vector<Real>* A, Coefficient<const E> B, Coefficient<const E> C,
             const Vector<Real>* first, const Vector<Real>* kept, Vector<Real>* g, Vector<Real>* grad_A,
             Coefficient<Vector<Real>> grad_B, Coefficient<Vector<Real>> grad_C) {
    using V = Vector<Real>;
    using Num = Number<V, COMPLEX>;
    using Coef = Number<E, COMPLEX>;
    constexpr int P = Num::PARTS, N = TILE / P;
    constexpr Real pair = COMPLEX ? 2 : 1;
    Num carry[N], dA[N];
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) carry[i] = Num::read(g + i * P);
    for (int t = n - 1; t >= 0; --t) {
        const bool begins = w.begins(t);
        const V dt = w.dt[t], drive = w.drive[t], out = pair * w.grad_out[t];
        const E *b = B.at + t * B.step, *c = C.at + t * C.step;
        const V *a_ = kept + 2 * t * N * P, *h_ = a_ + N * P, *before_ = t == 0 ? first : h_ - 2 * N * P;
        V *db = grad_B.at + t * grad_B.step, *dc = grad_C.at + t * grad_C.step, sum = {};
        Num exponent;
#pragma GCC unroll 16
        for (int i = 0; i < N; ++i) {
            const Num a = Num::read(a_ + i * P), h = Num::read(h_ + i * P), A_ = Num::read(A + i * P);
            const Num before = begins ? Num() : Num::read(before_ + i * P);
            const Num dh = conj_scaled_plus(out, Coef::read(c + i * P), carry[i]);
            conj_scaled_plus(out, h, Num::read(dc + i * P)).write(dc + i * P);
            scaled_plus(drive, dh, Num::read(db + i * P)).write(db + i * P);
            sum = real_conj_plus(dh, Coef::read(b + i * P), sum);
            const Num back = times_conj_plus(dh, a, Num()), dx = times_conj_plus(back, before, Num());
            exponent = parts_plus(dx, A_, exponent);
            dA[i] = scaled_plus(dt, dx, dA[i]);
            carry[i] = begins ? Num() : back;
        }
        w.sum[t] += sum;
        if constexpr (COMPLEX) w.exponent[t] += exponent.re + exponent.im;
        else w.exponent[t] += LN_2<Real> * exponent.re;
        if (t % SHORT_SUM) continue;
#pragma GCC unroll 16
        for (int i = 0; i < N; ++i) {
            scaled_plus(V{} + Real(1), dA[i], Num::read(grad_A + i * P)).write(grad_A + i * P);
            dA[i] = Num();
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) carry[i].write(g + i * P);
}

// ---- a strip of blocks -----------------------------------------------------------------------------------------------

// Where things are: blocks of one vector of channels, strips of neighbouring blocks; both end where a group does.
template <class Real> struct Plan {
    static constexpr int W = lanes<Real>;
    const SelectiveScan<Real>& s;
    const int64_t parts = s.is_complex ? 2 : 1, per_group = s.dim / std::max<int64_t>(1, s.groups);
    const int64_t blocks = (per_group + W - 1) / W, strips = (blocks + STRIP - 1) / STRIP;  // of a group
    const int64_t size = (s.states * parts + TILE - 1) / TILE * TILE;                      // vectors of a block's states
    const int64_t chunks = (s.length + CHUNK - 1) / CHUNK;
    int64_t tasks() const { return s.batch * s.groups * strips; }
};

template <class Real, bool COMPLEX> struct Strip {
    using V = Vector<Real>;
    static constexpr int W = lanes<Real>, P = COMPLEX ? 2 : 1;

    const Plan<Real>& plan;
    const SelectiveScan<Real>& s = plan.s;
    const int64_t size = plan.size, row, group, strip, first, count;
    const bool shared = s.varying_B && s.varying_C;  // one number of B and C for all lanes
    bool tame[STRIP];
    Real largest[STRIP];                             // |Re A| of a block, in units of log 2
    Positions<V> w;
    V *state, *A, *B, *C;                            // STRIP blocks each; B, C: constant ones, or CHUNK positions of a varying one
    V *grad_state, *grad_A, *grad_B, *grad_C, *kept; // backward
    Real *b, *c;                                     // CHUNK positions of both, shared

    static int64_t memory(const Plan<Real>& plan) {
        return Positions<V>::COUNT * CHUNK + plan.size * (4 * STRIP + 4 * CHUNK) + 2 * CHUNK * TILE +
               2 * (CHUNK * plan.size + W - 1) / W + 2;
    }

    Strip(const Plan<Real>& plan_, int64_t task, V* memory)
        : plan(plan_), row(task / (s.groups * plan.strips)), group(task / plan.strips % s.groups), strip(task % plan.strips),
          first(strip * STRIP), count(std::min<int64_t>(STRIP, plan.blocks - first)), w(memory) {
        V* p = memory + Positions<V>::COUNT * CHUNK;
        const auto take = [&](int64_t n) { return std::exchange(p, p + n); };
        state = take(STRIP * size), A = take(STRIP * size);
        B = take(std::max(STRIP, CHUNK) * size), C = take(std::max(STRIP, CHUNK) * size);
        grad_state = take(STRIP * size), grad_A = take(STRIP * size);
        grad_B = take(std::max(STRIP, CHUNK) * size), grad_C = take(std::max(STRIP, CHUNK) * size);
        kept = take(2 * CHUNK * TILE);
        b = reinterpret_cast<Real*>(take((CHUNK * size + W - 1) / W)), c = reinterpret_cast<Real*>(take((CHUNK * size + W - 1) / W));
        for (int64_t i = 0; i < count; ++i) read_system(i);
    }

    int64_t channel(int64_t block) const { return group * plan.per_group + (first + block) * W; }
    int width(int64_t block) const { return int(std::min<int64_t>(W, plan.per_group - (first + block) * W)); }

    // ---- between tensors and vectors ---------------------------------------------------------------------------------

    // A (..., dim, states) tensor's entries of a block; `index` counts whole (dim, states) tensors.
    void read_states(V* to, const Real* from, int64_t index, int64_t block) const {
        std::fill_n(to + s.states * P, size - s.states * P, V{});
        read_rows(to, from, index * s.dim + channel(block), width(block), s.states * P);
    }
    void write_states(Real* to, const V* from, int64_t index, int64_t block) const {
        write_rows(to, from, index * s.dim + channel(block), width(block), s.states * P);
    }
    void read_system(int64_t block) {
        V* a = A + block * size;
        read_states(a, s.A, 0, block);
        largest[block] = 0;
        for (int64_t i = 0; i < size; i += P) {
            if constexpr (!COMPLEX) a[i] *= LOG2_E<Real>;
            for (int lane = 0; lane < W; ++lane) {
                const Real now = std::abs(a[i][lane]);
                if (!(now <= largest[block]) && largest[block] == largest[block]) largest[block] = now;  // a NaN stays
            }
        }
        if (!s.varying_B) read_states(B + block * size, s.B, 0, block);
        if (!s.varying_C) read_states(C + block * size, s.C, 0, block);
    }
    V read_channels(const Real* from, int64_t block) const {
        V v;
        read_rows(&v, from, channel(block), width(block), 1);
        return v;
    }
    void read(V* to, const View<const Real>& from, int64_t block, int64_t t0, int n) const {
        LONGWAVE_ISA::read(to, from, {row, channel(block), width(block)}, t0, n);
    }
    void write(Real* to, int64_t block, int64_t t, V v) const {
        LONGWAVE_ISA::write(to, {row, channel(block), width(block)}, s.length, s.dim, t, v);
    }

    // B or C of a chunk, padded to whole tiles: as single numbers, or the same for all lanes where the other is constant.
    void read_coefficient(const Real* from, Real* numbers, V* vectors, int64_t t0, int n) const {
        for (int t = 0; t < n; ++t) {
            const Real* p = from + ((row * s.length + t0 + t) * s.groups + group) * s.states * P;
            for (int64_t i = 0; i < size; ++i) {
                const Real x = i < s.states * P && !w.padding(t) ? p[i] : Real(0);
                if (shared) numbers[t * size + i] = x;
                else vectors[t * size + i] = V{} + x;
            }
        }
    }
    void read_coefficients(int64_t t0, int n) {
        if (s.varying_B) read_coefficient(s.B, b, B, t0, n);
        if (s.varying_C) read_coefficient(s.C, c, C, t0, n);
    }
    Coefficient<const V> in_lanes(const V* values, bool varying, int64_t block) const {
        return varying ? Coefficient<const V>{values, size} : Coefficient<const V>{values + block * size, 0};
    }
    V* checkpoint(int64_t block, int64_t chunk) const {
        const int64_t at = (row * s.groups + group) * plan.blocks + first + block;
        return reinterpret_cast<V*>(s.checkpoints) + (at * plan.chunks + chunk) * size;
    }

    // ---- a chunk of a block ------------------------------------------------------------------------------------------

    // What all states share. Where a position is padding, dt = 0: the state stays, and nothing flows back.
    void prepare(int64_t block, int64_t t0, int n) {
        const V bias = read_channels(s.bias, block);
        read(w.u, s.u, block, t0, n);
        read(w.dt, s.delta, block, t0, n);
        V most = {};
        for (int t = 0; t < n; ++t) {
            V dt = w.dt[t] + bias, slope = V{} + Real(1);
            if (s.softplus) {
                const Softplus<Real> soft(dt);
                dt = soft.value, slope = soft.slope;
            }
            if (w.padding(t)) w.u[t] = dt = V{};
            w.dt[t] = dt, w.slope[t] = slope, w.drive[t] = dt * w.u[t], w.out[t] = V{};
            const V size_ = dt < V{} ? -dt : dt;
            most = size_ > most ? size_ : most;
        }
        Real dt = 0;
        for (int lane = 0; lane < W; ++lane) dt = std::max(dt, most[lane]);
        tame[block] = dt * largest[block] <= -Constants<Real>::LOWEST;
    }

    template <bool KEEP> void advance_tile(int64_t block, int64_t tile, int n, V* h) {
        const V* a = A + block * size + tile;
        const Coefficient<const V> B_ = in_lanes(B + tile, s.varying_B, block), C_ = in_lanes(C + tile, s.varying_C, block);
        const Coefficient<const Real> b_ = {b + tile, size}, c_ = {c + tile, size};
        if (!shared) advance<Real, COMPLEX, V, false, KEEP>(w, n, a, B_, C_, h, kept);
        else if (COMPLEX || !tame[block]) advance<Real, COMPLEX, Real, false, KEEP>(w, n, a, b_, c_, h, kept);
        else advance<Real, COMPLEX, Real, !COMPLEX, KEEP>(w, n, a, b_, c_, h, kept);
    }

    void forward_chunk(int64_t block, int64_t t0, int n) {
        prepare(block, t0, n);
        for (int64_t tile = 0; tile < size; tile += TILE) advance_tile<false>(block, tile, n, state + block * size + tile);
        const V D = read_channels(s.D, block);
        if (s.z.data) read(w.gate, s.z, block, t0, n);
        for (int t = 0; t < n; ++t) {
            V y = w.out[t] + D * w.u[t];
            if (s.z.data) y *= Silu<Real>(w.gate[t]).value;
            write(s.y, block, t0 + t, w.padding(t) ? V{} : y);
        }
    }

    // o = dL/dy silu(z), and dL/dz but for the factor y before the gate, which is not known yet.
    void prepare_gradients(int64_t block, int64_t t0, int n) {
        read(w.grad_y, s.grad_y, block, t0, n);
        if (s.z.data) read(w.gate, s.z, block, t0, n);
        for (int t = 0; t < n; ++t) {
            w.sum[t] = w.exponent[t] = V{};
            if (w.padding(t)) w.grad_y[t] = w.gate[t] = V{};
            w.grad_out[t] = w.grad_y[t];
            if (!s.z.data) continue;
            const Silu<Real> silu(w.gate[t]);
            w.grad_out[t] = w.grad_y[t] * silu.value;
            w.gate[t] = w.grad_y[t] * silu.slope;
        }
    }

    void backward_chunk(int64_t block, int64_t chunk, int64_t t0, int n, V* grad_D, V* grad_bias) {
        prepare(block, t0, n);
        prepare_gradients(block, t0, n);
        const V* before = checkpoint(block, chunk);
        V h[TILE];
        for (int64_t tile = 0; tile < size; tile += TILE) {
            std::copy_n(before + tile, TILE, h);
            advance_tile<true>(block, tile, n, h);
            V *a = A + block * size + tile, *g = grad_state + block * size + tile, *dA = grad_A + block * size + tile;
            const Coefficient<V> dB = {grad_B + tile + (s.varying_B ? 0 : block * size), s.varying_B ? size : 0};
            const Coefficient<V> dC = {grad_C + tile + (s.varying_C ? 0 : block * size), s.varying_C ? size : 0};
            if (shared)
                retreat<Real, COMPLEX, Real>(w, n, a, {b + tile, size}, {c + tile, size}, before + tile, kept, g, dA, dB, dC);
            else
                retreat<Real, COMPLEX, V>(w, n, a, in_lanes(B + tile, s.varying_B, block), in_lanes(C + tile, s.varying_C, block),
                                          before + tile, kept, g, dA, dB, dC);
        }
        const V D = read_channels(s.D, block);
        for (int t = 0; t < n; ++t) {
            const bool padding = w.padding(t);
            const V du = D * w.grad_out[t] + w.dt[t] * w.sum[t];
            const V ddelta = padding ? V{} : w.slope[t] * (w.exponent[t] + w.u[t] * w.sum[t]);
            write(s.y, block, t0 + t, padding ? V{} : du);
            write(s.grad_delta, block, t0 + t, ddelta);
            if (s.grad_z) write(s.grad_z, block, t0 + t, padding ? V{} : w.gate[t] * (w.out[t] + D * w.u[t]));
            *grad_D += w.grad_out[t] * w.u[t];
            *grad_bias += ddelta;
        }
    }

    // ---- the whole strip ---------------------------------------------------------------------------------------------

    int begin_chunk(int64_t chunk) {
        const int64_t t0 = chunk * CHUNK;
        const int n = int(std::min<int64_t>(CHUNK, s.length - t0));
        w.marks = s.marks ? s.marks + row * s.length + t0 : nullptr;
        read_coefficients(t0, n);
        return n;
    }

    void forward() {
        for (int64_t i = 0; i < count; ++i) read_states(state + i * size, s.initial, row, i);
        for (int64_t chunk = 0; chunk < plan.chunks; ++chunk) {
            const int n = begin_chunk(chunk);
            for (int64_t i = 0; i < count; ++i) {
                if (s.checkpoints) std::copy_n(state + i * size, size, checkpoint(i, chunk));
                forward_chunk(i, chunk * CHUNK, n);
            }
        }
        for (int64_t i = 0; i < count; ++i) write_states(s.final, state + i * size, row, i);
    }

    // The gradient of a varying B or C, over the channels of this strip.
    void write_coefficient(Real* to, const V* sums, int64_t t0, int n) const {
        for (int t = 0; t < n; ++t) {
            Real* p = to + (((strip * s.batch + row) * s.length + t0 + t) * s.groups + group) * s.states * P;
            for (int64_t i = 0; i < s.states * P; ++i) p[i] = w.padding(t) ? Real(0) : across<Real>(sums[t * size + i]);
        }
    }

    void backward() {
        V grad_D[STRIP] = {}, grad_bias[STRIP] = {};
        std::fill_n(grad_A, STRIP * size, V{});
        if (!s.varying_B) std::fill_n(grad_B, STRIP * size, V{});
        if (!s.varying_C) std::fill_n(grad_C, STRIP * size, V{});
        for (int64_t i = 0; i < count; ++i) read_states(grad_state + i * size, s.grad_final, row, i);
        for (int64_t chunk = plan.chunks - 1; chunk >= 0; --chunk) {
            const int n = begin_chunk(chunk);
            if (s.varying_B) std::fill_n(grad_B, n * size, V{});
            if (s.varying_C) std::fill_n(grad_C, n * size, V{});
            for (int64_t i = 0; i < count; ++i) backward_chunk(i, chunk, chunk * CHUNK, n, &grad_D[i], &grad_bias[i]);
            if (s.varying_B) write_coefficient(s.grad_B, grad_B, chunk * CHUNK, n);
            if (s.varying_C) write_coefficient(s.grad_C, grad_C, chunk * CHUNK, n);
        }
        for (int64_t i = 0; i < count; ++i) {
            write_states(s.final, grad_state + i * size, row, i);
            write_states(s.grad_A, grad_A + i * size, row, i);
            if (!s.varying_B) write_states(s.grad_B, grad_B + i * size, row, i);
            if (!s.varying_C) write_states(s.grad_C, grad_C + i * size, row, i);
            write_rows(s.grad_D, &grad_D[i], row * s.dim + channel(i), width(i), 1);
            write_rows(s.grad_bias, &grad_bias[i], row * s.dim + channel(i), width(i), 1);
        }
    }
};

template <class Real, bool COMPLEX> void run(const SelectiveScan<Real>& s, bool is_backward) {
    using S = Strip<Real, COMPLEX>;
    const Plan<Real> plan{s};
    const int64_t size = S::memory(plan);
    Vector<Real>* memory = scratch<Vector<Real>>(s.threads * size);
#pragma omp parallel for num_threads(s.threads) schedule(dynamic)
    for (int64_t task = 0; task < plan.tasks(); ++task) {
        S strip(plan, task, memory + thread_number() * size);
        if (is_backward) strip.backward();
        else strip.forward();
    }
}

}  // namespace

template <class Real> void selective_scan(const SelectiveScan<Real>& s) {
    s.is_complex ? run<Real, true>(s, false) : run<Real, false>(s, false);
}
template <class Real> void selective_scan_backward(const SelectiveScan<Real>& s) {
    s.is_complex ? run<Real, true>(s, true) : run<Real, false>(s, true);
}

template void selective_scan<float>(const SelectiveScan<float>&);
template void selective_scan<double>(const SelectiveScan<double>&);
template void selective_scan_backward<float>(const SelectiveScan<float>&);
template void selective_scan_backward<double>(const SelectiveScan<double>&);

}  // namespace longwave::LONGWAVE_ISA
