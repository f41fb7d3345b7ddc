// Krylov rows v Ā^j of matrices Ā = I + diag(a) - Q S, forward and backward, in double precision. With (Q S) x = Q (S . x) and
// s . x = 2 Re sum s x, the row after v is
//
//     v' = v + a v - sum_r (v . Q_r) S_r,
//
// and with h the gradient of v', that of v grows by h + conj(a) h + sum_r ds_r 2 conj(Q_r), where ds_r = -Re sum h conj(S_r).
//
// A task is one channel: its numbers stay in L1 for all rows. Complex numbers stay in memory order, so that v . Q is the plain
// product of v with the row (2 re Q, -2 im Q).
#include <algorithm>

#include "kernels.hpp"
#include "lanes.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

using V = Vector<double>;
constexpr int LANES = lanes<double>;
using C = Factor<double, true>;

// Rows of `modes` complex numbers as vectors, the last one filled up with zeros.
struct Rows {
    int64_t modes, vectors;
    explicit Rows(int64_t modes_) : modes(modes_), vectors((2 * modes_ + LANES - 1) / LANES) {}
    void read(V* to, const double* from) const {
        for (int64_t k = 0; k < vectors; ++k) {
            if (LANES * (k + 1) <= 2 * modes) {
                to[k] = load(from + LANES * k);
            } else {
                to[k] = V{};
                for (int64_t i = LANES * k; i < 2 * modes; ++i) to[k][i - LANES * k] = from[i];
            }
        }
    }
    void write(double* to, const V* from) const {
        for (int64_t k = 0; k < vectors; ++k) {
            if (LANES * (k + 1) <= 2 * modes) store(to + LANES * k, from[k]);
            else
                for (int64_t i = LANES * k; i < 2 * modes; ++i) to[i] = from[k][i - LANES * k];
        }
    }
};

double sum(V v) {
    double total = 0;
    for (int i = 0; i < LANES; ++i) total += v[i];
    return total;
}

double product(const V* x, const V* y, int64_t vectors) {
    V total = {};
    for (int64_t k = 0; k < vectors; ++k) total += x[k] * y[k];
    return sum(total);
}

void add(V* to, double factor, const V* x, int64_t vectors) {
    for (int64_t k = 0; k < vectors; ++k) to[k] += factor * x[k];
}

// (2 re, -2 im) of x: the real row whose product with another is 2 Re sum.
void functional(V* x, int64_t vectors) {
    V sign;
    for (int i = 0; i < LANES; ++i) sign[i] = i & 1 ? -2.0 : 2.0;
    for (int64_t k = 0; k < vectors; ++k) x[k] *= sign;
}

// What a channel needs, in one thread's part of the scratch.
struct Channel {
    V *a, *q, *s, *x, *grad_a, *grad_q, *grad_s;
    static int64_t size(int64_t vectors, int64_t rank) { return vectors * (3 + 4 * rank); }
    Channel(V* memory, const Krylov& k, const Rows& rows, int64_t channel) {
        const int64_t n = rows.vectors;
        a = memory, x = a + n, q = x + n, s = q + k.rank * n, grad_a = s + k.rank * n, grad_q = grad_a + n;
        grad_s = grad_q + k.rank * n;
        rows.read(a, k.a + 2 * k.modes * channel);
        for (int64_t r = 0; r < k.rank; ++r) {
            const int64_t at = 2 * k.modes * (k.rank * channel + r);
            rows.read(q + r * n, k.q + at), rows.read(s + r * n, k.s + at);
            functional(q + r * n, n);
        }
    }
};

int64_t place(const Krylov& k, int64_t j) { return k.reverse ? k.count - 1 - j : j; }

void forward(const Krylov& k, const Rows& rows, Channel c, int64_t channel, double* weights) {
    const int64_t n = rows.vectors;
    for (int64_t row = 0; row < k.rows; ++row) {
        const int64_t first = k.count * (channel * k.rows + row);
        rows.read(c.x, k.v + 2 * k.modes * (channel * k.rows + row));
        for (int64_t j = 0; j < k.count; ++j) {
            if (j > 0) {
                for (int64_t r = 0; r < k.rank; ++r) weights[r] = product(c.x, c.q + r * n, n);
                for (int64_t i = 0; i < n; ++i) c.x[i] = C(c.a[i], false).times(c.x[i], c.x[i]);
                for (int64_t r = 0; r < k.rank; ++r) add(c.x, -weights[r], c.s + r * n, n);
            }
            rows.write(k.out + 2 * k.modes * (first + place(k, j)), c.x);
        }
    }
}

void backward(const Krylov& k, const Rows& rows, Channel c, int64_t channel, double* weights, V* h, V* given) {
    const int64_t n = rows.vectors, rank = k.rank;
    std::fill_n(c.grad_a, n * (1 + 2 * rank), V{});  // and those of q and s, which follow
    for (int64_t row = 0; row < k.rows; ++row) {
        const int64_t first = k.count * (channel * k.rows + row);
        std::fill_n(h, n, V{});
        for (int64_t j = k.count - 1; j >= 0; --j) {  // h: the gradient of row j + 1
            const int64_t at = 2 * k.modes * (first + place(k, j));
            rows.read(c.x, k.out + at);
            for (int64_t r = 0; r < rank; ++r) {
                add(c.grad_s + r * n, -product(c.x, c.q + r * n, n), h, n);
                weights[r] = -product(h, c.s + r * n, n);
                add(c.grad_q + r * n, weights[r], c.x, n);
            }
            rows.read(given, k.grad + at);
            for (int64_t i = 0; i < n; ++i) {
                c.grad_a[i] = C(c.x[i], true).times(h[i], c.grad_a[i]);
                h[i] = C(c.a[i], true).times(h[i], h[i]) + given[i];
            }
            for (int64_t r = 0; r < rank; ++r) add(h, weights[r], c.q + r * n, n);
        }
        rows.write(k.grad_v + 2 * k.modes * (channel * k.rows + row), h);
    }
    rows.write(k.grad_a + 2 * k.modes * channel, c.grad_a);
    for (int64_t r = 0; r < rank; ++r) {
        const int64_t at = 2 * k.modes * (rank * channel + r);
        functional(c.grad_q + r * n, n);  // of 2 Re sum v q: 2 conj(v) for each
        rows.write(k.grad_q + at, c.grad_q + r * n), rows.write(k.grad_s + at, c.grad_s + r * n);
    }
}

template <class Work> void for_channels(const Krylov& k, const Work& work) {
    const Rows rows(k.modes);
    const int64_t weights = (k.rank + LANES - 1) / LANES, size = Channel::size(rows.vectors, k.rank);
    const int64_t each = size + 2 * rows.vectors + weights;
    V* memory = scratch<V>(each * k.threads);
#pragma omp parallel for num_threads(k.threads) schedule(static)
    for (int64_t channel = 0; channel < k.dim; ++channel) {
        V* mine = memory + each * thread_number();
        work(rows, Channel(mine, k, rows, channel), channel, mine + size);
    }
}

}  // namespace

void krylov(const Krylov& k) {
    for_channels(k, [&](const Rows& rows, Channel c, int64_t channel, V* rest) {
        forward(k, rows, c, channel, reinterpret_cast<double*>(rest));
    });
}

void krylov_backward(const Krylov& k) {
    for_channels(k, [&](const Rows& rows, Channel c, int64_t channel, V* rest) {
        V *h = rest, *given = h + rows.vectors;
        backward(k, rows, c, channel, reinterpret_cast<double*>(given + rows.vectors), h, given);
    });
}

}  // namespace longwave::LONGWAVE_ISA
