// State space duality: h[t] = e^a[t] h[t-1] + b[t] (w[t] x[t])',  y[t] = c[t] h[t] + d x[t], forward and backward.
//
// A chunk of positions is one product with a masked matrix, and a recurrence links the states S (state x dim) between
// chunks. With e_t = exp(sum of a up to t), r_s = exp(sum of a after s) and L_ts = exp(sum of a in (s, t]), s <= t:
//
//     y_t = e_t c_t S + sum_s M_ts x_s + d x_t,   M_ts = (c_t . b_s) L_ts w_s         S' = e_end S + sum_s r_s w_s b_s x_s'
//
// Backward, with G the gradient of S', which is a recurrence of the same form in the other direction:
//
//     dS = e_end G + sum_t e_t c_t dy_t'         dx_s = r_s w_s b_s G + sum_t M_ts dy_t + d dy_s
//     dc_t = e_t S dy_t + sum_s K_ts b_s         db_s = r_s w_s G x_s + sum_t K_ts c_t,      K_ts = (dy_t . x_s) L_ts w_s
//     da_r = e_end <S, G> + sum_{t>=r} e_t c_t S dy_t + sum_{s<r} r_s w_s b_s G x_s + sum_{s<r<=t} M_ts (dy_t . x_s)
//
// Every sum of a is added up in double precision from the terms it has, and never the difference of two; so is every sum in da.
// Where a sequence begins, e, r and L are zero across it, and nothing is multiplied by them; padding has a = 0 and w = 0.
//
// c . b belongs to a group and is shared by its heads. A task goes along a whole row. Forward it is one head, whose S stays in
// cache; backward a team of neighbouring heads of a group, whose G do: they add up db and dc, and the teams' are added up outside.
#include <algorithm>
#include <type_traits>

#include "exponential.hpp"
#include "kernels.hpp"
#include "lanes.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

constexpr int ROWS = 4;  // a tile: ROWS x VECTORS accumulators in registers
constexpr int VECTORS = LONGWAVE_VECTOR_BYTES == 64 ? 4 : 2;

constexpr int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

template <class V, int N> using Tile = V[ROWS][N];

// sum(m, n) += sum_k a(m, k) b(k, n): scalars a[m * row + k * column], vectors at b[k * stride + n * lanes].
template <int N, class Real>
[[gnu::always_inline]] inline void multiply(Tile<Vector<Real>, N>& sum, const Real* a, int64_t row, int64_t column, const Real* b,
                                            int64_t stride, int64_t K) {
    for (int64_t k = 0; k < K; ++k, a += column, b += stride) {
        Vector<Real> bk[N];
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) bk[n] = load(b + n * lanes<Real>);
#pragma GCC unroll 4
        for (int m = 0; m < ROWS; ++m) {
            const Vector<Real> am = Vector<Real>{} + a[m * row];
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) sum[m][n] += am * bk[n];
        }
    }
}

// Every row of a tile times a number of its own; what a zero multiplies does not matter.
template <int N, class Real> [[gnu::always_inline]] inline void scale(Tile<Vector<Real>, N>& sum, const Real* by) {
#pragma GCC unroll 4
    for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sum[m][n] = by[m] == 0 ? Vector<Real>{} : by[m] * sum[m][n];
}

// Calls tile(first row, first column, integral_constant<vectors>) for a matrix of whole tiles' rows and whole vectors.
template <class Real, class F> inline void each_tile(int64_t rows, int64_t columns, F tile) {
    constexpr int64_t W = lanes<Real>;
    int64_t n = 0;
    for (; n + VECTORS * W <= columns; n += VECTORS * W)
        for (int64_t m = 0; m < rows; m += ROWS) tile(m, n, std::integral_constant<int, VECTORS>{});
    for (; n < columns; n += W)
        for (int64_t m = 0; m < rows; m += ROWS) tile(m, n, std::integral_constant<int, 1>{});
}

// to(column, row) = from(row, column), rows and columns whole vectors; both matrices without gaps.
template <class Real> void transpose(const Real* from, int64_t rows, int64_t columns, Real* to) {
    constexpr int W = lanes<Real>;
    for (int64_t m = 0; m < rows; m += W)
        for (int64_t n = 0; n < columns; n += W) transpose_block(from + m * columns + n, columns, to + n * rows + m, rows);
}

// The heads of a task of the backward pass.
struct Team { int64_t row, group, number, first, end; };

// The sizes of a call, rounded up to whole vectors and tiles, and where a chunk lies. Padded elements are zero.
template <class Real> struct Layout {
    static constexpr int W = lanes<Real>, UNIT = W > ROWS ? W : ROWS;
    const SSD<Real>& s;
    const int64_t span = round_up(s.chunk, UNIT), state = round_up(s.state, UNIT), dim = round_up(s.dim, W);
    const int64_t chunks = ceil_div(s.length, s.chunk), all = state * dim;
    const int64_t per_group = s.heads / s.groups, teams = ceil_div(per_group, SSD_TEAM);

    Team team(int64_t task) const {
        const int64_t number = task % teams, group = task / teams % s.groups, row = task / teams / s.groups;
        const int64_t first = group * per_group + number * SSD_TEAM;
        return {row, group, number, first, std::min(first + SSD_TEAM, (group + 1) * per_group)};
    }
    int64_t count(int64_t chunk) const { return std::min(s.chunk, s.length - chunk * s.chunk); }
    bool is(Mark mark, int64_t row, int64_t t) const { return s.marks && s.marks[row * s.length + t] == mark; }
    int64_t of_head(int64_t row, int64_t t, int64_t head) const { return (row * s.length + t) * s.heads + head; }
    int64_t of_row(int64_t row, int64_t head) const { return (row * s.heads + head) * s.state * s.dim; }
    // The state before a chunk, (state, dim).
    int64_t boundary(int64_t row, int64_t head, int64_t chunk) const {
        return ((row * s.heads + head) * chunks + chunk) * s.state * s.dim;
    }

    // A chunk of one head or group, (span, width): nothing but zeros at padding.
    void pack(Heads<const Real> view, int64_t row, int64_t head, int64_t chunk, int64_t size, int64_t width, Real* to) const {
        for (int64_t i = 0; i < span; ++i, to += width) {
            const int64_t t = chunk * s.chunk + i;
            const bool real = i < count(chunk) && !is(PADDING, row, t);
            const Real* from = view.data + row * view.batch + t * view.time + head * view.head;
            if (real && view.dim == 1) std::copy_n(from, size, to);
            else if (real) for (int64_t j = 0; j < size; ++j) to[j] = from[j * view.dim];
            std::fill(to + (real ? size : 0), to + width, Real(0));
        }
    }
    void unpack(const Real* from, int64_t width, int64_t rows, int64_t size, int64_t stride, Real* to) const {
        for (int64_t i = 0; i < rows; ++i) std::copy_n(from + i * width, size, to + i * stride);
    }
    void unpack_state(const Real* from, Real* to) const { unpack(from, dim, s.state, s.dim, s.dim, to); }
    // A finished tile of outputs, or of the gradient of x: sum + d u, u what lies at the same place of a packed chunk.
    template <int N>
    void write(const Tile<Vector<Real>, N>& sum, const Real* u, int64_t row, int64_t head, int64_t chunk, int64_t i, int64_t p) const {
        for (int m = 0; m < ROWS && i + m < count(chunk); ++m)
            for (int n = 0; n < N; ++n) {
                const int64_t q = p + n * W, left = s.dim - q;
                Real* to = s.y + (row * s.length + chunk * s.chunk + i + m) * s.y_time + head * s.dim + q;
                Vector<Real> y = sum[m][n];
                if (s.d) y += load(s.d + head * s.dim + q, left) * load(u + m * dim + n * W);
                store(to, y, left);
            }
    }
    // Rows of a packed chunk, each times a number of its own.
    void scaled_rows(const Real* x, const Real* by, Real* to) const {
        for (int64_t i = 0; i < span; ++i)
            for (int64_t p = 0; p < dim; p += W) store(to + i * dim + p, by[i] * load(x + i * dim + p));
    }
    // S = total S + sum_i k_i x_i', k (span, state) and x (span, dim).
    void recur(Real total, const Real* k, const Real* x, int64_t count, Real* S) const {
        each_tile<Real>(state, dim, [&](int64_t n0, int64_t p, auto vectors) {
            constexpr int N = vectors;
            Tile<Vector<Real>, N> sum = {};
            multiply<N>(sum, k + n0, 1, state, x + p, dim, count);
            for (int m = 0; m < ROWS; ++m)
                for (int n = 0; n < N; ++n) {
                    Real* at = S + (n0 + m) * dim + p + n * W;
                    store(at, total == 0 ? sum[m][n] : total * load(at) + sum[m][n]);
                }
        });
    }
    void pack_state(const Real* from, Real* to) const {
        for (int64_t n = 0; n < state; ++n, to += dim) {
            const bool real = from && n < s.state;
            if (real) std::copy_n(from + n * s.dim, s.dim, to);
            std::fill(to + (real ? s.dim : 0), to + dim, Real(0));
        }
    }
};

// b, c and c . b of every chunk of every group, made once for all of its heads.
template <class Real> struct Shared {
    const Layout<Real>& z;
    Real* memory;
    const int64_t size = z.span * (2 * z.state + z.span);

    int64_t tasks() const { return z.s.batch * z.s.groups * z.chunks; }
    Real* c(int64_t row, int64_t group, int64_t chunk) const {
        return memory + ((row * z.s.groups + group) * z.chunks + chunk) * size;
    }
    Real* b(const Real* c) const { return const_cast<Real*>(c) + z.span * z.state; }
    Real* cb(const Real* c) const { return const_cast<Real*>(c) + 2 * z.span * z.state; }

    // `mine`: room for a transposed b.
    void make(int64_t task, Real* mine) const {
        const int64_t chunk = task % z.chunks, group = task / z.chunks % z.s.groups, row = task / z.chunks / z.s.groups;
        Real *c_ = c(row, group, chunk), *b_ = b(c_), *cb_ = cb(c_);
        z.pack(z.s.c, row, group, chunk, z.s.state, z.state, c_);
        z.pack(z.s.b, row, group, chunk, z.s.state, z.state, b_);
        transpose(b_, z.span, z.state, mine);
        each_tile<Real>(z.span, z.span, [&](int64_t t, int64_t s, auto vectors) {
            if (s >= t + ROWS) return;
            Tile<Vector<Real>, vectors> sum = {};
            multiply<vectors>(sum, c_ + t * z.state, z.state, 1, mine + s, z.span, z.s.state);
            for (int m = 0; m < ROWS; ++m)
                for (int n = 0; n < vectors; ++n) store(cb_ + (t + m) * z.span + s + n * lanes<Real>, sum[m][n]);
        });
    }
};

// What the decays of one head do inside a chunk. Exponents are in double precision and of base two.
template <class Real> struct Decays {
    const Layout<Real>& z;
    Real *w, *enter, *leave, *carried;  // w, e, r, and r w
    Real* low;                          // what exponents lose when they are rounded
    double *step, *between;             // a, and its sum after each position, up to the row that was asked for last
    int32_t* first;                     // the first position of the sequence that a position belongs to
    Real total = 0;                     // e_end

    static int64_t size(const Layout<Real>& z) {
        return 5 * z.span + (2 * sizeof(double) + sizeof(int32_t)) * z.span / sizeof(Real);
    }
    Decays(const Layout<Real>& z_, Real* memory)
        : z(z_), w(memory), enter(w + z.span), leave(enter + z.span), carried(leave + z.span),
          low(carried + z.span), step(reinterpret_cast<double*>(low + z.span)), between(step + z.span),
          first(reinterpret_cast<int32_t*>(between + z.span)) {}

    void read(int64_t row, int64_t head, int64_t chunk) {
        const int64_t count = z.count(chunk), t0 = chunk * z.s.chunk;
        int64_t closed = z.span;  // from here on nothing of the state before the chunk is left
        int32_t begin = 0;
        double sum = 0;
        for (int64_t i = 0; i < z.span; ++i) {
            const bool real = i < count && !z.is(PADDING, row, t0 + i), begins = real && z.is(BEGINS, row, t0 + i);
            const int64_t at = z.of_head(row, t0 + i, head);
            if (begins) closed = std::min(closed, i), begin = int32_t(i);
            step[i] = real && !begins ? z.s.a[at] * LOG2_E<double> : 0;
            w[i] = real ? (z.s.w ? z.s.w[at] : Real(1)) : Real(0);
            first[i] = begin, between[i] = sum += step[i];
        }
        powers_of_two(enter, 0, z.span);
        sum = 0;
        for (int64_t i = z.span - 1; i >= 0; --i) between[i] = sum, sum += step[i];
        powers_of_two(leave, 0, z.span);
        std::fill(enter + closed, enter + z.span, Real(0));
        std::fill(leave, leave + begin, Real(0));
        total = enter[z.span - 1];
        for (int64_t i = 0; i < z.span; ++i) carried[i] = leave[i] * w[i];
    }

    // L(t, .): zero before the sequence of t began, and after t. Rows in order, from the first.
    void row(int64_t t, Real* to) const {
        for (int64_t s = 0; s < t; ++s) between[s] += step[t];
        between[t] = 0;
        const int64_t from = first[t] / z.W * z.W, end = round_up(t + 1, z.W);
        powers_of_two(to, from, end);
        std::fill(to, to + first[t], Real(0)), std::fill(to + t + 1, to + z.span, Real(0));
    }
    // 2^between, to the last place of a Real: 2^(high + low) = 2^high (1 + low log 2).
    void powers_of_two(Real* to, int64_t from, int64_t end) const {
        for (int64_t i = from; i < end; ++i) {
            const double exponent = std::max(between[i], -16384.0);  // 0 in every precision; and -inf has no low part
            to[i] = Real(exponent);
            low[i] = Real(exponent - double(to[i])) * LN_2<Real>;
        }
        for (int64_t i = from; i < end; i += lanes<Real>) {
            const Vector<Real> high = exp2<Real>(load(to + i));
            store(to + i, high + high * load(low + i));
        }
    }
};

// One head of one row, from the first chunk to the last.
template <class Real> struct Forward {
    const Layout<Real>& z;
    const Shared<Real>& shared;

    static int64_t size(const Layout<Real>& z) { return z.all + 2 * z.span * z.dim + z.span * z.span + Decays<Real>::size(z); }
    void operator()(int64_t row, int64_t head, Real* S) const {
        const SSD<Real>& s = z.s;
        Real *x = S + z.all, *m = x + z.span * z.dim, *carried = m + z.span * z.span;
        Decays<Real> decays(z, carried + z.span * z.dim);
        z.pack_state(s.initial ? s.initial + z.of_row(row, head) : nullptr, S);
        for (int64_t chunk = 0; chunk < z.chunks; ++chunk) {
            if (s.checkpoints) z.unpack_state(S, s.checkpoints + z.boundary(row, head, chunk));
            decays.read(row, head, chunk);
            z.pack(s.x, row, head, chunk, s.dim, z.dim, x);
            const Real* c = shared.c(row, head / z.per_group, chunk);
            outputs(row, head, chunk, decays, c, S, x, m);
            z.scaled_rows(x, decays.carried, carried);
            z.recur(decays.total, shared.b(c), carried, z.count(chunk), S);  // S' = e_end S + sum_s r_s w_s b_s x_s'
        }
        z.unpack_state(S, s.final + z.of_row(row, head));
    }

    // y_t = e_t c_t S + sum_s M_ts x_s + d x_t
    void outputs(int64_t row, int64_t head, int64_t chunk, const Decays<Real>& decays, const Real* c, const Real* S, const Real* x,
                 Real* m) const {
        const SSD<Real>& s = z.s;
        const int64_t count = z.count(chunk), rows = round_up(count, ROWS);
        const int64_t entering = chunk > 0 || s.initial ? s.state : 0;  // else S is zero
        const Real* cb = shared.cb(c);
        for (int64_t t = 0; t < rows; ++t) {
            Real* M = m + t * z.span;
            decays.row(t, M);
            for (int64_t i = 0; i <= t; ++i) M[i] *= cb[t * z.span + i] * decays.w[i];
        }
        each_tile<Real>(rows, z.dim, [&](int64_t t, int64_t p, auto vectors) {
            constexpr int N = vectors;
            Tile<Vector<Real>, N> sum = {};
            const int64_t from = decays.first[t];
            multiply<N>(sum, c + t * z.state, z.state, 1, S + p, z.dim, entering);
            scale<N>(sum, decays.enter + t);
            multiply<N>(sum, m + t * z.span + from, z.span, 1, x + from * z.dim + p, z.dim, t + ROWS - from);
            z.template write<N>(sum, x + t * z.dim + p, row, head, chunk, t, p);
        });
    }
};

// The gradients of a team, from the last chunk to the first.
template <class Real> struct Backward {
    using V = Vector<Real>;
    const Layout<Real>& z;
    const Shared<Real>& shared;

    static int64_t size(const Layout<Real>& z) {
        return (SSD_TEAM + 2) * z.all + 3 * z.span * z.dim + 3 * z.span * z.span + 2 * z.span * z.state + 2 * z.span +
               2 * z.span * z.W + sizeof(double) / sizeof(Real) * z.span + Decays<Real>::size(z);
    }
    struct Work {
        const Layout<Real>& z;
        int64_t row, head = 0, chunk = 0;
        const Real *c = nullptr, *b = nullptr, *cb = nullptr;
        bool entered = false, followed = false;  // whether S, and whether G, is more than zeros
        Real *slopes, *G = nullptr, *S, *turned; // G of every head, and of this one; one state with its axes exchanged
        Real *x, *dy, *other;      // (span, dim); x turned, then e dy
        Real *m, *e, *k;           // M, M (dy . x), and K, which the heads add up
        Real *dc, *db;             // (span, state), which the heads add up
        Real *dw, *run;            // (span,)
        Real *of_enter, *of_leave; // (span, lanes): c S dy and b G x, one vector of partial sums each
        double* da;                // (span,)
        Decays<Real> decays;
        Work(const Layout<Real>& z_, int64_t row_, Real* at)
            : z(z_), row(row_), slopes(at), S(slopes + SSD_TEAM * z.all), turned(S + z.all), x(turned + z.all), dy(x + z.span * z.dim),
              other(dy + z.span * z.dim), m(other + z.span * z.dim), e(m + z.span * z.span), k(e + z.span * z.span),
              dc(k + z.span * z.span), db(dc + z.span * z.state), dw(db + z.span * z.state), run(dw + z.span),
              of_enter(run + z.span), of_leave(of_enter + z.span * z.W), da(reinterpret_cast<double*>(of_leave + z.span * z.W)),
              decays(z, reinterpret_cast<Real*>(da + z.span)) {}
    };

    void operator()(const Team& team, Real* mine) const {
        const SSD<Real>& s = z.s;
        Work w(z, team.row, mine);
        for (int64_t head = team.first; head < team.end; ++head)
            z.pack_state(s.grad_final ? s.grad_final + z.of_row(w.row, head) : nullptr, w.slopes + (head - team.first) * z.all);
        for (w.chunk = z.chunks - 1; w.chunk >= 0; --w.chunk) {
            w.c = shared.c(w.row, team.group, w.chunk), w.b = shared.b(w.c), w.cb = shared.cb(w.c);
            w.entered = w.chunk > 0 || s.final, w.followed = w.chunk < z.chunks - 1 || s.grad_final;
            std::fill(w.k, w.dw, Real(0));  // k, dc, db
            for (w.head = team.first; w.head < team.end; ++w.head) {
                w.G = w.slopes + (w.head - team.first) * z.all;
                one_head(w);
            }
            of_b_and_c(w, team);
        }
        for (int64_t head = team.first; s.final && head < team.end; ++head)
            z.unpack_state(w.slopes + (head - team.first) * z.all, s.final + z.of_row(w.row, head));
    }

    // All gradients of a chunk of a head, and G of the chunk before: dS = e_end G + sum_t e_t c_t dy_t'.
    void one_head(Work& w) const {
        const SSD<Real>& s = z.s;
        z.pack_state(w.entered ? s.checkpoints + z.boundary(w.row, w.head, w.chunk) : nullptr, w.S);
        z.pack(s.x, w.row, w.head, w.chunk, s.dim, z.dim, w.x);
        z.pack(s.grad_y, w.row, w.head, w.chunk, s.dim, z.dim, w.dy);
        w.decays.read(w.row, w.head, w.chunk);
        with_states(w, w.entered, w.dy, w.S, w.decays.enter, w.c, w.dc, w.of_enter);
        with_states(w, w.followed, w.x, w.G, w.decays.carried, w.b, w.db, w.of_leave);
        inside(w);
        of_x(w);
        of_decays(w);
        if (s.grad_d) of_d(w);
        if (!w.entered) return;
        z.scaled_rows(w.dy, w.decays.enter, w.other);
        z.recur(w.decays.total, w.c, w.other, z.count(w.chunk), w.G);
    }

    // to_i += by_i S u_i, and the partial sums of k_i S u_i, for states that are not all zeros.
    void with_states(const Work& w, bool any, const Real* u, const Real* S, const Real* by, const Real* k, Real* to, Real* partial) const {
        std::fill_n(partial, z.span * z.W, Real(0));
        if (!any) return;
        transpose(S, z.state, z.dim, w.turned);
        each_tile<Real>(round_up(z.count(w.chunk), ROWS), z.state, [&](int64_t i, int64_t n0, auto vectors) {
            constexpr int N = vectors;
            Tile<V, N> sum = {};
            multiply<N>(sum, u + i * z.dim, z.dim, 1, w.turned + n0, z.state, z.s.dim);
            for (int m = 0; m < ROWS; ++m) {
                V dot = load(partial + (i + m) * z.W);
                for (int n = 0; n < N; ++n) {
                    const int64_t at = (i + m) * z.state + n0 + n * z.W;
                    store(to + at, load(to + at) + by[i + m] * sum[m][n]);
                    dot += load(k + at) * sum[m][n];
                }
                store(partial + (i + m) * z.W, dot);
            }
        });
    }

    // M, M (dy . x), what K gains, and dw.
    void inside(const Work& w) const {
        const int64_t rows = round_up(z.count(w.chunk), ROWS), W = z.W;
        transpose(w.x, z.span, z.dim, w.other);
        each_tile<Real>(rows, z.span, [&](int64_t t, int64_t s, auto vectors) {
            if (s >= t + ROWS) return;
            constexpr int N = vectors;
            Tile<V, N> sum = {};
            multiply<N>(sum, w.dy + t * z.dim, z.dim, 1, w.other + s, z.span, z.s.dim);
            for (int m = 0; m < ROWS; ++m)
                for (int n = 0; n < N; ++n) store(w.e + (t + m) * z.span + s + n * W, sum[m][n]);
        });
        std::fill_n(w.dw, z.span, Real(0));
        for (int64_t t = 0; t < rows; ++t) {
            Real *M = w.m + t * z.span, *E = w.e + t * z.span, *K = w.k + t * z.span;
            w.decays.row(t, M);
            for (int64_t s = 0; s <= t; s += W) {
                const V L = load(M + s), weight = load(w.decays.w + s), dot = load(E + s) * L, cb = load(w.cb + t * z.span + s) * L;
                store(K + s, load(K + s) + dot * weight);
                store(M + s, cb * weight);
                store(w.dw + s, load(w.dw + s) + load(w.cb + t * z.span + s) * dot);
                store(E + s, cb * weight * load(E + s));
            }
        }
    }

    // dx_s = r_s w_s b_s G + sum_t M_ts dy_t + d dy_s
    void of_x(const Work& w) const {
        const int64_t rows = round_up(z.count(w.chunk), ROWS);
        each_tile<Real>(rows, z.dim, [&](int64_t s, int64_t p, auto vectors) {
            constexpr int N = vectors;
            Tile<V, N> sum = {};
            multiply<N>(sum, w.b + s * z.state, z.state, 1, w.G + p, z.dim, w.followed ? z.s.state : 0);
            scale<N>(sum, w.decays.carried + s);
            multiply<N>(sum, w.m + s * z.span + s, 1, z.span, w.dy + s * z.dim + p, z.dim, rows - s);
            z.template write<N>(sum, w.dy + s * z.dim + p, w.row, w.head, w.chunk, s, p);
        });
    }

    // da_r, and what dw gains from the state after the chunk.
    void of_decays(const Work& w) const {
        const SSD<Real>& s = z.s;
        const int64_t count = z.count(w.chunk), t0 = w.chunk * s.chunk;
        Vector<Real> product = {};
        if (w.entered && w.followed && w.decays.total != 0)
            for (int64_t i = 0; i < z.all; i += z.W) product += load(w.S + i) * load(w.G + i);
        const double through = double(w.decays.total) * across<Real>(product);
        double left = 0;  // sum_{s<r} r_s w_s b_s G x_s
        for (int64_t i = 0; i < count; ++i) {
            const Real of_leave = across<Real>(load(w.of_leave + i * z.W));
            w.da[i] = through + left;
            left += double(w.decays.carried[i]) * of_leave;
            w.dw[i] += w.decays.leave[i] * of_leave;
        }
        double entered = 0;  // sum_{t>=r} e_t c_t S dy_t
        std::fill_n(w.run, z.span, Real(0));  // sum_{t>=r} M_ts (dy_t . x_s)
        for (int64_t r = count - 1; r >= 0; --r) {
            Vector<Real> sums = {};
            for (int64_t i = 0; i <= r; i += z.W) {
                const Vector<Real> run = load(w.run + i) + load(w.e + r * z.span + i);
                store(w.run + i, run);
                if (i + z.W <= r) sums += run;
            }
            Real inside = across<Real>(sums);
            for (int64_t i = r / z.W * z.W; i < r; ++i) inside += w.run[i];
            entered += double(w.decays.enter[r]) * across<Real>(load(w.of_enter + r * z.W));
            const bool padding = z.is(PADDING, w.row, t0 + r);
            const int64_t at = z.of_head(w.row, t0 + r, w.head);
            s.grad_a[at] = padding ? 0 : w.da[r] + entered + inside;
            if (s.grad_w) s.grad_w[at] = w.dw[r];
        }
    }

    // The chunk's part of the gradient of d: sum_t dy_t x_t.
    void of_d(const Work& w) const {
        Real* to = z.s.grad_d + ((w.row * z.chunks + w.chunk) * z.s.heads + w.head) * z.s.dim;
        std::fill_n(to, z.s.dim, Real(0));
        for (int64_t i = 0; i < z.count(w.chunk); ++i)
            for (int64_t p = 0; p < z.s.dim; ++p) to[p] += w.dy[i * z.dim + p] * w.x[i * z.dim + p];
    }

    // dc_t gains sum_s K_ts b_s, and db_s gains sum_t K_ts c_t; then both are done.
    void of_b_and_c(const Work& w, const Team& team) const {
        const int64_t rows = round_up(z.count(w.chunk), ROWS);
        each_tile<Real>(rows, z.state, [&](int64_t i, int64_t n, auto vectors) {
            constexpr int N = vectors;
            Tile<V, N> of_c = {}, of_b = {};
            multiply<N>(of_c, w.k + i * z.span, z.span, 1, w.b + n, z.state, i + ROWS);
            multiply<N>(of_b, w.k + i * z.span + i, 1, z.span, w.c + i * z.state + n, z.state, rows - i);
            add<N>(of_c, w.dc + i * z.state + n);
            add<N>(of_b, w.db + i * z.state + n);
        });
        const int64_t row = (team.number * z.s.batch + w.row) * z.s.length;
        const int64_t at = ((row + w.chunk * z.s.chunk) * z.s.groups + team.group) * z.s.state;
        z.unpack(w.dc, z.state, z.count(w.chunk), z.s.state, z.s.groups * z.s.state, z.s.grad_c + at);
        z.unpack(w.db, z.state, z.count(w.chunk), z.s.state, z.s.groups * z.s.state, z.s.grad_b + at);
    }
    template <int N> void add(const Tile<V, N>& sum, Real* to) const {
        for (int m = 0; m < ROWS; ++m)
            for (int n = 0; n < N; ++n) {
                Real* at = to + m * z.state + n * z.W;
                store(at, load(at) + sum[m][n]);
            }
    }
};

// Every task of each pass, one pass after the other; a task has `size` numbers of memory for itself.
template <class Real> struct Passes {
    const SSD<Real>& s;
    const Layout<Real> z{s};
    int64_t size;
    Shared<Real> shared;
    Real* own;

    Passes(const SSD<Real>& s_, int64_t size_)
        : s(s_), size(round_up(std::max(size_, z.span * z.state), z.W)), shared{z, nullptr} {
        const int64_t all = shared.tasks() * shared.size;
        shared.memory = reinterpret_cast<Real*>(scratch<Vector<Real>>((all + s.threads * size) / z.W));
        own = shared.memory + all;
        each(shared.tasks(), [&](int64_t task, Real* mine) { shared.make(task, mine); });
    }
    template <class F> void each(int64_t tasks, F task) const {
#pragma omp parallel for num_threads(s.threads) schedule(dynamic)
        for (int64_t i = 0; i < tasks; ++i) task(i, own + thread_number() * size);
    }
    template <class F> void each_head(F task) const {
        each(s.batch * s.heads, [&](int64_t i, Real* mine) { task(i / s.heads, i % s.heads, mine); });
    }
    template <class F> void each_team(F task) const {
        each(s.batch * s.groups * z.teams, [&](int64_t i, Real* mine) { task(z.team(i), mine); });
    }
};

}  // namespace

template <class Real> void ssd(const SSD<Real>& s) {
    const Passes<Real> passes(s, Forward<Real>::size(Layout<Real>{s}));
    passes.each_head(Forward<Real>{passes.z, passes.shared});
}
template <class Real> void ssd_backward(const SSD<Real>& s) {
    const Passes<Real> passes(s, Backward<Real>::size(Layout<Real>{s}));
    passes.each_team(Backward<Real>{passes.z, passes.shared});
}

template void ssd<float>(const SSD<float>&);
template void ssd<double>(const SSD<double>&);
template void ssd_backward<float>(const SSD<float>&);
template void ssd_backward<double>(const SSD<double>&);

}  // namespace longwave::LONGWAVE_ISA
