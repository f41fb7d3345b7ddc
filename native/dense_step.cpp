// One position of a bank of systems with dense matrices: x' = A x + B u,  y = C x' + D u  for every channel, one A and one B
// for all channels or one each.
//
// The channels that share an A, of all rows of the batch, are the rows of one product x A'. While the sums of a few of them
// are in the first cache, B u is added and C x' taken: nothing but A and x is read twice, and x' is written once.
#include <algorithm>

#include "kernels.hpp"
#include "lanes.hpp"
#include "products.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

constexpr int64_t ROWS = 32;  // of a task

template <class Real> struct Step {
    using V = Vector<Real>;
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

    void finish(const Real* sum, int64_t row) const {
        const int64_t channel = row % g.dim;
        const Real u = g.u[row], *B = g.B + (g.shared ? 0 : channel * g.state), *C = g.C + channel * g.state;
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

    // The rows of a matrix lie `matrices` rows of (batch, dim) apart.
    void run(int64_t task, Real* sums) const {
        const int64_t matrix = task / blocks, first = task % blocks * ROWS;
        const Real *A = transposed(matrix, sums + ROWS * padded), *x = g.x + (first * matrices + matrix) * g.state;
        const int64_t count = std::min(ROWS, rows - first);
        Product<Real>{sums, padded, {x, matrices * g.state, 1}, A, padded, count, g.state, g.state}.run();
        for (int64_t m = 0; m < count; ++m) finish(sums + m * padded, (first + m) * matrices + matrix);
    }
};

}  // namespace

template <class Real> void dense_step(const DenseStep<Real>& g) {
    const Step<Real> step{g};
    const int threads = static_cast<int>(std::clamp<int64_t>(step.tasks, 1, g.threads));
    Real* memory = reinterpret_cast<Real*>(scratch<Vector<Real>>(threads * step.work / lanes<Real>));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t task = 0; task < step.tasks; ++task) step.run(task, memory + thread_number() * step.work);
}

template void dense_step<float>(const DenseStep<float>&);
template void dense_step<double>(const DenseStep<double>&);

}  // namespace longwave::LONGWAVE_ISA
