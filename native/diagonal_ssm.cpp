// A bank of single-input diagonal state space models, forward and backward.
//
//     x[t] = a x[t-1] + b u[t],    y[t] = 2 Re(c . x[t]) + d u[t]        (complex a, b, c; real ones: y = c . x + d u)
//
// Taken T positions at a time the system is linear in (x before the block, u in the block):
//
//     x' = a^T x + sum_j P_j u_j        P_j = a^(T-1-j) b                 compress, then advance
//     y_j = Q_j . x + sum_i K_(j-i) u_i Q_j = c a^(j+1), K_l = c a^l b    expand, and a T x T Toeplitz product; d joins K_0
//
// With R real state coordinates a position costs 2 R + (T+1)/2 + 4 R/T multiply-adds, where the plain recurrence costs 4 R
// (complex; 3 R with b folded into c), and nearly all of them are products of small matrices, one per channel. Channels are the lanes
// of a vector, so all five products, forward and backward, are one function: `multiply`, on matrices of vectors.
//
// The tables P, Q, K and a^T come from the rounded a, b, c in a higher precision and are rounded once; a^T is kept as a
// sum of two numbers, so that 16,384 positions are not 1,024 times the same rounding error. The gradients of a, b and c
// go through those of the tables. Chunks of CHUNK positions bound the memory: the states at their beginnings are all that
// the forward pass leaves for the backward pass. Work is split by shape only, so results do not depend on the threads.
#include <algorithm>
#include <memory>
#include <vector>

#include "kernels.hpp"
#include "lanes.hpp"
#include "lanewise_matrices.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

constexpr int T = 16;                      // positions in a block
constexpr int CHUNK = DIAGONAL_SSM_CHUNK;  // positions between two checkpoints: 16 blocks
static_assert(DIAGONAL_SSM_ROWS == ROWS);  // coordinates fill whole tiles of `multiply`
constexpr int MIN_TASKS = 16;              // backward splits the batch until there are about so many tasks

// The tables are made in a higher precision than they are kept in: double for float, long double for double.
template <class Real> struct Wider;
template <> struct Wider<float> {
    typedef double type;
    typedef double Lanes __attribute__((vector_size(2 * LONGWAVE_VECTOR_BYTES)));
    static Lanes widen(Vector<float> v) { return __builtin_convertvector(v, Lanes); }
    static Vector<float> narrow(Lanes v) { return __builtin_convertvector(v, Vector<float>); }
};
template <> struct Wider<double> {
    typedef long double type;
    struct Lanes {
        long double lane[lanes<double>];
        long double& operator[](int i) { return lane[i]; }
        long double operator[](int i) const { return lane[i]; }
        template <class F> static Lanes each(F f) {
            Lanes z;
            for (int i = 0; i < lanes<double>; ++i) z.lane[i] = f(i);
            return z;
        }
        Lanes operator+(const Lanes& y) const { return each([&](int i) { return lane[i] + y.lane[i]; }); }
        Lanes operator-(const Lanes& y) const { return each([&](int i) { return lane[i] - y.lane[i]; }); }
        Lanes operator*(const Lanes& y) const { return each([&](int i) { return lane[i] * y.lane[i]; }); }
        Lanes operator*(long double y) const { return each([&](int i) { return lane[i] * y; }); }
        Lanes& operator+=(const Lanes& y) { return *this = *this + y; }
        Lanes& operator-=(const Lanes& y) { return *this = *this - y; }
    };
    static Lanes widen(Vector<double> v) { return Lanes::each([&](int i) { return (long double)(v[i]); }); }
    static Vector<double> narrow(const Lanes& x) {
        Vector<double> v;
        for (int i = 0; i < lanes<double>; ++i) v[i] = double(x[i]);
        return v;
    }
};

// ---- tables of one block of channels -------------------------------------------------------------------------------

// State coordinates: (re, im) of mode 0, (re, im) of mode 1, ...; padded with zeros to a multiple of ROWS.
inline int64_t coordinates(int64_t modes, bool is_complex) { return ceil_div(modes * (is_complex ? 2 : 1), ROWS) * ROWS; }

// The same five tables hold the system and, in the backward pass, the gradients of its entries.
template <class V> struct Tables {
    int64_t R;
    V *P, *Q, *power, *rest, *K;  // P (R, T); Q (R, T); power (T, R): a^1 .. a^T; rest (R): a^T minus power[T-1]; K (T x T)
    static int64_t size(int64_t R) { return 3 * R * T + R + T * T; }
    Tables(V* at, int64_t R_)
        : R(R_), P(at), Q(P + R * T), power(Q + R * T), rest(power + R * T), K(rest + R) {}
    Matrix<V> compress() const { return {P, T, 1}; }         // (coordinate, position)
    Matrix<V> expand() const { return {Q, 1, T}; }           // (position, coordinate)
    // As part of the system K holds K_l at K[T - 1 + l] and zeros before: a Toeplitz matrix is a stride of -1. As a
    // gradient it holds the T x T matrix of products (dy_j, u_i), whose diagonals belong to K_(j-i).
    Matrix<V> toeplitz() const { return {K + T - 1, 1, -1}; }
    Matrix<V> toeplitz_transposed() const { return {K + T - 1, -1, 1}; }
};

template <class Real> struct System {
    using V = Vector<Real>;
    using Wide = typename Wider<Real>::type;
    using WideLanes = typename Wider<Real>::Lanes;
    static constexpr int W = lanes<Real>;

    const DiagonalSSM<Real>& s;
    const int64_t parts = s.is_complex ? 2 : 1, R = coordinates(s.modes, s.is_complex), blocks = ceil_div(s.dim, W);
    const Wide pair = s.is_complex ? 2 : 1;  // a complex mode stands for itself and its conjugate

    int width(int64_t block) const { return int(std::min<int64_t>(W, s.dim - block * W)); }

    // A complex number per lane, in the wider precision.
    struct Number {
        WideLanes re = {}, im = {};
        Number times(const Number& y) const { return {re * y.re - im * y.im, re * y.im + im * y.re}; }
        void add_conj_times(Wide scale, const Number& x, const Number& y) {  // += scale conj(x) y
            re += (x.re * y.re + x.im * y.im) * scale;
            im += (x.re * y.im - x.im * y.re) * scale;
        }
    };
    static Number one() {
        Number z;
        for (int i = 0; i < W; ++i) z.re[i] = 1;
        return z;
    }

    // Mode `mode` of a (dim, modes) tensor; lanes beyond the last channel are zero.
    Number entry(const Real* p, int64_t block, int64_t mode) const {
        Number z;
        for (int lane = 0; lane < width(block); ++lane) {
            const Real* at = p + ((block * W + lane) * s.modes + mode) * parts;
            z.re[lane] = at[0];
            if (s.is_complex) z.im[lane] = at[1];
        }
        return z;
    }
    void write_entry(Real* p, int64_t block, int64_t mode, const Number& z) const {
        for (int lane = 0; lane < width(block); ++lane) {
            Real* at = p + ((block * W + lane) * s.modes + mode) * parts;
            at[0] = Real(z.re[lane]);
            if (s.is_complex) at[1] = Real(z.im[lane]);
        }
    }
    // Mode `mode` of a table whose coordinates are `row` apart; `re` and `im` scale the two parts.
    void put(V* table, int64_t mode, int64_t row, const Number& z, Wide re = 1, Wide im = 1) const {
        table[mode * parts * row] = Wider<Real>::narrow(z.re * re);
        if (s.is_complex) table[(mode * 2 + 1) * row] = Wider<Real>::narrow(z.im * im);
    }
    Number get(const V* table, int64_t mode, int64_t row, Wide re = 1, Wide im = 1) const {
        Number z;
        z.re = Wider<Real>::widen(table[mode * parts * row]) * re;
        if (s.is_complex) z.im = Wider<Real>::widen(table[(mode * 2 + 1) * row]) * im;
        return z;
    }

    void build(Tables<V> t, int64_t block) const {
        WideLanes K[T] = {};
        const int64_t used = s.modes * parts;  // the other coordinates only fill a tile
        std::fill_n(t.P + used * T, (R - used) * T, V{});
        std::fill_n(t.Q + used * T, (R - used) * T, V{});
        for (int j = 0; j < T; ++j) std::fill_n(t.power + j * R + used, R - used, V{});
        std::fill_n(t.rest + used, R - used, V{});
        std::fill_n(t.K, T, V{});
        for (int64_t n = 0; n < s.modes; ++n) {
            const Number a = entry(s.a, block, n), b = entry(s.b, block, n), c = entry(s.c, block, n), bc = b.times(c);
            Number power = one();  // a^j
            for (int j = 0; j < T; ++j) {
                K[j] += bc.times(power).re * pair;
                put(t.P + T - 1 - j, n, T, b.times(power));
                power = power.times(a);
                put(t.Q + j, n, T, c.times(power), pair, -pair);  // of Re x and Im x in pair Re(c a^(j+1) x)
                put(t.power + j * R, n, 1, power);
            }
            const Number rounded = get(t.power + (T - 1) * R, n, 1);
            power.re -= rounded.re;
            power.im -= rounded.im;
            put(t.rest, n, 1, power);
        }
        if (s.d)
            for (int lane = 0; lane < width(block); ++lane) K[0][lane] += s.d[block * W + lane];  // d u is the lag 0 of K
        for (int l = 0; l < T; ++l) t.K[T - 1 + l] = Wider<Real>::narrow(K[l]);
    }

    // Chain rule from the tables' gradients to those of a, b, c, d.
    void collect(Tables<V> g, int64_t block) const {
        Number dK[T];
        for (int l = 0; l < T; ++l)
            for (int j = l; j < T; ++j) dK[l].re += Wider<Real>::widen(g.K[j * T + j - l]);
        if (s.grad_d)
            for (int lane = 0; lane < width(block); ++lane) s.grad_d[block * W + lane] = Real(dK[0].re[lane]);
        for (Number& k : dK) k.re = k.re * pair;
        for (int64_t n = 0; n < s.modes; ++n) {
            const Number a = entry(s.a, block, n), b = entry(s.b, block, n), c = entry(s.c, block, n);
            Number da, db, dc, before, power = one();  // a^j, a^(j-1)
            for (int j = 0; j < T; ++j) {
                // K_j = pair Re(c a^j b) and P_(T-1-j) = a^j b
                Number dab = get(g.P + T - 1 - j, n, T);  // gradient of a^j b
                dab.add_conj_times(1, c, dK[j]);
                db.add_conj_times(1, power, dab);
                dc.add_conj_times(1, power.times(b), dK[j]);
                da.add_conj_times(j, before.times(b), dab);
                // Q_j = c a^(j+1), and a^(j+1) itself
                const Number next = power.times(a), dz = get(g.Q + j, n, T, pair, -pair);
                Number dpower = get(g.power + j * R, n, 1);
                dpower.add_conj_times(1, c, dz);
                dc.add_conj_times(1, next, dz);
                da.add_conj_times(j + 1, power, dpower);
                before = power;
                power = next;
            }
            write_entry(s.grad_a, block, n, da);
            write_entry(s.grad_b, block, n, db);
            write_entry(s.grad_c, block, n, dc);
        }
    }

    // ---- between tensors and vectors -----------------------------------------------------------------------------

    void read(V* to, const View<const Real>& from, int64_t row, int64_t block, int64_t t0, int n) const {
        const Real* p = from.data + row * from.batch + t0 * from.time + block * W * from.dim;
        const int w = width(block);
        for (int t = 0; t < n; ++t, p += from.time) {
            if (from.dim == 1 && w == W) {
                to[t] = load(p);
            } else {
                V v = {};
                for (int lane = 0; lane < w; ++lane) v[lane] = p[lane * from.dim];
                to[t] = v;
            }
        }
    }
    // Neighbouring positions lie a whole row of channels apart, which hardware prefetchers do not follow from page to page:
    // ask for what the next chunk will read, and for what this chunk will write, before computing.
    void prefetch(const View<const Real>& from, int64_t row, int64_t block, int64_t t0, int64_t t1) const {
        const Real* p = from.data + row * from.batch + block * W * from.dim;
        for (int64_t t = std::max<int64_t>(0, t0); t < std::min(t1, end(row)); ++t) __builtin_prefetch(p + t * from.time, 0);
    }
    void prefetch(Real* to, int64_t row, int64_t block, int64_t t0, int64_t n) const {
        for (int64_t t = t0; t < t0 + n; ++t) __builtin_prefetch(to + (row * s.length + t) * s.dim + block * W, 1);
    }
    void write(Real* to, const V* from, int64_t row, int64_t block, int64_t t0, int n) const {
        Real* p = to + (row * s.length + t0) * s.dim + block * W;
        const int w = width(block);
        for (int t = 0; t < n; ++t, p += s.dim) {
            if (w == W) store(p, from[t]);
            else for (int lane = 0; lane < w; ++lane) p[lane] = from[t][lane];
        }
    }
    void write_zeros(Real* to, int64_t row, int64_t block, int64_t t0) const {
        for (int64_t t = t0; t < s.length; ++t)
            std::fill_n(to + (row * s.length + t) * s.dim + block * W, width(block), Real(0));
    }
    void read_state(V* x, const Real* from, int64_t row, int64_t block) const {
        std::fill_n(x, R, V{});
        if (!from) return;
        for (int lane = 0; lane < width(block); ++lane)
            for (int64_t r = 0; r < s.modes * parts; ++r)
                x[r][lane] = from[(row * s.dim + block * W + lane) * s.modes * parts + r];
    }
    void write_state(Real* to, const V* x, int64_t row, int64_t block) const {
        for (int lane = 0; lane < width(block); ++lane)
            for (int64_t r = 0; r < s.modes * parts; ++r)
                to[(row * s.dim + block * W + lane) * s.modes * parts + r] = x[r][lane];
    }

    // ---- time ----------------------------------------------------------------------------------------------------

    int64_t end(int64_t row) const { return s.lengths ? s.lengths[row] : s.length; }
    int64_t chunks() const { return ceil_div(s.length, CHUNK); }
    V* checkpoint(int64_t row, int64_t block, int64_t chunk) const {
        return reinterpret_cast<V*>(s.checkpoints) + ((row * blocks + block) * chunks() + chunk) * R;
    }

    // x <- a x + in for one mode, PARTS coordinates, with a = factor + rest. A fused multiply-add keeps what `rest` has to
    // say; where there is none the rounded product would swallow it, and the sum is made in the wider precision.
    template <int PARTS>
    [[gnu::always_inline]] static inline void affine(V* x, const V* factor, const V* rest, const V* in) {
#if defined(__FMA__) || defined(__aarch64__)
        if constexpr (PARTS == 1) {
            x[0] = factor[0] * x[0] + (rest[0] * x[0] + in[0]);
        } else {
            const V re = x[0], im = x[1];
            x[0] = factor[0] * re - (factor[1] * im - (rest[0] * re - (rest[1] * im - in[0])));
            x[1] = factor[0] * im + (factor[1] * re + (rest[0] * im + (rest[1] * re + in[1])));
        }
#else
        const auto wide = [](V v) { return Wider<Real>::widen(v); };
        const WideLanes a = wide(factor[0]) + wide(rest[0]), re = wide(x[0]);
        if constexpr (PARTS == 1) {
            x[0] = Wider<Real>::narrow(a * re + wide(in[0]));
        } else {
            const WideLanes b = wide(factor[1]) + wide(rest[1]), im = wide(x[1]);
            x[0] = Wider<Real>::narrow(a * re - b * im + wide(in[0]));
            x[1] = Wider<Real>::narrow(a * im + b * re + wide(in[1]));
        }
#endif
    }

    // x[i+1] = a^m x[i] + g[i] for `count` blocks, x[0] given; x and g are (block, coordinate). A GROUP of coordinates
    // stays in registers: enough of them that their chains of multiply-adds overlap.
    template <int PARTS, int GROUP> void advance_group(V* x, const V* a, const V* a_rest, const V* g, int count) const {
        V state[GROUP], factor[GROUP], rest[GROUP];
        for (int r = 0; r < GROUP; ++r) {
            state[r] = x[r];
            factor[r] = a[r];
            rest[r] = a_rest ? a_rest[r] : V{};
        }
        for (int k = 0; k < count; ++k, g += R) {
            x += R;
#pragma GCC unroll 8
            for (int r = 0; r < GROUP; r += PARTS) {
                affine<PARTS>(state + r, factor + r, rest + r, g + r);
                for (int part = 0; part < PARTS; ++part) x[r + part] = state[r + part];
            }
        }
    }
    template <int PARTS> void advance(V* x, const Tables<V>& t, int m, const V* g, int count) const {
        const V *a = t.power + (m - 1) * R, *rest = m == T ? t.rest : nullptr;
        int64_t r = 0;
        for (; r + 2 * ROWS <= R; r += 2 * ROWS) advance_group<PARTS, 2 * ROWS>(x + r, a + r, rest ? rest + r : nullptr, g + r, count);
        for (; r < R; r += ROWS) advance_group<PARTS, ROWS>(x + r, a + r, rest ? rest + r : nullptr, g + r, count);
    }

    // The transpose, from the last block to the first: h[i] = h, h = conj(a^m) h + g[i]; and the gradient of a^m.
    template <int PARTS>
    void advance_adjoint(V* h_last, V* h, const Tables<V>& t, const Tables<V>& grad, int m, const V* x, const V* g, int count) const {
        const V* a = t.power + (m - 1) * R;
        V* da = grad.power + (m - 1) * R;
        for (int64_t r0 = 0; r0 < R; r0 += ROWS) {
            V state[ROWS], factor[ROWS], rest[ROWS], sum[ROWS];
            for (int r = 0; r < ROWS; ++r) {
                const Real conjugate = PARTS == 2 && r % 2 ? -1 : 1;
                state[r] = h_last[r0 + r];
                factor[r] = conjugate * a[r0 + r];
                rest[r] = m == T ? conjugate * t.rest[r0 + r] : V{};
                sum[r] = da[r0 + r];
            }
            for (int k = count - 1; k >= 0; --k) {
                const V *in = g + k * R + r0, *before = x + k * R + r0;
                V* out = h + k * R + r0;
#pragma GCC unroll 4
                for (int r = 0; r < ROWS; r += PARTS) {
                    for (int part = 0; part < PARTS; ++part) out[r + part] = state[r + part];
                    if constexpr (PARTS == 1) {
                        sum[r] += state[r] * before[r];
                    } else {
                        sum[r] += state[r] * before[r] + state[r + 1] * before[r + 1];
                        sum[r + 1] += state[r + 1] * before[r] - state[r] * before[r + 1];
                    }
                    affine<PARTS>(state + r, factor + r, rest + r, in + r);
                }
            }
            for (int r = 0; r < ROWS; ++r) {
                h_last[r0 + r] = state[r];
                da[r0 + r] = sum[r];
            }
        }
    }
};

// A chunk is a list of runs; a run is `count` blocks of m positions, from `start`; `cut` zeroes the state before it.
struct Run { int start, count, m; bool cut; };

void plan(std::vector<Run>& runs, const uint8_t* reset, int n) {
    runs.clear();
    for (int start = 0; start < n;) {
        int stop = start + 1;
        while (stop < n && !(reset && reset[stop])) ++stop;
        const bool cut = reset && reset[start];
        const int full = (stop - start) / T, tail = (stop - start) % T;
        if (full) runs.push_back({start, full, T, cut});
        if (tail) runs.push_back({start + full * T, 1, tail, cut && !full});
        start = stop;
    }
}

// What one thread computes in. A chunk has up to 16 blocks, or as many as positions where there are resets.
template <class Real> struct Workspace {
    using V = Vector<Real>;
    std::vector<Run> runs;
    V *u, *dy, *out, *h, *X, *G, *H;
    static int64_t blocks(bool resets) { return resets ? CHUNK : CHUNK / T; }
    static int64_t size(int64_t R, bool resets) { return 3 * CHUNK + R + (3 * blocks(resets) + 1) * R; }
    Workspace(V* at, int64_t R, bool resets)
        : u(at), dy(u + CHUNK), out(dy + CHUNK), h(out + CHUNK), X(h + R), G(X + (blocks(resets) + 1) * R),
          H(G + blocks(resets) * R) {
        runs.reserve(CHUNK);
    }
};

// States before each block of the chunk, X[0 .. blocks]; X[0] is given.
template <class Real, class V>
int states(const System<Real>& sys, const Tables<V>& t, Workspace<Real>& w) {
    const int64_t R = sys.R;
    int i = 0;
    for (const Run& run : w.runs) {
        V* x = &w.X[i * R];
        if (run.cut) std::fill_n(x, R, V{});
        multiply<V>({&w.G[i * R], 1, R}, t.compress().at(0, T - run.m), {&w.u[run.start], T, 1}, int(R), run.count, run.m, false);
        if (sys.s.is_complex) sys.template advance<2>(x, t, run.m, &w.G[i * R], run.count);
        else sys.template advance<1>(x, t, run.m, &w.G[i * R], run.count);
        i += run.count;
    }
    return i;
}

// The calling thread's scratch memory: the tables of every block of channels, `sums` more of their size, a workspace a thread.
template <class Real> struct Memory {
    using V = Vector<Real>;
    const System<Real>& sys;
    const int64_t size = Tables<V>::size(sys.R), work = Workspace<Real>::size(sys.R, sys.s.reset != nullptr);
    V* const at;
    std::vector<Workspace<Real>> workspaces;

    explicit Memory(const System<Real>& system, int64_t sums = 0)
        : sys(system), at(scratch<V>((sys.blocks + sums) * size + sys.s.threads * work)) {
        for (int64_t i = 0; i < sys.s.threads; ++i)
            workspaces.emplace_back(at + (sys.blocks + sums) * size + i * work, sys.R, sys.s.reset != nullptr);
#pragma omp parallel for num_threads(sys.s.threads) schedule(static)
        for (int64_t block = 0; block < sys.blocks; ++block) {
            sys.build(tables(block), block);
        }
    }
    Tables<V> tables(int64_t block) const { return Tables<V>(at + block * size, sys.R); }
    V* sum(int64_t i) const { return at + (sys.blocks + i) * size; }
};

template <class Real>
void forward_row(const System<Real>& sys, const Tables<Vector<Real>>& t, Workspace<Real>& w, int64_t row, int64_t block) {
    using V = Vector<Real>;
    const DiagonalSSM<Real>& s = sys.s;
    const int64_t R = sys.R, end = sys.end(row);
    sys.read_state(w.X, s.initial, row, block);
    for (int64_t t0 = 0; t0 < end; t0 += CHUNK) {
        const int n = int(std::min<int64_t>(CHUNK, end - t0));
        if (s.checkpoints) std::copy_n(w.X, R, sys.checkpoint(row, block, t0 / CHUNK));
        plan(w.runs, s.reset ? s.reset + row * s.length + t0 : nullptr, n);
        sys.read(w.u, s.u, row, block, t0, n);
        sys.prefetch(s.u, row, block, t0 + CHUNK, t0 + 2 * CHUNK);
        sys.prefetch(s.y, row, block, t0, n);
        const int count = states(sys, t, w);
        int i = 0;
        for (const Run& run : w.runs) {
            const Matrix<V> y = {&w.out[run.start], 1, T};
            const Matrix<const V> u = {&w.u[run.start], T, 1};
            multiply<V>(y, t.toeplitz(), u, run.m, run.count, run.m, false, Terms::to_diagonal);
            multiply<V>(y, t.expand(), {&w.X[i * R], R, 1}, run.m, run.count, int(R), true);
            i += run.count;
        }
        sys.write(s.y, w.out, row, block, t0, n);
        std::copy_n(&w.X[count * R], R, w.X);
    }
    sys.write_zeros(s.y, row, block, end);
    sys.write_state(s.final, w.X, row, block);
}

template <class Real>
void backward_row(const System<Real>& sys, const Tables<Vector<Real>>& t, const Tables<Vector<Real>>& g, Workspace<Real>& w,
                  int64_t row, int64_t block) {
    using V = Vector<Real>;
    const DiagonalSSM<Real>& s = sys.s;
    const int64_t R = sys.R, end = sys.end(row);
    V* h = w.h;  // gradient of the state after the current block
    sys.read_state(h, s.grad_final, row, block);
    for (int64_t t0 = (ceil_div(end, CHUNK) - 1) * CHUNK; t0 >= 0; t0 -= CHUNK) {
        const int n = int(std::min<int64_t>(CHUNK, end - t0));
        std::copy_n(sys.checkpoint(row, block, t0 / CHUNK), R, w.X);
        plan(w.runs, s.reset ? s.reset + row * s.length + t0 : nullptr, n);
        sys.read(w.u, s.u, row, block, t0, n);
        sys.read(w.dy, s.grad_y, row, block, t0, n);
        sys.prefetch(s.u, row, block, t0 - CHUNK, t0);
        sys.prefetch(s.grad_y, row, block, t0 - CHUNK, t0);
        sys.prefetch(s.y, row, block, t0, n);
        int i = states(sys, t, w);
        for (auto run = w.runs.rbegin(); run != w.runs.rend(); ++run) {
            i -= run->count;
            const int m = run->m, N = run->count;
            V *X = &w.X[i * R], *G = &w.G[i * R], *H = &w.H[i * R];
            const Matrix<V> u = {&w.u[run->start], T, 1}, dy = {&w.dy[run->start], T, 1}, du = {&w.out[run->start], 1, T};
            const Matrix<const V> by_position_u = {u.p, 1, T}, by_position_dy = {dy.p, 1, T};

            // H: gradients of the states after each block; h goes through the block to the state before it.
            multiply<V>({G, 1, R}, {t.Q, T, 1}, dy, int(R), N, m, false);
            if (s.is_complex) sys.template advance_adjoint<2>(h, H, t, g, m, X, G, N);
            else sys.template advance_adjoint<1>(h, H, t, g, m, X, G, N);
            if (run->cut) std::fill_n(h, R, V{});

            multiply<V>(du, t.toeplitz_transposed(), dy, m, N, m, false, Terms::from_diagonal);
            multiply<V>(du, Matrix<const V>{t.P + T - m, 1, T}, {H, R, 1}, m, N, int(R), true);
            multiply<V>(g.compress().at(0, T - m), {H, 1, R}, by_position_u, int(R), m, N, true);
            multiply<V>({g.Q, T, 1}, {X, 1, R}, by_position_dy, int(R), m, N, true);
            for (int j = 0; j < m; j += ROWS)  // products (dy_j, u_i), i <= j: K's gradient lies on the diagonals
                multiply<V>({g.K + j * T, T, 1}, by_position_dy.at(j, 0), by_position_u, std::min(ROWS, m - j),
                            std::min(j + ROWS, m), N, true);
        }
        sys.write(s.y, w.out, row, block, t0, n);
    }
    sys.write_zeros(s.y, row, block, end);
    if (s.final) sys.write_state(s.final, h, row, block);
}

}  // namespace

template <class Real> void diagonal_ssm(const DiagonalSSM<Real>& s) {
    const System<Real> sys{s};
    Memory<Real> memory(sys);
#pragma omp parallel for num_threads(s.threads) schedule(dynamic)
    for (int64_t task = 0; task < sys.blocks * s.batch; ++task)
        forward_row(sys, memory.tables(task % sys.blocks), memory.workspaces[thread_number()], task / sys.blocks, task % sys.blocks);
}

template <class Real> void diagonal_ssm_backward(const DiagonalSSM<Real>& s) {
    using V = Vector<Real>;
    const System<Real> sys{s};
    // Each (group of rows, block of channels) adds up gradients of its own; the groups are then added in order.
    const int64_t groups = std::max<int64_t>(1, std::min(s.batch, ceil_div(MIN_TASKS, std::max<int64_t>(1, sys.blocks))));
    const int64_t rows = ceil_div(s.batch, groups);
    Memory<Real> memory(sys, groups * sys.blocks);
#pragma omp parallel for num_threads(s.threads) schedule(dynamic)
    for (int64_t task = 0; task < sys.blocks * groups; ++task) {
        const int64_t block = task / groups, group = task % groups;
        V* sum = memory.sum(group * sys.blocks + block);
        std::fill_n(sum, memory.size, V{});
        for (int64_t row = group * rows; row < std::min(s.batch, (group + 1) * rows); ++row)
            backward_row(sys, memory.tables(block), Tables<V>(sum, sys.R), memory.workspaces[thread_number()], row, block);
    }
#pragma omp parallel for num_threads(s.threads) schedule(static)
    for (int64_t block = 0; block < sys.blocks; ++block) {
        V* total = memory.sum(block);
        for (int64_t group = 1; group < groups; ++group)
            for (int64_t i = 0; i < memory.size; ++i) total[i] += memory.sum(group * sys.blocks + block)[i];
        sys.collect(Tables<V>(total, sys.R), block);
    }
}

template void diagonal_ssm<float>(const DiagonalSSM<float>&);
template void diagonal_ssm<double>(const DiagonalSSM<double>&);
template void diagonal_ssm_backward<float>(const DiagonalSSM<float>&);
template void diagonal_ssm_backward<double>(const DiagonalSSM<double>&);

}  // namespace longwave::LONGWAVE_ISA
