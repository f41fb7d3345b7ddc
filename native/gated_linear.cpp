// A linear map and its gate in one pass: z = x W' + c of width 2 out, y = z[:out] * sigmoid(z[out:]), forward and backward.
//
//     dz = (dy s, dy z s (1 - s)),   s = sigmoid(z[out:])     dx = dz W,   dW = dz' x,   dc = sum dz
//
// On the way in x may pass through GELU, x Phi(x), whose derivative is Phi(x) + x phi(x). Its values are computed in both
// directions, never stored.
//
// Up to FEW rows each number of z is a sum across lanes, from W as it lies; packing it would cost more than the products.
//
// A BLAS call writes z, which the gate reads again, and its products of a few thousand rows by a few hundred columns run at
// little more than half the speed of this processor's multiply-adds. Here a tile of ROWS x VECTORS accumulators takes its
// scalars from one matrix and its vectors from the other; the forward tile holds values and their gates side by side, so
// that y leaves the registers finished. Backward, a block of rows makes its dz once and uses it for both products.
//
// dW and dc are added up per group of row blocks, and the groups in order: results do not depend on the threads.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels.hpp"
#include "lanes.hpp"
#include "products.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

constexpr int VECTORS = LONGWAVE_VECTOR_BYTES == 64 ? 4 : 2;  // of a tile: half values, half gates
constexpr int ROWS = LONGWAVE_VECTOR_BYTES == 64 ? 6 : 4;
constexpr int64_t BLOCK = 192;                                // rows of a task
constexpr int64_t FEW = 8;
constexpr int64_t GROUP_BYTES = 16 << 20;                     // for the partial sums of dW
constexpr int64_t MOST_GROUPS = 16;

template <class Real> constexpr int PANEL = VECTORS * lanes<Real>;  // columns of a packed panel

// e^x: x = n log 2 + r, |r| <= log(2) / 2; a polynomial for e^r (the coefficients of Cephes' expf), and n into the exponent.
inline Vector<float> exponential(Vector<float> x) {
    typedef int32_t Bits __attribute__((vector_size(LONGWAVE_VECTOR_BYTES)));
    const Vector<float> zero = {}, low = zero - 87.0f, high = zero + 88.0f;
    x = x < low ? low : (x > high ? high : x);  // keeps a NaN
    const Vector<float> shift = zero + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    const Vector<float> n = (x * 1.44269504f + shift) - shift;
    const Vector<float> r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Vector<float> p = zero + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * r) * r + r + 1.0f;
    const Bits power = (__builtin_convertvector(n, Bits) + 127) << 23;
    Vector<float> scale;
    std::memcpy(&scale, &power, sizeof scale);
    return p * scale;
}
inline Vector<double> exponential(Vector<double> x) {
    for (int i = 0; i < lanes<double>; ++i) x[i] = std::exp(x[i]);
    return x;
}
template <class V> inline V sigmoid(V x) { return 1 / (1 + exponential(-x)); }

// Phi(x) and phi(x) of the normal distribution. With t = |x| / sqrt(2): erf(t) = t P(t^2) below 1, and beyond it
// erfc(t) = e^(-t^2) / t Q(1 / t^2), with one Q below 2 and one above (the coefficients of Cephes' erff and erfcf).
template <class V> struct Normal { V distribution, density; };

template <int N, class V> inline V polynomial(const float (&c)[N], V x) {
    V p = V{} + c[0];
    for (int i = 1; i < N; ++i) p = p * x + c[i];
    return p;
}
inline Normal<Vector<float>> normal(Vector<float> x) {
    using V = Vector<float>;
    constexpr float near[] = {7.853861353153693e-5f, -8.010193625184903e-4f, 5.188327685732524e-3f, -2.685381193529856e-2f,
                              1.128358514861418e-1f, -3.761262582423300e-1f, 1.128379165726710e0f};
    constexpr float middle[] = {2.326819970068386e-2f, -1.387039388740657e-1f, 3.687424674597105e-1f,
                                -5.824733027278666e-1f, 6.210004621745983e-1f, -4.944515323274145e-1f,
                                3.404879937665872e-1f, -2.741127028184656e-1f, 5.638259427386472e-1f};
    constexpr float far[] = {-1.047766399936249e1f, 1.297719955372516e1f, -7.495518717768503e0f, 2.921019019210786e0f,
                             -1.015265279202700e0f, 4.218463358204948e-1f, -2.820767439740514e-1f, 5.641895067754075e-1f};
    const V zero = {}, scaled = x * 0.70710678f, t = scaled < 0 ? -scaled : scaled, t2 = t * t, e = exponential(-t2);
    const V inverse = 1 / (t < 1 ? zero + 1 : t), q = inverse * inverse;
    const V beyond = e * inverse * (t < 2 ? polynomial(middle, q) : polynomial(far, q));  // erfc(t)
    const V erf = t < 1 ? t * polynomial(near, t2) : 1 - beyond;
    return {0.5f * (1 + (scaled < 0 ? -erf : erf)), 0.39894228f * e};
}
inline Normal<Vector<double>> normal(Vector<double> x) {
    Normal<Vector<double>> n;
    for (int i = 0; i < lanes<double>; ++i) {
        n.distribution[i] = 0.5 * std::erfc(-x[i] * 0.70710678118654752440);
        n.density[i] = 0.39894228040143267794 * std::exp(-0.5 * x[i] * x[i]);
    }
    return n;
}

// Calls tile(row, integral_constant<rows>) for all rows: ROWS at a time, then one at a time.
template <class F> inline void each_tile(int64_t rows, F tile) {
    int64_t m = 0;
    for (; m + ROWS <= rows; m += ROWS) tile(m, std::integral_constant<int, ROWS>{});
    for (; m < rows; ++m) tile(m, std::integral_constant<int, 1>{});
}

template <class Real> struct GatedProduct {
    using V = Vector<Real>;
    static constexpr int W = lanes<Real>, HALF = VECTORS / 2 * W;

    const GatedLinear<Real>& g;
    const int64_t blocks = ceil_div(g.rows, BLOCK);
    const int64_t value_panels = ceil_div(g.out, HALF), in_panels = ceil_div(g.in, PANEL<Real>);
    const int64_t padded = in_panels * PANEL<Real>;
    const int64_t forward_panel = (g.in + 1) * PANEL<Real>;  // the bias is one more row

    int64_t first(int64_t block) const { return block * BLOCK; }
    int64_t count(int64_t block) const { return std::min(BLOCK, g.rows - first(block)); }

    // Forward panel p: HALF columns of values and the HALF of their gates, from the rows of W. Columns beyond the last keep
    // whatever the memory held: nobody reads what comes of them.
    void pack_forward(Real* to) const {
#pragma omp parallel for num_threads(g.threads) schedule(static)
        for (int64_t p = 0; p < value_panels; ++p) {
            Real* panel = to + p * forward_panel;
            for (int half = 0; half < 2; ++half)
                for (int64_t j = 0; j < std::min<int64_t>(HALF, g.out - p * HALF); ++j) {
                    const int64_t column = half * g.out + p * HALF + j;
                    Real* at = panel + half * HALF + j;
                    for (int64_t k = 0; k < g.in; ++k) at[k * PANEL<Real>] = g.weight[column * g.in + k];
                    at[g.in * PANEL<Real>] = g.bias ? g.bias[column] : 0;
                }
        }
    }

    // each(place, vector) for the vectors of a (rows, in) matrix in the order of panels: rows x PANEL, and then the next.
    template <class F> void each_packed(const Real* from, int64_t rows, F each) const {
        for (int64_t p = 0, place = 0; p < in_panels; ++p)
            for (int64_t m = 0; m < rows; ++m)
                for (int64_t column = p * PANEL<Real>; column < (p + 1) * PANEL<Real>; column += W, place += W)
                    each(place, column < g.in ? load(from + m * g.in + column, g.in - column) : V{});
    }

    // z of one row, COLUMNS numbers from `column` on, of an x that zeros fill up to `padded`.
    template <int COLUMNS> void products(Real* z, const Real* x, int64_t column) const {
        V sum[COLUMNS] = {};
        const Real* w = g.weight + column * g.in;
        for (int64_t k = 0; k < g.in; k += W)
            for (int j = 0; j < COLUMNS; ++j) sum[j] += load(x + k) * load(w + j * g.in + k, g.in - k);
        for (int j = 0; j < COLUMNS; ++j) z[column + j] = across<Real>(sum[j]) + (g.bias ? g.bias[column + j] : 0);
    }
    void forward_few(Real* x, Real* kept) const {
        for (int64_t m = 0; m < g.rows; ++m) {
            Real *z = g.z ? g.z + m * 2 * g.out : kept, *y = g.y + m * g.out;
            for (int64_t k = 0; k < g.in; k += W) {
                const V v = load(g.x + m * g.in + k, g.in - k);
                store(x + k, g.gelu ? v * normal(v).distribution : v);
            }
            int64_t column = 0;
            for (; column + 4 <= 2 * g.out; column += 4) products<4>(z, x, column);
            for (; column < 2 * g.out; ++column) products<1>(z, x, column);
            for (column = 0; column < g.out; column += W) {
                const int64_t left = g.out - column;
                store(y + column, load(z + column, left) * sigmoid(load(z + g.out + column, left)), left);
            }
        }
    }

    void forward(const Real* packed, Real* scratch, int64_t block) const {
        const Real* a = g.x + first(block) * g.in;
        int64_t stride = g.in;
        if (g.gelu) {
            for (int64_t m = 0; m < count(block); ++m)
                for (int64_t k = 0; k < g.in; k += W) {
                    const V x = load(a + m * g.in + k, g.in - k);
                    store(scratch + m * padded + k, x * normal(x).distribution);
                }
            a = scratch;
            stride = padded;
        }
        for (int64_t p = 0; p < value_panels; ++p) {
            const Real* panel = packed + p * forward_panel;
            each_tile(count(block), [&](int64_t m, auto tile) {
                constexpr int M = decltype(tile)::value;
                const int64_t row = first(block) + m;
                V z[M][VECTORS];
                for (int n = 0; n < VECTORS; ++n) {
                    const V c = load(panel + g.in * PANEL<Real> + n * W);
                    for (int i = 0; i < M; ++i) z[i][n] = c;
                }
                multiply_tile<M, VECTORS, Real>(z, a + m * stride, stride, 1, panel, PANEL<Real>, g.in);
                for (int i = 0; i < M; ++i)
                    for (int n = 0; n < VECTORS / 2; ++n) {
                        const int64_t column = p * HALF + n * W, left = g.out - column;
                        if (left <= 0) continue;
                        const V value = z[i][n], gate = z[i][VECTORS / 2 + n];
                        store(g.y + (row + i) * g.out + column, value * sigmoid(gate), left);
                        if (!g.z) continue;
                        store(g.z + (row + i) * 2 * g.out + column, value, left);
                        store(g.z + (row + i) * 2 * g.out + g.out + column, gate, left);
                    }
            });
        }
    }

    // dz of a block of rows, (count, 2 out), and its sum over the rows.
    void gate_backward(Real* dz, Real* grad_bias, int64_t block) const {
        for (int64_t m = 0; m < count(block); ++m) {
            const int64_t row = first(block) + m;
            for (int64_t column = 0; column < g.out; column += W) {
                const int64_t left = g.out - column;
                const Real* z = g.z + row * 2 * g.out + column;
                const V dy = load(g.grad_y + row * g.out + column, left), s = sigmoid(load(z + g.out, left));
                const V dvalue = dy * s, dgate = dvalue * load(z, left) * (1 - s);
                Real* to = dz + m * 2 * g.out + column;
                store(to, dvalue, left);
                store(to + g.out, dgate, left);
                store(grad_bias + column, load(grad_bias + column, left) + dvalue, left);
                store(grad_bias + g.out + column, load(grad_bias + g.out + column, left) + dgate, left);
            }
        }
    }

    // The block's x through the activation, packed, and the activation's derivative there in the same order.
    void activate(Real* x, Real* derivative, int64_t block) const {
        each_packed(g.x + first(block) * g.in, count(block), [&](int64_t place, V v) {
            if (!g.gelu) return store(x + place, v);
            const Normal<V> n = normal(v);
            store(x + place, v * n.distribution);
            store(derivative + place, n.distribution + v * n.density);
        });
    }

    // emit(to, left, place, vector) for the vectors of a b, (rows, in): `to` is where a (rows, in) matrix has it, `left` how
    // many columns there are from it on, `place` where a packed one has it. b (K, in) is packed.
    template <class F>
    void multiply(const Real* a, int64_t row, int64_t column, const Real* b, int64_t rows, int64_t K, F emit) const {
        for (int64_t p = 0; p < in_panels; ++p)
            each_tile(rows, [&](int64_t m, auto tile) {
                constexpr int M = decltype(tile)::value;
                V sum[M][VECTORS] = {};
                multiply_tile<M, VECTORS, Real>(sum, a + m * row, row, column, b + p * K * PANEL<Real>, PANEL<Real>, K);
                for (int i = 0; i < M; ++i)
                    for (int n = 0; n < VECTORS; ++n) {
                        const int64_t at = p * PANEL<Real> + n * W;
                        if (at < g.in) emit((m + i) * g.in + at, g.in - at, (p * rows + m + i) * PANEL<Real> + n * W, sum[i][n]);
                    }
            });
    }
};

}  // namespace

template <class Real> void gated_linear(const GatedLinear<Real>& g) {
    const GatedProduct<Real> product{g};
    if (g.rows <= FEW) {
        Real* x = reinterpret_cast<Real*>(scratch<Vector<Real>>(ceil_div(product.padded + 2 * g.out, lanes<Real>)));
        return product.forward_few(x, x + product.padded);
    }
    const int64_t packed = product.value_panels * product.forward_panel, rows = g.gelu ? BLOCK * product.padded : 0;
    Real* memory = reinterpret_cast<Real*>(scratch<Vector<Real>>(ceil_div(packed + g.threads * rows, lanes<Real>)));
    product.pack_forward(memory);
#pragma omp parallel for num_threads(g.threads) schedule(dynamic)
    for (int64_t block = 0; block < product.blocks; ++block)
        product.forward(memory, memory + packed + thread_number() * rows, block);
}

template <class Real> void gated_linear_backward(const GatedLinear<Real>& g) {
    using V = Vector<Real>;
    const GatedProduct<Real> product{g};
    const int64_t size = 2 * g.out * (g.in + 1);  // dW, then dc
    const int64_t affordable = std::max<int64_t>(1, GROUP_BYTES / std::max<int64_t>(1, size * sizeof(Real)));
    const int64_t groups = std::max<int64_t>(1, std::min({product.blocks, affordable, MOST_GROUPS}));
    const int64_t per_group = ceil_div(product.blocks, groups);

    // Of the call: W packed, and the groups' sums. Of each thread: dz, x and the derivative of a block.
    const int64_t weight = 2 * g.out * product.padded, dz_size = BLOCK * 2 * g.out, x_size = BLOCK * product.padded;
    const int64_t work = ceil_div(dz_size, lanes<Real>) * lanes<Real> + 2 * x_size;
    const int64_t reals = weight + g.threads * work + groups * size;
    Real* W = reinterpret_cast<Real*>(scratch<V>(ceil_div(reals, lanes<Real>)));
    Real* sums = W + weight + g.threads * work;
    product.each_packed(g.weight, 2 * g.out, [&](int64_t place, V v) { store(W + place, v); });

#pragma omp parallel for num_threads(g.threads) schedule(dynamic)
    for (int64_t group = 0; group < groups; ++group) {
        Real *x = W + weight + thread_number() * work, *derivative = x + x_size, *dz = derivative + x_size;
        Real *dW = sums + group * size, *dc = dW + 2 * g.out * g.in;
        std::fill_n(dW, size, Real(0));
        for (int64_t block = group * per_group; block < std::min(product.blocks, (group + 1) * per_group); ++block) {
            const int64_t count = product.count(block);
            Real* grad_x = g.grad_x + product.first(block) * g.in;
            product.activate(x, derivative, block);
            product.gate_backward(dz, dc, block);
            product.multiply(dz, 2 * g.out, 1, W, count, 2 * g.out, [&](int64_t to, int64_t left, int64_t place, V v) {
                store(grad_x + to, g.gelu ? v * load(derivative + place) : v, left);
            });
            product.multiply(dz, 1, 2 * g.out, x, 2 * g.out, count, [&](int64_t to, int64_t left, int64_t, V v) {
                store(dW + to, load(dW + to, left) + v, left);
            });
        }
    }
#pragma omp parallel for num_threads(g.threads) schedule(static)
    for (int64_t i = 0; i < size; ++i) {
        Real total = 0;
        for (int64_t group = 0; group < groups; ++group) total += sums[group * size + i];
        if (i < 2 * g.out * g.in) g.grad_weight[i] = total;
        else if (g.grad_bias) g.grad_bias[i - 2 * g.out * g.in] = total;
    }
}

template void gated_linear<float>(const GatedLinear<float>&);
template void gated_linear<double>(const GatedLinear<double>&);
template void gated_linear_backward<float>(const GatedLinear<float>&);
template void gated_linear_backward<double>(const GatedLinear<double>&);

}  // namespace longwave::LONGWAVE_ISA
