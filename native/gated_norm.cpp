// Root-mean-square norm with a gate, forward and backward. For a group of n neighbouring channels of one position,
//
//     g = silu(z),   v = x g (or x itself),   r = 1 / sqrt(sum v^2 / n + eps),   y = v r w (or v r w g)
//
// where the second form, in brackets, is the norm before the gate. The adjoint, with q = dL/d(v r), that is w dy (or w dy g),
//
//     dv = r q - r^3 / n (sum q v) v,   dw = sum over positions of dy v r (or dy v r g),
//     dx = dv g (or dv),                dg = dv x (or dy v r w),   dz = dg silu'(z)
//
// Lanes are channels. A group is read once and kept in cache; nothing is saved but the arguments. A task is a block of
// positions, whose part of dw is added up over the blocks outside: results do not depend on the threads.
#include <algorithm>
#include <cmath>

#include "exponential.hpp"
#include "kernels.hpp"
#include "lanes.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

template <class Real, bool BACKWARD> struct Group {
    using V = Vector<Real>;
    static constexpr int W = lanes<Real>;

    const GatedNorm<Real>& s;
    const int64_t row, first, vectors = (s.size + W - 1) / W;  // first: the group's first channel
    V *x, *gate, *slope, *dy, *weight;                         // slope: silu'(z), backward; lanes past the group are zero

    static int64_t memory(const GatedNorm<Real>& s) { return 5 * ((s.size + W - 1) / W); }

    Group(const GatedNorm<Real>& s_, int64_t row_, int64_t group, V* p)
        : s(s_), row(row_), first(group * s.size), x(p), gate(x + vectors), slope(gate + vectors), dy(slope + vectors),
          weight(dy + vectors) {
        read(x, s.x);
        read(gate, s.z);
        read(weight, {s.weight, 0, 0, 1});
        for (int64_t i = 0; i < vectors; ++i) {
            const Silu<Real> silu(gate[i]);
            gate[i] = silu.value;
            if constexpr (BACKWARD) slope[i] = silu.slope;
        }
    }

    void read(V* to, const View<const Real>& from) const {
        const Real* p = from.data + row * from.time + first * from.dim;
        if (from.dim == 1) {
            for (int64_t i = 0; i < vectors; ++i) to[i] = load(p + i * W, s.size - i * W);
            return;
        }
        std::fill_n(to, vectors, V{});
        for (int64_t j = 0; j < s.size; ++j) to[j / W][j % W] = p[j * from.dim];
    }
    void write(Real* to, int64_t i, V v) const { store(to + row * s.groups * s.size + first + i * W, v, s.size - i * W); }

    V before(int64_t i) const { return s.norm_first ? x[i] : x[i] * gate[i]; }
    Real scale() const {
        V sum = {};
        for (int64_t i = 0; i < vectors; ++i) sum += before(i) * before(i);
        return 1 / std::sqrt(across<Real>(sum) / Real(s.size) + Real(s.eps));
    }

    void forward() const {
        const Real r = scale();
        for (int64_t i = 0; i < vectors; ++i) {
            const V y = r * before(i) * weight[i];
            write(s.y, i, s.norm_first ? y * gate[i] : y);
        }
    }

    // grad_weight: of the whole position.
    void backward(V* grad_weight) const {
        read(dy, s.grad_y);
        const Real r = scale();
        V dot = {};
        for (int64_t i = 0; i < vectors; ++i) dot += after(i) * before(i);
        const Real along = r * r * r / Real(s.size) * across<Real>(dot);
        for (int64_t i = 0; i < vectors; ++i) {
            const V v = before(i), dv = r * after(i) - along * v, norm = dy[i] * v * r;
            write(s.y, i, s.norm_first ? dv : dv * gate[i]);
            write(s.grad_z, i, (s.norm_first ? norm * weight[i] : dv * x[i]) * slope[i]);
            grad_weight[i] += s.norm_first ? norm * gate[i] : norm;
        }
    }

  private:
    V after(int64_t i) const { return s.norm_first ? dy[i] * weight[i] * gate[i] : dy[i] * weight[i]; }
};

template <class Real, class F> void each_block(const GatedNorm<Real>& s, int64_t size, F task) {
    const int64_t blocks = (s.rows + GATED_NORM_ROWS - 1) / GATED_NORM_ROWS;
    Vector<Real>* memory = scratch<Vector<Real>>(s.threads * size);
#pragma omp parallel for num_threads(s.threads) schedule(dynamic)
    for (int64_t block = 0; block < blocks; ++block)
        task(block, std::min<int64_t>(s.rows, (block + 1) * GATED_NORM_ROWS), memory + thread_number() * size);
}

}  // namespace

template <class Real> void gated_norm(const GatedNorm<Real>& s) {
    using G = Group<Real, false>;
    each_block(s, G::memory(s), [&](int64_t block, int64_t end, Vector<Real>* memory) {
        for (int64_t row = block * GATED_NORM_ROWS; row < end; ++row)
            for (int64_t group = 0; group < s.groups; ++group) G(s, row, group, memory).forward();
    });
}

template <class Real> void gated_norm_backward(const GatedNorm<Real>& s) {
    using G = Group<Real, true>;
    const int64_t vectors = ceil_div(s.size, G::W), own = G::memory(s);
    each_block(s, own + s.groups * vectors, [&](int64_t block, int64_t end, Vector<Real>* memory) {
        Vector<Real>* sums = memory + own;
        std::fill_n(sums, s.groups * vectors, Vector<Real>{});
        for (int64_t row = block * GATED_NORM_ROWS; row < end; ++row)
            for (int64_t group = 0; group < s.groups; ++group)
                G(s, row, group, memory).backward(sums + group * vectors);
        for (int64_t group = 0; group < s.groups; ++group)
            std::copy_n(reinterpret_cast<const Real*>(sums + group * vectors), s.size,
                        s.grad_weight + (block * s.groups + group) * s.size);
    });
}

template void gated_norm<float>(const GatedNorm<float>&);
template void gated_norm<double>(const GatedNorm<double>&);
template void gated_norm_backward<float>(const GatedNorm<float>&);
template void gated_norm_backward<double>(const GatedNorm<double>&);

}  // namespace longwave::LONGWAVE_ISA
