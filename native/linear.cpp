// A linear map of many positions, y = x W' + bias, and its adjoint: dx = dy W, dW = dy' x.
//
// All three are one product of large matrices, c(m, n) = sum_k a(m, k) b(k, n). A tile of ROWS x VECTORS accumulators takes
// its scalars from a and its vectors from b, both packed in the order in which the tile reads them: TERMS of k at a time, a
// in tiles of ROWS rows, b in panels of VECTORS columns of vectors. The smaller matrix is packed once for all threads. A task
// packs a panel of b, or a block of BLOCK rows of a, which stays in the second cache while the other matrix passes. On a
// Zen 4 torch's BLAS library takes longer at the sizes of Mamba's projections (`python -m benchmarks.linear`).
//
// Where blocks are few, their tasks have a part of the panels each. The sums over k are always the same ones: results do not
// depend on the threads.
//
// Of few positions, as in decoding, the product is one reading of W from memory, and nothing is packed. Its vectors lie along
// k then, and a task reads a strip of W as STREAMS streams that lie rows apart: of one stream, or of neighbouring rows, the
// processor fetches less ahead. A BLAS library's product of a matrix and a vector takes about twice as long.
#include <algorithm>
#include <type_traits>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "kernels.hpp"
#include "lanes.hpp"
#include "products.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

constexpr int ROWS = LONGWAVE_VECTOR_BYTES == 64 ? 8 : 4, VECTORS = 3;
constexpr int64_t TERMS = 768, BLOCK = 128, TASKS = 16, FEW = 64;
constexpr int64_t LARGEST_KEPT = 32 << 20;  // bytes: glibc's malloc maps what is larger, and unmaps it when it is freed

// Of new memory that malloc gives back to the system: each page of 4 KB costs more than the numbers that are written to it.
void in_large_pages([[maybe_unused]] void* p, [[maybe_unused]] int64_t bytes) {
#ifdef MADV_HUGEPAGE
    constexpr uintptr_t PAGE = 1 << 21;
    const uintptr_t begin = reinterpret_cast<uintptr_t>(p), end = begin + bytes;
    const uintptr_t first = (begin + PAGE - 1) / PAGE * PAGE, last = end / PAGE * PAGE;
    if (bytes > LARGEST_KEPT && first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

template <class Real> struct LargeProduct {
    using V = Vector<Real>;
    static constexpr int W = lanes<Real>, PANEL = VECTORS * W;

    Scalars<Real> a, b;
    int64_t rows, columns, terms;
    Real* c;           // (rows, columns), contiguous
    const Real* bias;  // (columns,), or null

    // to[k][PANEL]: `count` terms from `first` on, of the columns from n on; zeros beyond the last column.
    void pack_panel(int64_t n, int64_t first, int64_t count, Real* to) const {
        const int64_t width = std::min<int64_t>(PANEL, columns - n);
        const Real* from = b.p + first * b.row + n * b.column;
        int64_t k = 0;
        if (b.column == 1)
            for (; k < count; ++k)
                for (int64_t j = 0; j < PANEL; j += W) store(to + k * PANEL + j, load(from + k * b.row + j, width - j));
        else if (b.row == 1 && width == PANEL)
            for (; k + W <= count; k += W)
                for (int64_t j = 0; j < PANEL; j += W) transpose_block(from + j * b.column + k, b.column, to + k * PANEL + j, PANEL);
        for (; k < count; ++k)
            for (int64_t j = 0; j < PANEL; ++j) to[k * PANEL + j] = j < width ? from[k * b.row + j * b.column] : Real(0);
    }
    // to[tile][k][ROWS], for the tiles of a block of `height` rows from m on; zeros beyond the last row.
    void pack_block(int64_t m, int64_t height, int64_t first, int64_t count, Real* to) const {
        for (int64_t i = 0; i < height; i += ROWS) {
            const Real* from = a.p + (m + i) * a.row + first * a.column;
            const int64_t left = height - i;
            for (int64_t k = 0; k < count; ++k, to += ROWS)
#pragma GCC unroll 8
                for (int r = 0; r < ROWS; ++r) to[r] = r < left ? from[r * a.row + k * a.column] : Real(0);
        }
    }

    template <int N> void tile(const Real* scalars, const Real* panel, int64_t count, int64_t m, int64_t n, bool begin) const {
        V sum[ROWS][N] = {};
        multiply_tile<ROWS, N, Real>(sum, scalars, 1, ROWS, panel, PANEL, count);
        for (int64_t r = 0; r < std::min<int64_t>(ROWS, rows - m); ++r)
            for (int j = 0; j < N; ++j) {
                const int64_t column = n + j * W, left = columns - column;
                Real* at = c + (m + r) * columns + column;
                const V before = !begin ? load(at, left) : bias ? load(bias + column, left) : V{};
                store(at, before + sum[r][j], left);
            }
    }
    void tiles(const Real* block, const Real* panel, int64_t count, int64_t m, int64_t height, int64_t n, bool begin) const {
        const int64_t vectors = ceil_div(columns - n, W);
        for (int64_t i = 0; i < height; i += ROWS) {
            if (vectors >= 3) tile<3>(block + i * count, panel, count, m + i, n, begin);
            else if (vectors == 2) tile<2>(block + i * count, panel, count, m + i, n, begin);
            else tile<1>(block + i * count, panel, count, m + i, n, begin);
        }
    }

    void run(int threads) const {
        in_large_pages(c, rows * columns * sizeof(Real));
        if (rows <= columns) by_panels(threads);
        else by_blocks(threads);
    }
    void by_panels(int threads) const {
        const int64_t blocks = ceil_div(rows, BLOCK), most = std::min(terms, TERMS);
        Real* packed = reinterpret_cast<Real*>(scratch<V>((blocks * BLOCK + threads * PANEL) * most / W + 1));
        Real* own = packed + blocks * BLOCK * most;
#pragma omp parallel num_threads(threads)
        for (int64_t first = 0; first < terms; first += TERMS) {
            const int64_t count = std::min(TERMS, terms - first);
            Real* panel = own + thread_number() * PANEL * most;
#pragma omp for schedule(static)
            for (int64_t m = 0; m < rows; m += BLOCK) pack_block(m, std::min(BLOCK, rows - m), first, count, packed + m * count);
#pragma omp for schedule(dynamic)
            for (int64_t n = 0; n < columns; n += PANEL) {
                pack_panel(n, first, count, panel);
                tiles(packed, panel, count, 0, rows, n, first == 0);
            }
        }
    }
    void by_blocks(int threads) const {
        const int64_t panels = ceil_div(columns, PANEL), blocks = ceil_div(rows, BLOCK), most = std::min(terms, TERMS);
        const int64_t share = ceil_div(panels, ceil_div(TASKS, blocks)), shares = ceil_div(panels, share);  // of the panels
        Real* packed = reinterpret_cast<Real*>(scratch<V>((panels * PANEL + threads * BLOCK) * most / W + 1));
        Real* own = packed + panels * PANEL * most;
#pragma omp parallel num_threads(threads)
        for (int64_t first = 0; first < terms; first += TERMS) {
            const int64_t count = std::min(TERMS, terms - first);
            Real* block = own + thread_number() * BLOCK * most;
#pragma omp for schedule(static)
            for (int64_t p = 0; p < panels; ++p) pack_panel(p * PANEL, first, count, packed + p * PANEL * count);
#pragma omp for schedule(dynamic)
            for (int64_t task = 0; task < blocks * shares; ++task) {
                const int64_t m = task / shares * BLOCK, height = std::min(BLOCK, rows - m), begin = task % shares * share;
                pack_block(m, height, first, count, block);
                for (int64_t p = begin; p < std::min(panels, begin + share); ++p)
                    tiles(block, packed + p * PANEL * count, count, m, height, p * PANEL, first == 0);
            }
        }
    }
};

template <class Real> struct FewRows {
    using V = Vector<Real>;
    static constexpr int W = lanes<Real>, STREAMS = 4, POSITIONS = 4;
    static constexpr int64_t STRIP = 64;

    const Linear<Real>& s;
    // rows of a strip: of a small matrix few, so that every thread has some
    const int64_t most = std::clamp<int64_t>(s.out / TASKS / STREAMS * STREAMS, STREAMS, STRIP);

    // Of positions m, ... the outputs `at[0]`, ..., one of each stream.
    template <int M> void tile(int64_t m, const int64_t (&at)[STREAMS]) const {
        V sum[STREAMS][M] = {};
        for (int64_t k = 0; k < s.in; k += W) {
            V x[M];
#pragma GCC unroll 4
            for (int j = 0; j < M; ++j) x[j] = load(s.x.data + (m + j) * s.x.time + k, s.in - k);
#pragma GCC unroll 4
            for (int i = 0; i < STREAMS; ++i) {
                const V w = load(s.weight.data + at[i] * s.weight.time + k, s.in - k);
#pragma GCC unroll 4
                for (int j = 0; j < M; ++j) sum[i][j] += w * x[j];
            }
        }
        for (int i = 0; i < STREAMS; ++i)
            for (int j = 0; j < M; ++j)
                s.y[(m + j) * s.out + at[i]] = across<Real>(sum[i][j]) + (s.bias ? s.bias[at[i]] : Real(0));
    }
    void strip(int64_t first) const {
        const int64_t height = std::min(most, s.out - first), length = ceil_div(height, STREAMS);
        for (int64_t n = 0; n < length; ++n) {
            int64_t at[STREAMS], m = 0;  // the last stream may be shorter, and its last row met again
            for (int i = 0; i < STREAMS; ++i) at[i] = first + std::min(i * length + n, height - 1);
            for (; m + POSITIONS <= s.rows; m += POSITIONS) tile<POSITIONS>(m, at);
            if ((s.rows - m) & 2) tile<2>(m, at), m += 2;
            if ((s.rows - m) & 1) tile<1>(m, at);
        }
    }
    void run() const {
#pragma omp parallel for num_threads(s.threads) schedule(dynamic)
        for (int64_t first = 0; first < s.out; first += most) strip(first);
    }
};

template <class Real> Scalars<Real> matrix(const View<const Real>& v) { return {v.data, v.time, v.dim}; }
template <class Real> Scalars<Real> turned(const View<const Real>& v) { return {v.data, v.dim, v.time}; }

}  // namespace

template <class Real> void linear(const Linear<Real>& s) {
    if (s.rows < FEW && s.x.dim == 1 && s.weight.dim == 1) return FewRows<Real>{s}.run();
    LargeProduct<Real>{matrix(s.x), turned(s.weight), s.rows, s.out, s.in, s.y, s.bias}.run(s.threads);
}
template <class Real> void linear_backward(const Linear<Real>& s) {
    if (s.y) LargeProduct<Real>{matrix(s.grad_y), matrix(s.weight), s.rows, s.in, s.out, s.y, nullptr}.run(s.threads);
    if (s.grad_weight) LargeProduct<Real>{turned(s.grad_y), matrix(s.x), s.out, s.in, s.rows, s.grad_weight, nullptr}.run(s.threads);
}

template void linear<float>(const Linear<float>&);
template void linear<double>(const Linear<double>&);
template void linear_backward<float>(const Linear<float>&);
template void linear_backward<double>(const Linear<double>&);

}  // namespace longwave::LONGWAVE_ISA
