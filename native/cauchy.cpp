// Cauchy sums over conjugate pairs of poles w = α + iβ at imaginary nodes, forward and backward, in double precision. With
// v = p + iq a pair is
//
//     v/(iω - w) + conj(v)/(iω - conj(w)) = 2 (iω p - s) G,   s = Re v conj(w),   1/G = α² + (β - ω)(β + ω) - 2iαω:
//
// one reciprocal for a mode and a node, which rows of v share, then real multiples of E = iω G and of G. The product
// (β - ω)(β + ω) keeps the distance to a pole; no other term is larger than the moduli of the two fractions together.
//
// Of a gradient g with the inner product <g, x> = Re conj(g) x, and N = Σ_r conj(g_r) (iω p_r - s_r) G² the sums over nodes
//
//     e_r = Σ <g_r, E>,   f_r = Σ <g_r, G>,   z = Σ Re N,   y = Σ ω Im N
//
// make     grad p_r = 2 (e_r - α f_r),   grad α = -2 Σ p_r f_r - 4 (α z + y),
//          grad q_r = -2 β f_r,          grad β = -2 Σ q_r f_r - 4 β z,
//
// and the gradient of ω is the sum over modes and channels of 2 Re i Σ_r conj(g_r) p_r G - 4 (α Im N - ω Re N).
//
// A task is one channel; a vector holds neighbouring nodes.
#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels.hpp"
#include "lanes.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

using V = Vector<double>;
constexpr int LANES = lanes<double>;
constexpr int ROWS = 4;    // of v, at once: those that share a reciprocal
constexpr int BLOCK = 16;  // vectors of nodes, whose gradients stay in L1 while all modes read them

struct Mode {  // and the weights of up to ROWS rows
    double alpha, beta, p[ROWS], q[ROWS], s[ROWS];
};

struct Sums {  // of a mode, each lane its own nodes
    V e[ROWS], f[ROWS], z, y;
};

struct Complex {
    V re, im;
};

Complex reciprocal(const Mode& m, V omega) {
    const V re = m.alpha * m.alpha + (m.beta - omega) * (m.beta + omega), im = -2.0 * m.alpha * omega;
    const V scale = 1.0 / (re * re + im * im);
    return {re * scale, -im * scale};
}

// Complex numbers lie in memory as pairs; here are up to LANES of them.
template <int... I> Complex read(const double* from, int64_t count, std::integer_sequence<int, I...>) {
    V pairs[2] = {};
    std::memcpy(pairs, from, (count < LANES ? count : LANES) * 2 * sizeof(double));
    return {__builtin_shufflevector(pairs[0], pairs[1], (2 * I)...), __builtin_shufflevector(pairs[0], pairs[1], (2 * I + 1)...)};
}
template <int... I> void write(double* to, Complex x, int64_t count, std::integer_sequence<int, I...>) {
    const V pairs[2] = {__builtin_shufflevector(x.re, x.im, (I / 2 + I % 2 * LANES)...),
                        __builtin_shufflevector(x.re, x.im, ((I + LANES) / 2 + I % 2 * LANES)...)};
    std::memcpy(to, pairs, (count < LANES ? count : LANES) * 2 * sizeof(double));
}

double sum(V v) {
    double total = 0;
    for (int i = 0; i < LANES; ++i) total += v[i];
    return total;
}

int64_t vectors(const Cauchy& c) { return (c.nodes + LANES - 1) / LANES; }

void read_modes(const Cauchy& c, int64_t channel, int64_t row0, int rows, Mode* modes) {
    for (int64_t n = 0; n < c.modes; ++n) {
        Mode& m = modes[n];
        const double* w = c.w + 2 * (c.modes * channel + n);
        m.alpha = w[0], m.beta = w[1];
        for (int r = 0; r < rows; ++r) {
            const double* v = c.v + 2 * (c.modes * (c.rows * channel + row0 + r) + n);
            m.p[r] = v[0], m.q[r] = v[1], m.s[r] = v[0] * w[0] + v[1] * w[1];
        }
    }
}

template <int R> void forward(const Cauchy& c, const Mode* modes, const V* omega, double* out) {
    for (int64_t k = 0; k < vectors(c); ++k) {
        V re[R] = {}, im[R] = {};
        for (int64_t n = 0; n < c.modes; ++n) {
            const Complex G = reciprocal(modes[n], omega[k]), E = {-omega[k] * G.im, omega[k] * G.re};
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) {
                re[r] += modes[n].p[r] * E.re, im[r] += modes[n].p[r] * E.im;
                re[r] -= modes[n].s[r] * G.re, im[r] -= modes[n].s[r] * G.im;
            }
        }
        for (int r = 0; r < R; ++r)
            write(out + 2 * (c.nodes * r + LANES * k), {2.0 * re[r], 2.0 * im[r]}, c.nodes - LANES * k, Pairs<double>{});
    }
}

// Adds to the sums of all modes, and half the gradient of ω to `nodes` if there is one.
template <int R> void backward(const Cauchy& c, const Mode* modes, const V* omega, const double* grad, Sums* sums, V* nodes) {
    Complex g[BLOCK][R];
    for (int64_t begin = 0; begin < vectors(c); begin += BLOCK) {
        const int64_t end = std::min(begin + BLOCK, vectors(c));
        for (int64_t k = begin; k < end; ++k)
            for (int r = 0; r < R; ++r)
                g[k - begin][r] = read(grad + 2 * (c.nodes * r + LANES * k), c.nodes - LANES * k, Pairs<double>{});
        for (int64_t n = 0; n < c.modes; ++n) {
            const Mode& m = modes[n];
            Sums total = {};
            for (int64_t k = begin; k < end; ++k) {
                const Complex G = reciprocal(m, omega[k]), E = {-omega[k] * G.im, omega[k] * G.re};
                Complex P = {}, S = {};  // Σ g_r p_r, Σ g_r s_r
#pragma GCC unroll 4
                for (int r = 0; r < R; ++r) {
                    const Complex x = g[k - begin][r];
                    total.e[r] += x.re * E.re, total.f[r] += x.re * G.re;
                    total.e[r] += x.im * E.im, total.f[r] += x.im * G.im;
                    P.re += m.p[r] * x.re, P.im += m.p[r] * x.im;
                    S.re += m.s[r] * x.re, S.im += m.s[r] * x.im;
                }
                const Complex H = {omega[k] * P.im - S.re, omega[k] * P.re + S.im};
                const Complex F = {H.re * G.re - H.im * G.im, H.re * G.im + H.im * G.re};
                const Complex N = {F.re * G.re - F.im * G.im, F.re * G.im + F.im * G.re};
                total.z += N.re, total.y += omega[k] * N.im;
                if (nodes) nodes[k] += P.im * G.re - P.re * G.im - 2.0 * (m.alpha * N.im - omega[k] * N.re);
            }
            for (int r = 0; r < R; ++r) sums[n].e[r] += total.e[r], sums[n].f[r] += total.f[r];
            sums[n].z += total.z, sums[n].y += total.y;
        }
    }
}

void write_gradients(const Cauchy& c, int64_t channel, int64_t row0, int rows, const Mode* modes, const Sums* sums) {
    for (int64_t n = 0; n < c.modes; ++n) {
        const Mode& m = modes[n];
        const double z = sum(sums[n].z), y = sum(sums[n].y);
        double* grad_w = c.grad_w + 2 * (c.modes * channel + n);
        grad_w[0] -= 4 * (m.alpha * z + y), grad_w[1] -= 4 * m.beta * z;
        for (int r = 0; r < rows; ++r) {
            double* grad_v = c.grad_v + 2 * (c.modes * (c.rows * channel + row0 + r) + n);
            const double f = sum(sums[n].f[r]);
            grad_v[0] = 2 * (sum(sums[n].e[r]) - m.alpha * f), grad_v[1] = -2 * m.beta * f;
            grad_w[0] -= 2 * m.p[r] * f, grad_w[1] -= 2 * m.q[r] * f;
        }
    }
}

// The nodes as vectors, the last one filled up with nodes that are there: what is computed for them stays finite.
void read_nodes(const Cauchy& c, V* omega) {
    for (int64_t k = 0; k < vectors(c) * LANES; ++k) omega[k / LANES][k % LANES] = c.omega[std::min(k, c.nodes - 1)];
}

template <class Work> void for_rows(const Cauchy& c, int64_t channel, const Work& work) {
    for (int64_t row = 0; row < c.rows; row += ROWS) {
        const int64_t at = 2 * c.nodes * (c.rows * channel + row);
        switch (std::min<int64_t>(ROWS, c.rows - row)) {
            case 1: work(std::integral_constant<int, 1>{}, row, at); break;
            case 2: work(std::integral_constant<int, 2>{}, row, at); break;
            case 3: work(std::integral_constant<int, 3>{}, row, at); break;
            default: work(std::integral_constant<int, ROWS>{}, row, at);
        }
    }
}

}  // namespace

void cauchy(const Cauchy& c) {
    V* omega = scratch<V>(vectors(c));
    Mode* memory = scratch<Mode>(c.modes * c.threads);
    read_nodes(c, omega);
#pragma omp parallel for num_threads(c.threads) schedule(static)
    for (int64_t channel = 0; channel < c.dim; ++channel) {
        Mode* modes = memory + c.modes * thread_number();
        for_rows(c, channel, [&](auto rows, int64_t row0, int64_t at) {
            read_modes(c, channel, row0, rows, modes);
            forward<rows>(c, modes, omega, c.out + at);
        });
    }
}

void cauchy_backward(const Cauchy& c) {
    const int64_t width = vectors(c);
    V *omega = scratch<V>(width * (c.grad_omega ? 1 + c.dim : 1)), *nodes = omega + width;  // gradients, a row for each channel
    Mode* memory = scratch<Mode>(c.modes * c.threads);
    Sums* sums_memory = scratch<Sums>(c.modes * c.threads);
    read_nodes(c, omega);
    std::fill_n(c.grad_w, 2 * c.dim * c.modes, 0.0);
    if (c.grad_omega) std::fill_n(nodes, c.dim * width, V{});
#pragma omp parallel for num_threads(c.threads) schedule(static)
    for (int64_t channel = 0; channel < c.dim; ++channel) {
        Mode* modes = memory + c.modes * thread_number();
        Sums* sums = sums_memory + c.modes * thread_number();
        for_rows(c, channel, [&](auto rows, int64_t row0, int64_t at) {
            read_modes(c, channel, row0, rows, modes);
            std::fill_n(sums, c.modes, Sums{});
            backward<rows>(c, modes, omega, c.grad + at, sums, c.grad_omega ? nodes + width * channel : nullptr);
            write_gradients(c, channel, row0, rows, modes, sums);
        });
    }
    for (int64_t k = 0; c.grad_omega && k < c.nodes; ++k) {
        c.grad_omega[k] = 0;
        for (int64_t channel = 0; channel < c.dim; ++channel) c.grad_omega[k] += 2 * nodes[width * channel + k / LANES][k % LANES];
    }
}

}  // namespace longwave::LONGWAVE_ISA
