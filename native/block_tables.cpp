// The tables of `block_scan` for systems that are diagonal plus low rank, Ā = I + diag(a) - Q S: with T = span,
//
//     enter_i = Ā^(T-1-i) B,    leave_j = C Ā^(j+1),    kernel_l = C Ā^l B,
//     transition = diag((1 + a)^T) - sum_j (1 + a)^(T-1-j) Q (S Ā^j),
//
// all by steps of O(modes): columns are stepped by the system itself, rows by that with Q and S exchanged. The row C stands
// for the real row (2 re, -2 im), which is 2 conj(C), and is therefore a row of the conjugate system.
//
// A task is one channel. Its tables are made in double precision, in cache, and rounded once on the way out; backward they
// are made again.
#include <algorithm>
#include <utility>

#include "feedback.hpp"
#include "kernels.hpp"
#include "lanes.hpp"
#include "products.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

// Tables of a channel, or their gradients: rows of n vectors.
struct Tables {
    V *columns, *rows;  // Ā^l B, l < T; C Ā^l, l <= T
    V *spread, *read;   // for each r: (1 + a)^(T-1-j) Q_r and S_r Ā^j, j < T
    static int64_t size(int64_t n, int64_t rank, int64_t span) { return n * (2 * span + 1 + 2 * rank * span); }
    Tables(V* memory, int64_t n, int64_t rank, int64_t span)
        : columns(memory), rows(columns + n * span), spread(rows + n * (span + 1)), read(spread + n * rank * span) {}
};

template <class T> struct Channel {
    const BlockTables<T>& t;
    const Rows shape{t.modes};
    const int64_t n = shape.vectors, N = n * LANES, rank = t.rank, span = t.span, state = 2 * t.modes;
    const int64_t channel;
    V* memory;
    V* take(int64_t vectors) { return std::exchange(memory, memory + vectors); }
    const Feedback plain{take(Feedback::size(n, 0)), n, 0};  // a alone
    const Feedback forwards{take(Feedback::size(n, rank)), n, rank}, transposed{take(Feedback::size(n, rank)), n, rank};
    const Tables tables{take(Tables::size(n, rank, span)), n, rank, span};
    V *power = take(n), *next_power = take(n);  // (1 + a)^(T-1) and (1 + a)^T
    double* matrix = reinterpret_cast<double*>(take(state * n));
    double* weights = reinterpret_cast<double*>(take((rank + LANES - 1) / LANES));

    static int64_t size(int64_t n, int64_t rank, int64_t span, int64_t state) {
        return n + 2 * Feedback::size(n, rank) + Tables::size(n, rank, span) + (2 + state) * n + (rank + LANES - 1) / LANES;
    }

    const double* system(const double* all, int64_t r = 0, int64_t of = 1) const { return all + state * (of * channel + r); }
    double* system(double* all, int64_t r = 0, int64_t of = 1) const { return all + state * (of * channel + r); }

    // Each row a step after the one before it.
    void fill(const Feedback& by, V* first, int64_t count, int64_t stride) const {
        for (V* x = first; --count > 0; x += stride * n) {
            std::copy_n(x, n, x + stride * n);
            by.step(x + stride * n, weights);
        }
    }
    V* last(V* table) const { return table + n * (span - 1); }

    void make() const {
        shape.read(plain.a, system(t.a)), std::copy_n(plain.a, n, forwards.a), std::copy_n(plain.a, n, transposed.a);
        scale(transposed.a, 1, -1, n);
        for (int64_t r = 0; r < rank; ++r) {
            const double *q = system(t.q, r, rank), *s = system(t.s, r, rank);
            shape.read(forwards.f + r * n, s), shape.read(forwards.s + r * n, q);
            shape.read(transposed.f + r * n, q), shape.read(transposed.s + r * n, s);
            shape.read(last(tables.spread + r * span * n), q), shape.read(tables.read + r * span * n, s);
            scale(tables.read + r * span * n, 2, -2, n);
        }
        scale(forwards.f, 2, -2, rank * n), scale(transposed.f, 2, 2, rank * n), scale(transposed.s, 1, -1, rank * n);
        shape.read(tables.columns, system(t.b)), shape.read(tables.rows, system(t.c)), scale(tables.rows, 2, -2, n);
        fill(forwards, tables.columns, span, 1), fill(transposed, tables.rows, span + 1, 1);
        for (int64_t r = 0; r < rank; ++r) {
            fill(plain, last(tables.spread + r * span * n), span, -1);
            fill(transposed, tables.read + r * span * n, span, 1);
        }
        for (int64_t i = 0; i < N; ++i) power[i / LANES][i % LANES] = i % 2 == 0;
        for (int64_t j = 1; j < span; ++j) plain.step(power, weights);
        std::copy_n(power, n, next_power), plain.step(next_power, weights);
    }

    void write() const {
        const int64_t first = channel * span;
        for (int64_t j = 0; j < span; ++j) {
            shape.write(t.enter + (first + span - 1 - j) * state, tables.columns + j * n);
            shape.write(t.leave + (first + j) * state, tables.rows + (j + 1) * n);
            t.kernel[first + j] = T(product(tables.columns + j * n, tables.rows, n));
        }
        const double *spread = reinterpret_cast<double*>(tables.spread), *read = reinterpret_cast<double*>(tables.read);
        Product<double>{matrix, N, {spread, 1, N}, read, N, state, state, rank * span}.run();
        double* to = t.transition + channel * state * state;
        for (int64_t i = 0; i < state; ++i)
            for (int64_t j = 0; j < state; ++j) to[i * state + j] = -matrix[i * N + j];
        const double* a = reinterpret_cast<double*>(next_power);
        for (int64_t i = 0; i < state; i += 2) {  // what becomes of 1 and of i
            to[i * state + i] += a[i], to[(i + 1) * state + i + 1] += a[i];
            to[(i + 1) * state + i] += a[i + 1], to[i * state + i + 1] -= a[i + 1];
        }
    }

    // From the gradient of the last row of a table to that of the first, which is left in its place.
    void back(const Feedback& by, const Feedback& gradient, const V* first, V* given, int64_t count, int64_t stride) const {
        for (int64_t j = count - 2; j >= 0; --j) {
            V *h = given + (j + 1) * stride * n, *to = given + j * stride * n;
            by.step_back(first + j * stride * n, h, to, gradient, weights);
            std::copy_n(h, n, to);
        }
    }

    // The gradients of the tables, from those of what was written.
    void read_gradients(const Tables& g) const {
        const int64_t first = channel * span;
        const double* given = t.grad_transition + channel * state * state;
        const auto copy = [&](int64_t row, int64_t column) {
            std::fill_n(matrix, state * N, 0.0);
            for (int64_t i = 0; i < state; ++i)
                for (int64_t j = 0; j < state; ++j) matrix[i * row + j * column] = -given[i * state + j];
        };
        double *spread = reinterpret_cast<double*>(tables.spread), *read = reinterpret_cast<double*>(tables.read);
        copy(N, 1);
        Product<double>{reinterpret_cast<double*>(g.read), N, {spread, N, 1}, matrix, N, rank * span, state, state}.run();
        copy(1, N);
        Product<double>{reinterpret_cast<double*>(g.spread), N, {read, N, 1}, matrix, N, rank * span, state, state}.run();
        std::fill_n(g.rows, n, V{});
        for (int64_t j = 0; j < span; ++j) {
            shape.read(g.columns + j * n, t.grad_enter + (first + span - 1 - j) * state);
            shape.read(g.rows + (j + 1) * n, t.grad_leave + (first + j) * state);
            add(g.columns + j * n, t.grad_kernel[first + j], tables.rows, n);
            add(g.rows, t.grad_kernel[first + j], tables.columns + j * n, n);
        }
    }

    void backward(V* rest) const {
        const Tables g(rest, n, rank, span);
        const Feedback own(rest += Tables::size(n, rank, span), n, rank), exchanged(rest + Feedback::size(n, rank), n, rank);
        std::fill_n(own.a, 2 * Feedback::size(n, rank), V{});
        read_gradients(g);
        const Feedback of_plain(own.a, n, 0);
        back(transposed, exchanged, tables.rows, g.rows, span + 1, 1), back(forwards, own, tables.columns, g.columns, span, 1);
        for (int64_t r = 0; r < rank; ++r) {
            back(plain, of_plain, last(tables.spread + r * span * n), last(g.spread + r * span * n), span, -1);
            back(transposed, exchanged, tables.read + r * span * n, g.read + r * span * n, span, 1);
        }
        // d (1 + a)^T = T (1 + a)^(T-1) da
        const double* given = t.grad_transition + channel * state * state;
        for (int64_t i = 0; i < state; i += 2) {
            const double re = given[i * state + i] + given[(i + 1) * state + i + 1];
            const double im = given[(i + 1) * state + i] - given[i * state + i + 1];
            const double p = power[i / LANES][i % LANES], q = power[(i + 1) / LANES][(i + 1) % LANES];
            own.a[i / LANES][i % LANES] += double(span) * (p * re + q * im);
            own.a[(i + 1) / LANES][(i + 1) % LANES] += double(span) * (p * im - q * re);
        }
        scale(exchanged.a, 1, -1, n), add(own.a, 1, exchanged.a, n);
        // own: a, f of S, s of Q; exchanged: f of Q, s of S; and the first rows of the tables.
        scale(own.f, 2, -2, rank * n), scale(exchanged.f, 2, 2, rank * n), scale(exchanged.s, 1, -1, rank * n);
        add(own.f, 1, exchanged.s, rank * n), add(own.s, 1, exchanged.f, rank * n);
        scale(g.rows, 2, -2, n);
        shape.write(system(t.grad_a), own.a), shape.write(system(t.grad_b), g.columns), shape.write(system(t.grad_c), g.rows);
        for (int64_t r = 0; r < rank; ++r) {
            V *read = g.read + r * span * n, *spread = last(g.spread + r * span * n);
            scale(read, 2, -2, n), add(read, 1, own.f + r * n, n), add(spread, 1, own.s + r * n, n);
            shape.write(system(t.grad_s, r, rank), read), shape.write(system(t.grad_q, r, rank), spread);
        }
    }
};

template <class T, class Work> void for_channels(const BlockTables<T>& t, int64_t extra, const Work& work) {
    const int64_t size = Channel<T>::size(Rows(t.modes).vectors, t.rank, t.span, 2 * t.modes);
    V* memory = scratch<V>((size + extra) * t.threads);
#pragma omp parallel for num_threads(t.threads) schedule(static)
    for (int64_t channel = 0; channel < t.dim; ++channel) {
        V* mine = memory + (size + extra) * thread_number();
        const Channel<T> c{.t = t, .channel = channel, .memory = mine};
        c.make();
        work(c, mine + size);
    }
}

}  // namespace

template <class T> void block_tables(const BlockTables<T>& t) {
    for_channels(t, 0, [](const Channel<T>& c, V*) { c.write(); });
}

template <class T> void block_tables_backward(const BlockTables<T>& t) {
    const int64_t n = Rows(t.modes).vectors, extra = Tables::size(n, t.rank, t.span) + 2 * Feedback::size(n, t.rank);
    for_channels(t, extra, [](const Channel<T>& c, V* rest) { c.backward(rest); });
}

template void block_tables<float>(const BlockTables<float>&);
template void block_tables<double>(const BlockTables<double>&);
template void block_tables_backward<float>(const BlockTables<float>&);
template void block_tables_backward<double>(const BlockTables<double>&);

}  // namespace longwave::LONGWAVE_ISA
