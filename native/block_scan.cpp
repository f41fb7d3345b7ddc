// A bank of single-input systems over sequences, a block of positions at a time: with rows of numbers x (the state before a
// block), u and y (its inputs and outputs),
//
//     x' = x A' + u E,    y = u K + x L',    K(i, j) = kernel[j - i] at j >= i,
//
// where A is the transition, E and L are the tables `enter` and `leave`. With g the gradient of x', backwards in time,
//
//     dx = g A + dy L,    du = dy K' + g E',    dA = sum g' x,    dE = sum u' g,    dL = sum dy' x,    dK = sum u' dy.
//
// States are kept in double precision whatever the precision of the rest. Only they are sequential: blocks of all rows
// of the batch share every element of a table that is loaded.
//
// A task is CHANNELS channels, whose inputs are neighbours in memory where it is time-major. They are gathered a piece at a
// time, up to PLACES blocks of up to ROWS rows of the batch, so that a channel and what is made of it stay in cache.
#include <algorithm>

#include "kernels.hpp"
#include "lanes.hpp"
#include "products.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

constexpr int64_t CHANNELS = 8, ROWS = 8, PLACES = 128, AHEAD = 32;

// Parts of a thread's memory, one after the other; counted only, if there is none.
struct Parts {
    char* memory;
    int64_t bytes = 0;
    template <class Real> Real* take(int64_t count) {
        char* part = memory + bytes;
        bytes += (count * int64_t(sizeof(Real)) + LONGWAVE_VECTOR_BYTES - 1) / LONGWAVE_VECTOR_BYTES * LONGWAVE_VECTOR_BYTES;
        return reinterpret_cast<Real*>(part);
    }
};

// Between sequences of channels, `each` numbers apart, and a tensor, in whose memory channels are neighbours; processors do
// not foresee steps as wide as those to its next position. A function of its own, or the compiler runs out of registers.
template <bool BACK, int64_t FIXED, class Here, class There>
[[gnu::noinline]] void transpose(Here* here, int64_t each, There* there, int64_t channel, int64_t place, int64_t channels,
                                 int64_t span) {
    for (int64_t j = 0; j < span; ++j) {
        __builtin_prefetch(there + (j + AHEAD) * place, BACK);
        for (int64_t c = 0; c < (FIXED ? FIXED : channels); ++c) {
            auto &h = here[c * each + j], &t = there[c * (FIXED ? 1 : channel) + j * place];
            if constexpr (BACK) t = h;
            else h = t;
        }
    }
}
template <bool BACK, class Here, class There>
void transpose(Here* here, int64_t each, There* there, int64_t channel, int64_t place, int64_t channels, int64_t span) {
    const bool usual = channels == CHANNELS && channel == 1;
    const auto move = usual ? transpose<BACK, CHANNELS, Here, There> : transpose<BACK, 0, Here, There>;
    move(here, each, there, channel, place, channels, span);
}

template <class T> struct Task {
    static int64_t wide(int64_t n) { return (n + lanes<T> - 1) / lanes<T> * lanes<T>; }

    const BlockScan<T>& s;
    const int64_t state = s.state, span = s.span, N = wide(state), S = wide(span);  // and how far rows of them lie apart
    const int64_t each = (PLACES + ROWS) * S + lanes<T>;  // of a channel's sequences: no power of two apart, for the caches

    // Of all channels of a task: u and y or their gradients (place, S), states (row, N), and the sums dA, dE, dL, dK.
    T *u, *y;
    double* states;
    const int64_t sums_size = (state + 2 * span) * N + span * S;
    T* sums;
    // Of one channel: A or A', and x' (row, N); the tables; what drives the states, the states before and after (place, N).
    double *transition, *next;
    T *enter, *leave, *kernel, *driven, *before, *after;

    // Where we are. A place of a piece is (block, row).
    int64_t channel0 = 0, channels = 0, row0 = 0, rows = 0, block0 = 0, blocks = 0;

    Task(const BlockScan<T>& call, Parts& parts) : s(call) {
        u = parts.take<T>(CHANNELS * each), y = parts.take<T>(CHANNELS * each);
        states = parts.take<double>(CHANNELS * ROWS * N), sums = parts.take<T>(CHANNELS * sums_size);
        transition = parts.take<double>(state * N), next = parts.take<double>(ROWS * N);
        enter = parts.take<T>(std::max(span * N, state * S)), leave = parts.take<T>(std::max(span * N, state * S));
        kernel = parts.take<T>(span + S);
        driven = parts.take<T>(PLACES * std::max(N, S)), before = parts.take<T>(PLACES * N), after = parts.take<T>(PLACES * N);
    }

    int64_t places() const { return rows * blocks; }
    template <class F> void each_place(F f) const {
        for (int64_t r = 0; r < rows; ++r)
            for (int64_t k = 0; k < blocks; ++k) f(k * rows + r, row0 + r, block0 + k);
    }
    template <class F> void each_channel(F f) const {
        for (int64_t c = 0; c < channels; ++c) f(c, channel0 + c);
    }

    void gather(T* to, const Blocks<const T>& from) const {
        each_place([&](int64_t at, int64_t row, int64_t block) {
            transpose<false>(to + at * S, each, from.at(channel0, row, block), from.channel, from.place, channels, span);
        });
    }
    void scatter(const Blocks<T>& to, T* from) const {
        each_place([&](int64_t at, int64_t row, int64_t block) {
            transpose<true>(from + at * S, each, to.at(channel0, row, block), to.channel, to.place, channels, span);
        });
    }
    // The places of a (dim, batch, blocks, state) tensor, as (place, N): f(number here, number there).
    template <class P, class F> void each_state(T* here, P* there, int64_t channel, F f) const {
        each_place([&](int64_t at, int64_t row, int64_t block) {
            P* from = there + ((channel * s.batch + row) * s.blocks + block) * state;
            for (int64_t n = 0; n < state; ++n) f(here[at * N + n], from[n]);
        });
    }

    // A matrix of whole rows, as the products read it; its transpose a few columns at a time, or its lines evict one another.
    template <class Real> static void copy(Real* to, int64_t row, const Real* from, int64_t m, int64_t n, bool transposed) {
        constexpr int64_t FEW = 8;
        for (int64_t i = 0; !transposed && i < m; ++i) std::copy_n(from + i * n, n, to + i * row);
        for (int64_t first = 0; transposed && first < n; first += FEW)
            for (int64_t i = 0; i < m; ++i)
                for (int64_t j = first; j < std::min(n, first + FEW); ++j) to[j * row + i] = from[i * n + j];
    }
    void tables(int64_t channel, bool backward) const {
        copy(transition, N, s.transition + channel * state * state, state, state, !backward);
        copy(enter, backward ? S : N, s.enter + channel * span * state, span, state, backward);
        copy(leave, backward ? N : S, s.leave + channel * span * state, span, state, !backward);
        // Row i of K, or of K', is what lies from lag_zero() - i on.
        std::fill_n(kernel, span + S, T(0));
        for (int64_t l = 0; l < span; ++l) lag_zero()[backward ? -l : l] = s.kernel[channel * span + l];
    }
    T* lag_zero() const { return kernel + span - 1; }

    // x[k+1] = x[k] transition + driven[k], out[k] = x[k], from the piece's first block to its last or back.
    void recur(double* x, T* out, bool reverse) const {
        const auto cut = [&](double* x, int64_t k) {
            for (int64_t r = 0; s.fresh && r < rows; ++r)
                if (s.fresh[(row0 + r) * s.blocks + block0 + k]) std::fill_n(x + r * N, N, 0.0);
        };
        double *now = x, *then = next;
        for (int64_t i = 0; i < blocks; ++i) {
            const int64_t k = reverse ? blocks - 1 - i : i, at = k * rows * N;
            if (!reverse) cut(now, k);
            for (int64_t n = 0; n < rows * N; ++n) out[at + n] = T(now[n]), then[n] = double(driven[at + n]);
            Product<double>{then, N, {now, N, 1}, transition, N, rows, state, state, true}.run();
            std::swap(now, then);
            if (reverse) cut(now, k);
        }
        if (now != x) std::copy_n(now, rows * N, x);
    }

    void forward(int64_t c, int64_t channel) const {
        tables(channel, false);
        Product<T>{driven, N, {u + c * each, S, 1}, enter, N, places(), state, span}.run();
        recur(states + c * ROWS * N, before, false);
        each_state(before, s.starts, channel, [](T here, T& there) { there = here; });
        T* to = y + c * each;
        Product<T>{to, S, {u + c * each, S, 1}, lag_zero(), -1, places(), span, span, false, Terms::to_diagonal}.run();
        Product<T>{to, S, {before, N, 1}, leave, S, places(), span, state, true}.run();
    }

    // to(m, n) += sum a(place, m) b(place, n), a few places at a time: sums of a few numbers keep more digits.
    void add_products(T* to, const T* a, int64_t a_row, int64_t rows, const T* b, int64_t b_row, int64_t columns) const {
        for (int64_t first = 0; first < places(); first += 32)
            Product<T>{to, b_row, {a + first * a_row, 1, a_row}, b + first * b_row, b_row, rows, columns,
                       std::min<int64_t>(32, places() - first), true}.run();
    }

    void backward(int64_t c, int64_t channel) const {
        T *us = u + c * each, *dy = y + c * each, *dA = sums + c * sums_size, *dE = dA + state * N, *dL = dE + span * N;
        tables(channel, true);
        Product<T>{driven, N, {dy, S, 1}, leave, N, places(), state, span}.run();
        if (s.grad_starts) each_state(driven, s.grad_starts, channel, [](T& here, T there) { here += there; });
        recur(states + c * ROWS * N, after, true);
        each_state(before, s.starts, channel, [](T& here, T there) { here = there; });
        add_products(dA, after, N, state, before, N, state);
        add_products(dE, us, S, span, after, N, state);
        add_products(dL, dy, S, span, before, N, state);
        add_products(dL + span * N, us, S, span, dy, S, span);
        // u is needed no more: its gradient takes its place.
        Product<T>{us, S, {dy, S, 1}, lag_zero(), -1, places(), span, span, false, Terms::from_diagonal}.run();
        Product<T>{us, S, {after, N, 1}, enter, S, places(), span, state, true}.run();
    }

    void write_sums(int64_t c, int64_t channel) const {
        const T *dA = sums + c * sums_size, *dE = dA + state * N, *dL = dE + span * N, *dK = dL + span * N;
        for (int64_t i = 0; i < state; ++i)
            for (int64_t n = 0; n < state; ++n) s.grad_transition[(channel * state + i) * state + n] = dA[i * N + n];
        for (int64_t i = 0; i < span; ++i) {
            std::copy_n(dE + i * N, state, s.grad_enter + (channel * span + i) * state);
            std::copy_n(dL + i * N, state, s.grad_leave + (channel * span + i) * state);
            T lag = 0;
            for (int64_t j = i; j < span; ++j) lag += dK[(j - i) * S + j];
            s.grad_kernel[channel * span + i] = lag;
        }
    }

    // Every piece of the task's rows in turn, with their states before it, from `from`, and after the last one, to `to`.
    template <class F> void each_piece(int64_t task, bool reverse, const double* from, double* to, F f) {
        channel0 = task * CHANNELS, channels = std::min(CHANNELS, s.dim - channel0);
        const auto each_row = [&](auto g) {
            each_channel([&](int64_t c, int64_t channel) {
                for (int64_t r = 0; r < rows; ++r) g(states + (c * ROWS + r) * N, (channel * s.batch + row0 + r) * state);
            });
        };
        for (row0 = 0; row0 < s.batch; row0 += ROWS) {
            rows = std::min(ROWS, s.batch - row0);
            each_row([&](double* x, int64_t at) {
                std::fill_n(x, N, 0.0);
                if (from) std::copy_n(from + at, state, x);
            });
            const int64_t most = PLACES / rows, pieces = (s.blocks + most - 1) / most;
            for (int64_t i = 0; i < pieces; ++i) {
                block0 = (reverse ? pieces - 1 - i : i) * most, blocks = std::min(most, s.blocks - block0);
                f();
            }
            each_row([&](const double* x, int64_t at) { std::copy_n(x, state, to + at); });
        }
    }
};

template <class T, class F> void for_tasks(const BlockScan<T>& s, F work) {
    Parts size{nullptr};
    Task<T>(s, size);
    char* memory = reinterpret_cast<char*>(scratch<Vector<T>>(size.bytes / LONGWAVE_VECTOR_BYTES * s.threads));
#pragma omp parallel for num_threads(s.threads) schedule(static)
    for (int64_t task = 0; task < (s.dim + CHANNELS - 1) / CHANNELS; ++task) {
        Parts mine{memory + size.bytes * thread_number()};
        Task<T> here(s, mine);
        work(here, task);
    }
}

}  // namespace

template <class T> void block_scan(const BlockScan<T>& s) {
    for_tasks(s, [&](Task<T>& here, int64_t task) {
        here.each_piece(task, false, s.initial, s.final, [&] {
            here.gather(here.u, s.u);
            here.each_channel([&](int64_t c, int64_t channel) { here.forward(c, channel); });
            here.scatter(s.y, here.y);
        });
    });
}

template <class T> void block_scan_backward(const BlockScan<T>& s) {
    for_tasks(s, [&](Task<T>& here, int64_t task) {
        std::fill_n(here.sums, CHANNELS * here.sums_size, T(0));
        here.each_piece(task, true, s.grad_final, s.grad_initial, [&] {
            here.gather(here.u, s.u);
            here.gather(here.y, s.grad_y);
            here.each_channel([&](int64_t c, int64_t channel) { here.backward(c, channel); });
            here.scatter(s.grad_u, here.u);
        });
        here.each_channel([&](int64_t c, int64_t channel) { here.write_sums(c, channel); });
    });
}

template void block_scan<float>(const BlockScan<float>&);
template void block_scan<double>(const BlockScan<double>&);
template void block_scan_backward<float>(const BlockScan<float>&);
template void block_scan_backward<double>(const BlockScan<double>&);

}  // namespace longwave::LONGWAVE_ISA
