// Depthwise causal convolution with a few taps, forward and backward. For each channel, with W taps,
//
//     p[t] = sum_j w[j] x[t - W + 1 + j] + bias,    y[t] = silu(p[t]), or p[t] itself
//
// A position that is padding is no input: the W - 1 inputs before a position are the last ones that are not, of the same
// sequence. The adjoint runs forwards in time too: an input's gradient is complete as soon as W - 1 inputs have followed it,
//
//     dp = dy silu'(p),    dx[t - W + 1 + j] += w[j] dp,    dw[j] += dp x[t - W + 1 + j]
//
// Lanes are channels. The inputs of a chunk stand one after the other in a line, after the W - 1 before the chunk. A task is
// a row and a strip of blocks of channels, whose chunks take turns, so that memory is read in longer pieces.
#include <algorithm>
#include <utility>
#include <vector>

#include "exponential.hpp"
#include "kernels.hpp"
#include "lanes.hpp"
#include "scratch.hpp"
#include "sequences.hpp"
#include "threads.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

constexpr int CHUNK = 64, STRIP = 8;  // positions; vectors of channels
constexpr int64_t NOWHERE = INT64_MIN;

// WIDTH: the number of taps where it is known to the compiler, or 0.
template <class Real, int WIDTH, bool BACKWARD> struct Line {
    using V = Vector<Real>;
    static constexpr int W = lanes<Real>;

    const ShortConv<Real>& s;
    const Channels at;
    const int width = WIDTH ? WIDTH : int(s.width), tail = width - 1;
    const uint8_t* marks = s.marks ? s.marks + at.row * s.length : nullptr;
    // x: `tail` inputs before the chunk, then those of the chunk; backward their gradients, and the positions they belong to,
    // an entry of the initial state being -tail .. -1.
    V *weight, *x, *dx, *grad_weight, *in, *dy;
    int64_t* owner;
    V bias, grad_bias = {};

    static int64_t memory(int64_t width) { return 2 * width + 2 * (width + CHUNK) + 2 * CHUNK + (width + CHUNK) * 8 / W + 1; }

    Line(const ShortConv<Real>& s_, Channels at_, V* p) : s(s_), at(at_) {
        const auto take = [&](int64_t n) { return std::exchange(p, p + n); };
        weight = take(width), grad_weight = take(width), x = take(width + CHUNK), dx = take(width + CHUNK);
        in = take(CHUNK), dy = take(CHUNK), owner = reinterpret_cast<int64_t*>(p);
        read_rows(weight, s.weight, at.c0, at.width, width);
        read_rows(&bias, s.bias, at.c0, at.width, 1);
        read_rows(x, s.initial, at.row * s.dim + at.c0, at.width, tail);
        std::fill_n(grad_weight, width, V{});
        std::fill_n(dx, tail, V{});
        for (int i = 0; i < tail; ++i) owner[i] = i - tail;
    }

    void chunk(int64_t t0) {
        const int n = int(std::min<int64_t>(CHUNK, s.length - t0));
        int count = tail;  // inputs in the line
        read(in, s.x, at, t0, n);
        if constexpr (BACKWARD) read(dy, s.grad_y, at, t0, n);
        for (int t = 0; t < n; ++t) {
            const uint8_t mark = marks ? marks[t0 + t] : uint8_t(GOES_ON);
            if (mark == PADDING) {
                put(t0 + t, V{});
                continue;
            }
            if (mark == BEGINS) forget(count);
            x[count] = in[t];
            if constexpr (BACKWARD) dx[count] = V{}, owner[count] = t0 + t;
            ++count;
            position(x + count - width, dx + count - width, t0 + t, t);
        }
        // What `tail` inputs have followed is done.
        if constexpr (BACKWARD)
            for (int i = 0; i < count - tail; ++i) settle(i);
        std::copy_n(x + count - tail, tail, x);
        if constexpr (BACKWARD) std::copy_n(dx + count - tail, tail, dx), std::copy_n(owner + count - tail, tail, owner);
    }

    void finish() {
        if constexpr (BACKWARD) {
            read_rows(x, s.grad_final, at.row * s.dim + at.c0, at.width, tail);
            for (int i = 0; i < tail; ++i) dx[i] += x[i], settle(i);
            write_rows(s.grad_weight, grad_weight, at.row * s.dim + at.c0, at.width, width);
            write_rows(s.grad_bias, &grad_bias, at.row * s.dim + at.c0, at.width, 1);
        } else {
            write_rows(s.final, x, at.row * s.dim + at.c0, at.width, tail);
        }
    }

  private:
    void put(int64_t t, V v) const { write(s.y, at, s.length, s.dim, t, v); }

    // The inputs that the next one would see: they are another sequence's.
    void forget(int count) {
        for (int i = count - tail; i < count; ++i) {
            if constexpr (BACKWARD) {
                settle(i);
                owner[i] = NOWHERE, dx[i] = V{};
            }
            x[i] = V{};
        }
    }

    // Write the gradient of an input, or of an entry of the initial state.
    void settle(int i) {
        if (owner[i] >= 0) put(owner[i], dx[i]);
        else if (owner[i] != NOWHERE)
            for (int lane = 0; lane < at.width; ++lane)
                s.final[(at.row * s.dim + at.c0 + lane) * tail + owner[i] + tail] = dx[i][lane];
    }

    void position(const V* seen, V* gradients, int64_t t, int i) {
        V p = bias;
#pragma GCC unroll 4
        for (int j = 0; j < width; ++j) p += weight[j] * seen[j];
        if constexpr (!BACKWARD) {
            put(t, s.silu ? Silu<Real>(p).value : p);
        } else {
            V dp = dy[i];
            if (s.silu) dp *= Silu<Real>(p).slope;
            grad_bias += dp;
#pragma GCC unroll 4
            for (int j = 0; j < width; ++j) gradients[j] += weight[j] * dp, grad_weight[j] += dp * seen[j];
        }
    }
};

template <class Real, int WIDTH, bool BACKWARD> void run(const ShortConv<Real>& s) {
    using L = Line<Real, WIDTH, BACKWARD>;
    constexpr int64_t channels = STRIP * lanes<Real>;
    const int64_t strips = (s.dim + channels - 1) / channels, size = L::memory(s.width);
    Vector<Real>* memory = scratch<Vector<Real>>(s.threads * STRIP * size);
#pragma omp parallel for num_threads(s.threads) schedule(dynamic)
    for (int64_t task = 0; task < s.batch * strips; ++task) {
        std::vector<L> lines;
        for (int64_t i = 0, c = task % strips * channels; i < STRIP && c < s.dim; ++i, c += lanes<Real>)
            lines.emplace_back(s, Channels{task / strips, c, int(std::min<int64_t>(lanes<Real>, s.dim - c))},
                               memory + (thread_number() * STRIP + i) * size);
        for (int64_t t0 = 0; t0 < s.length; t0 += CHUNK)
            for (L& line : lines) line.chunk(t0);
        for (L& line : lines) line.finish();
    }
}

}  // namespace

template <class Real> void short_conv(const ShortConv<Real>& s) {
    s.width == 4 ? run<Real, 4, false>(s) : run<Real, 0, false>(s);
}
template <class Real> void short_conv_backward(const ShortConv<Real>& s) {
    s.width == 4 ? run<Real, 4, true>(s) : run<Real, 0, true>(s);
}

template void short_conv<float>(const ShortConv<float>&);
template void short_conv<double>(const ShortConv<double>&);
template void short_conv_backward<float>(const ShortConv<float>&);
template void short_conv_backward<double>(const ShortConv<double>&);

}  // namespace longwave::LONGWAVE_ISA
