// Krylov rows v Ā^j of matrices Ā = I + diag(a) - Q S, forward and backward, in double precision. With (Q S) x = Q (S . x) and
// s . x = 2 Re sum s x, the row after v is
//
//     v' = v + a v - sum_r (v . Q_r) S_r.
//
// A task is one channel: its numbers stay in L1 for all rows.
#include <algorithm>

#include "feedback.hpp"
#include "kernels.hpp"
#include "lanes.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

// What a channel needs, in one thread's part of the scratch.
struct Channel {
    Feedback system, gradient;
    V *x, *h, *given;
    double* weights;
    static int64_t size(int64_t n, int64_t rank) { return 2 * Feedback::size(n, rank) + 3 * n + (rank + LANES - 1) / LANES; }
    Channel(V* memory, const Krylov& k, const Rows& rows, int64_t channel)
        : system(memory, rows.vectors, k.rank), gradient(memory + Feedback::size(rows.vectors, k.rank), rows.vectors, k.rank),
          x(memory + 2 * Feedback::size(rows.vectors, k.rank)), h(x + rows.vectors), given(h + rows.vectors),
          weights(reinterpret_cast<double*>(given + rows.vectors)) {
        const int64_t n = rows.vectors;
        rows.read(system.a, k.a + 2 * k.modes * channel);
        for (int64_t r = 0; r < k.rank; ++r) {
            const int64_t at = 2 * k.modes * (k.rank * channel + r);
            rows.read(system.f + r * n, k.q + at), rows.read(system.s + r * n, k.s + at);
        }
        scale(system.f, 2, -2, k.rank * n);
    }
};

int64_t place(const Krylov& k, int64_t j) { return k.reverse ? k.count - 1 - j : j; }

void forward(const Krylov& k, const Rows& rows, const Channel& c, int64_t channel) {
    for (int64_t row = 0; row < k.rows; ++row) {
        const int64_t first = k.count * (channel * k.rows + row);
        rows.read(c.x, k.v + 2 * k.modes * (channel * k.rows + row));
        for (int64_t j = 0; j < k.count; ++j) {
            if (j > 0) c.system.step(c.x, c.weights);
            rows.write(k.out + 2 * k.modes * (first + place(k, j)), c.x);
        }
    }
}

void backward(const Krylov& k, const Rows& rows, const Channel& c, int64_t channel) {
    const int64_t n = rows.vectors;
    std::fill_n(c.gradient.a, Feedback::size(n, k.rank), V{});
    for (int64_t row = 0; row < k.rows; ++row) {
        const int64_t first = k.count * (channel * k.rows + row);
        std::fill_n(c.h, n, V{});
        for (int64_t j = k.count - 1; j >= 0; --j) {  // h: the gradient of row j + 1
            const int64_t at = 2 * k.modes * (first + place(k, j));
            rows.read(c.x, k.out + at), rows.read(c.given, k.grad + at);
            c.system.step_back(c.x, c.h, c.given, c.gradient, c.weights);
        }
        rows.write(k.grad_v + 2 * k.modes * (channel * k.rows + row), c.h);
    }
    scale(c.gradient.f, 2, -2, k.rank * n);
    rows.write(k.grad_a + 2 * k.modes * channel, c.gradient.a);
    for (int64_t r = 0; r < k.rank; ++r) {
        const int64_t at = 2 * k.modes * (k.rank * channel + r);
        rows.write(k.grad_q + at, c.gradient.f + r * n), rows.write(k.grad_s + at, c.gradient.s + r * n);
    }
}

template <class Work> void for_channels(const Krylov& k, const Work& work) {
    const Rows rows(k.modes);
    const int64_t each = Channel::size(rows.vectors, k.rank);
    V* memory = scratch<V>(each * k.threads);
#pragma omp parallel for num_threads(k.threads) schedule(static)
    for (int64_t channel = 0; channel < k.dim; ++channel)
        work(k, rows, Channel(memory + each * thread_number(), k, rows, channel), channel);
}

}  // namespace

void krylov(const Krylov& k) { for_channels(k, forward); }

void krylov_backward(const Krylov& k) { for_channels(k, backward); }

}  // namespace longwave::LONGWAVE_ISA
