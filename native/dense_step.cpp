// One position of a bank of systems: x' = A x + B u,  y = C x' + D u  for every channel, with one A and B for all channels or
// one each.
//
// The channels that share an A, of all rows of the batch, are the rows of one product x A'. While the sums of a few of them
// are in the first cache, B u is added and C x' taken: nothing but A and x is read twice, and x' is written once.
//
// A is dense, or has blocks of low rank off its diagonal on every scale. Then a leaf of the state meets its own block of A in
// full, and the rest of the state by a few sums.
#include <algorithm>

#include "kernels.hpp"
#include "lanes.hpp"
#include "products.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

constexpr int64_t ROWS = 32;  // of a task

// x' = sum + B u and y = C x' + D u of one channel of one row of the batch.
template <class Real, class Arguments> void finish(const Arguments& g, const Real* sum, int64_t row, const Real* B) {
    using V = Vector<Real>;
    constexpr int W = lanes<Real>;
    const int64_t channel = row % g.dim;
    const Real u = g.u[row], *C = g.C + channel * g.state;
    Real* after = g.after + row * g.state;
    V y = {};
    for (int64_t n = 0; n < g.state; n += W) {
        const int64_t left = g.state - n;
        const V x = load(sum + n, left) + load(B + n, left) * u;
        store(after + n, x, left);
        y += load(C + n, left) * x;
    }
    g.y[row] = across<Real>(y) + g.D[channel] * u;
}

template <class Real> struct Step {
    static constexpr int W = lanes<Real>;

    const DenseStep<Real>& g;
    const int64_t matrices = g.shared ? 1 : g.dim, rows = g.shared ? g.batch * g.dim : g.batch;  // of each matrix
    const int64_t blocks = ceil_div(rows, ROWS), tasks = matrices * blocks;
    const int64_t padded = ceil_div(g.state, W) * W;
    const int64_t work = padded * (ROWS + (padded == g.state ? 0 : g.state));  // of each thread: sums, and A' if it is packed

    // A' in rows of whole vectors. What they hold past the last column ends in sums that nobody reads.
    const Real* transposed(int64_t matrix, Real* to) const {
        const Real* from = g.A + matrix * g.state * g.state;
        if (padded == g.state) return from;
        for (int64_t k = 0; k < g.state; ++k) std::copy_n(from + k * g.state, g.state, to + k * padded);
        return to;
    }

    // The rows of a matrix lie `matrices` rows of (batch, dim) apart.
    void run(int64_t task, Real* sums) const {
        const int64_t matrix = task / blocks, first = task % blocks * ROWS;
        const Real *A = transposed(matrix, sums + ROWS * padded), *x = g.x + (first * matrices + matrix) * g.state;
        const int64_t count = std::min(ROWS, rows - first);
        Product<Real>{sums, padded, {x, matrices * g.state, 1}, A, padded, count, g.state, g.state}.run();
        for (int64_t m = 0; m < count; ++m) {
            const int64_t row = (first + m) * matrices + matrix, channel = row % g.dim;
            finish(g, sums + m * padded, row, g.B + (g.shared ? 0 : channel * g.state));
        }
    }
};

template <class Real> struct TreeStep {
    const HodlrStep<Real>& g;
    const int64_t rows = g.batch * g.dim, tasks = ceil_div(rows, ROWS);
    const int64_t leaves = g.state / g.leaf, levels = __builtin_ctzll(leaves), rank = g.columns / levels;
    const int64_t wide = leaves * g.columns;           // of a row: what the leaves give, and what they get
    const int64_t work = ROWS * (g.state + 2 * wide);  // of each thread

    // At each level a leaf gets the sum over the block beside its own. The rank need not be whole vectors.
    void exchange(const Real* __restrict given, Real* __restrict got) const {
        for (int64_t level = 0; level < levels; ++level) {
            const int64_t size = leaves >> (level + 1);  // of a block, in leaves
            for (int64_t leaf = 0; leaf < leaves; leaf += size) {
                const Real* from = given + (leaf ^ size) * g.columns + level * rank;
                Real* to = got + leaf * g.columns + level * rank;
                for (int64_t i = 0; i < rank; ++i) {
                    Real sum = from[i];
                    for (int64_t p = 1; p < size; ++p) sum += from[p * g.columns + i];
                    for (int64_t q = 0; q < size; ++q) to[q * g.columns + i] = sum;
                }
            }
        }
    }

    void run(int64_t task, Real* sums) const {
        const int64_t first = task * ROWS, count = std::min(ROWS, rows - first);
        const Real* x = g.x + first * g.state;
        Real *given = sums + ROWS * g.state, *got = given + ROWS * wide;
        for (int64_t q = 0; q < leaves; ++q) {
            const Scalars<Real> leaf{x + q * g.leaf, g.state, 1};
            Product<Real>{given + q * g.columns, wide, leaf, g.gather + q * g.leaf * g.columns, g.columns, count, g.columns,
                          g.leaf}.run();
            Product<Real>{sums + q * g.leaf, g.state, leaf, g.near + q * g.leaf * g.leaf, g.leaf, count, g.leaf, g.leaf}.run();
        }
        for (int64_t m = 0; m < count; ++m) exchange(given + m * wide, got + m * wide);
        for (int64_t q = 0; q < leaves; ++q)
            Product<Real>{sums + q * g.leaf, g.state, {got + q * g.columns, wide, 1}, g.spread + q * g.columns * g.leaf, g.leaf,
                          count, g.leaf, g.columns, true}.run();
        for (int64_t m = 0; m < count; ++m) finish(g, sums + m * g.state, first + m, g.B);
    }
};

template <class Real, class Task> void in_parallel(const Task& step, int most) {
    const int threads = static_cast<int>(std::clamp<int64_t>(step.tasks, 1, most));
    Real* memory = reinterpret_cast<Real*>(scratch<Vector<Real>>(threads * step.work / lanes<Real>));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t task = 0; task < step.tasks; ++task) step.run(task, memory + thread_number() * step.work);
}

}  // namespace

template <class Real> void dense_step(const DenseStep<Real>& g) { in_parallel<Real>(Step<Real>{g}, g.threads); }
template <class Real> void hodlr_step(const HodlrStep<Real>& g) { in_parallel<Real>(TreeStep<Real>{g}, g.threads); }

template void dense_step<float>(const DenseStep<float>&);
template void dense_step<double>(const DenseStep<double>&);
template void hodlr_step<float>(const HodlrStep<float>&);
template void hodlr_step<double>(const HodlrStep<double>&);

}  // namespace longwave::LONGWAVE_ISA
