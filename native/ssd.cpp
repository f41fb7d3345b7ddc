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
// Every e, r and L is a product in double precision of the e^a it has, and never the quotient of two; nor is a sum in da the
// difference of two. Where a sequence begins, e, r and L are zero across it, and nothing is multiplied by them; padding has
// a = 0 and w = 0.
//
// c . b belongs to a group and is shared by its heads. A task goes along a whole row. Forward it is one head, whose S stays in
// cache, or is made where it is saved; backward a team of neighbouring heads of a group, whose G do: they add up db and dc, and
// the teams' are added up outside.
#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

#include "exponential.hpp"
#include "kernels.hpp"
#include "lanes.hpp"
#include "products.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

constexpr int ROWS = 4;  // a tile: ROWS x VECTORS accumulators in registers
constexpr int VECTORS = LONGWAVE_VECTOR_BYTES == 64 ? 4 : 2;

constexpr int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

template <class V, int N> using Tile = V[ROWS][N];

// Every row of a tile times a number of its own; what a zero multiplies does not matter.
template <int N, class Real> [[gnu::always_inline]] inline void scale(Tile<Vector<Real>, N>& sum, const Real* by) {
#pragma GCC unroll 4
    for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sum[m][n] = by[m] == 0 ? Vector<Real>{} : by[m] * sum[m][n];
}

// A tile as it is, at rows of this distance.
template <int N, class Real> [[gnu::always_inline]] inline void keep(const Tile<Vector<Real>, N>& sum, Real* to, int64_t row) {
#pragma GCC unroll 4
    for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) store(to + m * row + n * lanes<Real>, sum[m][n]);
}

// Calls f(integral_constant<n>) with n the number of vectors, or the most that a tile has.
template <int N = VECTORS, class F> inline void widest(int64_t vectors, F f) {
    if constexpr (N > 1)
        if (vectors < N) return widest<N - 1>(vectors, f);
    f(std::integral_constant<int, N>{});
}

// Calls tile(first row, first column, integral_constant<vectors>) for a matrix of whole tiles' rows and whole vectors.
template <class Real, class F> inline void each_tile(int64_t rows, int64_t columns, F tile) {
    for (int64_t n = 0; n < columns; n += VECTORS * lanes<Real>)
        widest((columns - n) / lanes<Real>, [&](auto vectors) {
            for (int64_t m = 0; m < rows; m += ROWS) tile(m, n, vectors);
        });
}

// The same for the vectors of a square matrix that are not all above its diagonal.
template <class Real, class F> inline void each_lower_tile(int64_t rows, F tile) {
    constexpr int64_t W = lanes<Real>;
    for (int64_t m = 0; m < rows; m += ROWS)
        for (int64_t n = 0; n < m + ROWS; n += VECTORS * W)
            widest(ceil_div(m + ROWS - n, W), [&](auto vectors) { tile(m, n, vectors); });
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
    static constexpr int W = lanes<Real>, UNIT = SSD_PADDING / sizeof(Real);
    static_assert(UNIT % W == 0 && UNIT % ROWS == 0);
    const SSD<Real>& s;
    const int64_t span = round_up(s.chunk, UNIT), state = round_up(s.state, UNIT), dim = round_up(s.dim, UNIT);
    const int64_t chunks = ceil_div(s.length, s.chunk), all = state * dim;
    const int64_t per_group = s.heads / s.groups, teams = ceil_div(per_group, SSD_TEAM);
    const int64_t per_team = ceil_div(per_group, std::max<int64_t>(teams, 1));  // at most SSD_TEAM, and nearly the same in all

    Team team(int64_t task) const {
        const int64_t number = task % teams, group = task / teams % s.groups, row = task / teams / s.groups;
        const int64_t first = group * per_group + number * per_team;
        return {row, group, number, first, std::min(first + per_team, (group + 1) * per_group)};
    }
    int64_t count(int64_t chunk) const { return std::min(s.chunk, s.length - chunk * s.chunk); }
    bool is(Mark mark, int64_t row, int64_t t) const { return s.marks && s.marks[row * s.length + t] == mark; }
    int64_t of_head(int64_t row, int64_t t, int64_t head) const { return (row * s.length + t) * s.heads + head; }
    int64_t of_row(int64_t row, int64_t head) const { return (row * s.heads + head) * s.state * s.dim; }
    // The state before a chunk, (state, dim).
    Real* boundary(int64_t row, int64_t head, int64_t chunk) const {
        return s.checkpoints + ((row * s.heads + head) * chunks + chunk) * all;
    }

    static const Real* at(const Heads<const Real>& view, int64_t row, int64_t head, int64_t t) {
        return view.data + row * view.batch + t * view.time + head * view.head;
    }
    Real* out(int64_t row, int64_t head, int64_t t) const { return s.y + (row * s.length + t) * s.y_time + head * s.dim; }
    // Ask for numbers that are read, or written, some time later: the rows of a head lie too far apart for the processor to do so.
    static void ask(const Real* from, int64_t size, int64_t stride) {
        for (int64_t j = 0; j < size; j += UNIT) __builtin_prefetch(from + j * stride);
    }

    // A chunk of one head or group, (span, width): nothing but zeros at padding.
    void pack(Heads<const Real> view, int64_t row, int64_t head, int64_t chunk, int64_t size, int64_t width, Real* to) const {
        for (int64_t i = 0; i < span; ++i, to += width) {
            const int64_t t = chunk * s.chunk + i;
            const bool real = i < count(chunk) && !is(PADDING, row, t);
            const Real* from = at(view, row, head, t);
            if (real && view.dim == 1) for (int64_t j = 0; j < size; j += W) store(to + j, load(from + j, size - j));
            else if (real) for (int64_t j = 0; j < size; ++j) to[j] = from[j * view.dim];
            std::fill(to + (real ? size : 0), to + width, Real(0));
        }
    }
    void unpack_state(const Real* from, Real* to) const {
        for (int64_t n = 0; n < s.state; ++n) std::copy_n(from + n * dim, s.dim, to + n * s.dim);
    }
    // A finished tile of outputs, or of the gradient of x: sum + d u, u what lies at the same place of a packed chunk.
    template <int N>
    void write(const Tile<Vector<Real>, N>& sum, const Real* u, int64_t row, int64_t head, int64_t chunk, int64_t i, int64_t p) const {
        Real* to = out(row, head, chunk * s.chunk + i) + p;
        const int64_t stride = s.y_time, width = dim, left = s.dim - p, rows = count(chunk) - i;
        const Real* d = s.d ? s.d + head * s.dim + p : nullptr;
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) {
            const Vector<Real> by = d ? load(d + n * W, left - n * W) : Vector<Real>{};
#pragma GCC unroll 4
            for (int m = 0; m < ROWS; ++m) {
                const Vector<Real> y = d ? sum[m][n] + by * load(u + m * width + n * W) : sum[m][n];
                if (m < rows) store(to + m * stride + n * W, y, left - n * W);
            }
        }
    }
    // Rows of a packed chunk, each times a number of its own.
    void scaled_rows(const Real* x, const Real* by, Real* to) const {
        for (int64_t i = 0; i < span; ++i)
            for (int64_t p = 0; p < dim; p += W) store(to + i * dim + p, by[i] * load(x + i * dim + p));
    }
    // to = total S + sum_i k_i x_i', k (span, state) and x (span, dim).
    void recur(Real total, const Real* S, const Real* k, const Real* x, int64_t count, Real* to) const {
        each_tile<Real>(state, dim, [&](int64_t n0, int64_t p, auto vectors) {
            constexpr int N = vectors;
            Tile<Vector<Real>, N> sum = {};
            multiply_tile<ROWS, N>(sum, k + n0, 1, state, x + p, dim, count);
            const int64_t at = n0 * dim + p, width = dim;
            const Real* before = S + at;
            Real* after = to + at;
            const Real decay = total;
#pragma GCC unroll 4
            for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 4
                for (int n = 0; n < N; ++n) {
                    const int64_t j = m * width + n * W;
                    store(after + j, decay == 0 ? sum[m][n] : decay * load(before + j) + sum[m][n]);
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

// Of a chunk of a group: c and b, (span, state), and c . b, (span, span).
template <class Real> struct Keys { Real *c, *b, *cb; };

// The keys of every chunk of every group, made once for all of its heads.
template <class Real> struct Shared {
    const Layout<Real>& z;
    Real* memory;
    const int64_t size = z.span * (2 * z.state + z.span);

    int64_t tasks() const { return z.s.batch * z.s.groups * z.chunks; }
    Keys<Real> keys(int64_t row, int64_t group, int64_t chunk) const {
        Real* at = memory + ((row * z.s.groups + group) * z.chunks + chunk) * size;
        return {at, at + z.span * z.state, at + 2 * z.span * z.state};
    }
    // `mine`: room for a turned b.
    void make(int64_t task, Real* mine) const {
        const int64_t chunk = task % z.chunks, group = task / z.chunks % z.s.groups, row = task / z.chunks / z.s.groups;
        const Keys<Real> k = keys(row, group, chunk);
        z.pack(z.s.c, row, group, chunk, z.s.state, z.state, k.c);
        z.pack(z.s.b, row, group, chunk, z.s.state, z.state, k.b);
        transpose(k.b, z.span, z.state, mine);
        each_lower_tile<Real>(z.span, [&](int64_t t, int64_t s, auto vectors) {
            Tile<Vector<Real>, vectors> sum = {};
            multiply_tile<ROWS, vectors>(sum, k.c + t * z.state, z.state, 1, mine + s, z.span, z.s.state);
            keep<vectors>(sum, k.cb + t * z.span + s, z.span);
        });
    }
};

// What the decays of one head do inside a chunk.
template <class Real> struct Decays {
    static constexpr double SMALLEST = std::numeric_limits<Real>::min();  // what is less is zero
    const Layout<Real>& z;
    Real *w, *enter, *leave, *carried;  // w, e, r, and r w
    double *step, *between;             // e^a, and its product after each position, up to the row that was asked for last
    int32_t* first;                     // the first position of the sequence that a position belongs to
    Real total = 0;                     // e_end

    static int64_t size(const Layout<Real>& z) {
        return 4 * z.span + (2 * sizeof(double) + sizeof(int32_t)) * z.span / sizeof(Real);
    }
    Decays(const Layout<Real>& z_, Real* memory)
        : z(z_), w(memory), enter(w + z.span), leave(enter + z.span), carried(leave + z.span),
          step(reinterpret_cast<double*>(carried + z.span)), between(step + z.span),
          first(reinterpret_cast<int32_t*>(between + z.span)) {}

    void read(int64_t row, int64_t head, int64_t chunk) {
        const int64_t count = z.count(chunk), t0 = chunk * z.s.chunk;
        int64_t closed = z.span;  // from here on nothing of the state before the chunk is left
        int32_t begin = 0;
        for (int64_t i = 0; i < z.span; ++i) {
            const bool real = i < count && !z.is(PADDING, row, t0 + i), begins = real && z.is(BEGINS, row, t0 + i);
            const int64_t at = z.of_head(row, t0 + i, head);
            if (begins) closed = std::min(closed, i), begin = int32_t(i);
            step[i] = real && !begins ? z.s.a[at] : 0;
            w[i] = real ? (z.s.w ? z.s.w[at] : Real(1)) : Real(0);
            first[i] = begin;
        }
        for (int64_t i = 0; i < z.span; i += lanes<double>) store(step + i, exponential<double>(load(step + i)));
        double product = 1;
        for (int64_t i = 0; i < z.span; ++i) enter[i] = rounded(product *= step[i]);
        product = 1;
        for (int64_t i = z.span - 1; i >= 0; --i) leave[i] = rounded(product), product *= step[i];
        std::fill(enter + closed, enter + z.span, Real(0));
        std::fill(leave, leave + begin, Real(0));
        total = enter[z.span - 1];
        for (int64_t i = 0; i < z.span; ++i) carried[i] = leave[i] * w[i];
    }

    // L(t, .): zero before the sequence of t began, and after t. Rows in order, from the first.
    void row(int64_t t, Real* to) const {
        const double decay = step[t];
        for (int64_t s = 0; s < t; ++s) to[s] = rounded(between[s] *= decay);
        to[t] = Real(between[t] = 1);
        std::fill(to, to + first[t], Real(0)), std::fill(to + t + 1, to + round_up(t + 1, z.UNIT), Real(0));
    }
    static Real rounded(double product) { return product < SMALLEST ? Real(0) : Real(product); }
};

// One head of one row, from the first chunk to the last.
template <class Real> struct Forward {
    using V = Vector<Real>;
    const Layout<Real>& z;
    const Shared<Real>& shared;

    static int64_t size(const Layout<Real>& z) { return z.all + 2 * z.span * z.dim + z.span * z.span + Decays<Real>::size(z); }
    void operator()(int64_t row, int64_t head, Real* mine) const {
        const SSD<Real>& s = z.s;
        Real *x = mine + z.all, *m = x + z.span * z.dim, *carried = m + z.span * z.span;
        Decays<Real> decays(z, carried + z.span * z.dim);
        const auto state = [&](int64_t chunk) {
            return s.checkpoints && chunk < z.chunks ? z.boundary(row, head, chunk) : mine;
        };
        z.pack_state(s.initial ? s.initial + z.of_row(row, head) : nullptr, state(0));
        for (int64_t chunk = 0; chunk < z.chunks; ++chunk) {
            const Keys<Real> keys = shared.keys(row, head / z.per_group, chunk);
            decays.read(row, head, chunk);
            z.pack(s.x, row, head, chunk, s.dim, z.dim, x);
            outputs(row, head, chunk, decays, keys, state(chunk), x, m);
            z.scaled_rows(x, decays.carried, carried);  // S' = e_end S + sum_s r_s w_s b_s x_s'
            z.recur(decays.total, state(chunk), keys.b, carried, z.count(chunk), state(chunk + 1));
        }
        z.unpack_state(mine, s.final + z.of_row(row, head));
    }

    // y_t = e_t c_t S + sum_s M_ts x_s + d x_t
    void outputs(int64_t row, int64_t head, int64_t chunk, const Decays<Real>& decays, const Keys<Real>& keys, const Real* S,
                 const Real* x, Real* m) const {
        const SSD<Real>& s = z.s;
        const int64_t count = z.count(chunk), rows = round_up(count, ROWS);
        const int64_t entering = chunk > 0 || s.initial ? s.state : 0;  // else S is zero
        for (int64_t t = 0; t < rows; ++t) {
            Real* M = m + t * z.span;
            decays.row(t, M);
            for (int64_t i = 0; i <= t; i += z.W)
                store(M + i, load(M + i) * load(keys.cb + t * z.span + i) * load(decays.w + i));
        }
        each_tile<Real>(rows, z.dim, [&](int64_t t, int64_t p, auto vectors) {
            constexpr int N = vectors;
            Tile<V, N> sum = {};
            const int64_t from = decays.first[t];
            multiply_tile<ROWS, N>(sum, keys.c + t * z.state, z.state, 1, S + p, z.dim, entering);
            scale<N>(sum, decays.enter + t);
            multiply_tile<ROWS, N>(sum, m + t * z.span + from, z.span, 1, x + from * z.dim + p, z.dim, t + ROWS - from);
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
        return SSD_TEAM * z.all + 5 * z.span * z.dim + 3 * z.span * z.span + 6 * z.span * z.state + 4 * z.span +
               sizeof(double) / sizeof(Real) * z.span + Decays<Real>::size(z);
    }
    struct Work {
        const Team& team;
        int64_t row = team.row, head = 0, chunk = 0;
        int64_t next_head = 0, next_chunk = 0, asked = 0;  // what comes after this; how many positions of it were asked for
        bool entered = false, followed = false;            // whether S, and whether G, is more than zeros
        Keys<Real> keys = {};
        const Real* S = nullptr;
        Real *slopes, *G = nullptr;                      // G of every head, and of this one
        Real *x, *dy, *entering, *turned_x, *turned_dy;  // (span, dim), the third e dy; and (dim, span)
        Real *m, *e, *k;                                 // M, M (dy . x), and K, which the heads add up
        Real *turned_c, *turned_b;                       // (state, span)
        Real *turned_dc, *turned_db, *dc, *db;           // the same, which the heads add up; and (span, state)
        Real *dw, *run, *of_enter, *of_leave;            // (span,), the last two c S dy and b G x
        double* da;                                      // (span,)
        Decays<Real> decays;
        Work(const Layout<Real>& z, const Team& team_, Real* at) : team(team_), decays(z, at) {
            at += Decays<Real>::size(z);
            const auto take = [&](int64_t n) { return std::exchange(at, at + n); };
            slopes = take(SSD_TEAM * z.all);
            for (Real** of_dim : {&x, &dy, &entering, &turned_x, &turned_dy}) *of_dim = take(z.span * z.dim);
            for (Real** square : {&m, &e, &k}) *square = take(z.span * z.span);
            for (Real** of_state : {&turned_c, &turned_b, &turned_dc, &turned_db, &dc, &db}) *of_state = take(z.span * z.state);
            for (Real** line : {&dw, &run, &of_enter, &of_leave}) *line = take(z.span);
            da = reinterpret_cast<double*>(at);
        }
    };

    void operator()(const Team& team, Real* mine) const {
        const SSD<Real>& s = z.s;
        Work w(z, team, mine);
        for (int64_t head = team.first; head < team.end; ++head)
            z.pack_state(s.grad_final ? s.grad_final + z.of_row(w.row, head) : nullptr, w.slopes + (head - team.first) * z.all);
        for (w.chunk = z.chunks - 1; w.chunk >= 0; --w.chunk) {
            w.keys = shared.keys(w.row, team.group, w.chunk);
            w.entered = w.chunk > 0 || s.final, w.followed = w.chunk < z.chunks - 1 || s.grad_final;
            transpose(w.keys.c, z.span, z.state, w.turned_c);
            transpose(w.keys.b, z.span, z.state, w.turned_b);
            std::fill_n(w.k, z.span * z.span, Real(0));
            std::fill_n(w.turned_dc, 2 * z.span * z.state, Real(0));  // and turned db
            for (w.head = team.first; w.head < team.end; ++w.head) {
                w.S = z.boundary(w.row, w.head, w.chunk), w.G = w.slopes + (w.head - team.first) * z.all;
                const bool last = w.head + 1 == team.end;
                w.next_head = last ? team.first : w.head + 1, w.next_chunk = w.chunk - last, w.asked = 0;
                one_head(w);
            }
            of_b_and_c(w);
        }
        for (int64_t head = team.first; s.final && head < team.end; ++head)
            z.unpack_state(w.slopes + (head - team.first) * z.all, s.final + z.of_row(w.row, head));
    }

    // All gradients of a chunk of a head, and G of the chunk before: dS = e_end G + sum_t e_t c_t dy_t'.
    void one_head(Work& w) const {
        const SSD<Real>& s = z.s;
        z.pack(s.x, w.row, w.head, w.chunk, s.dim, z.dim, w.x);
        z.pack(s.grad_y, w.row, w.head, w.chunk, s.dim, z.dim, w.dy);
        transpose(w.x, z.span, z.dim, w.turned_x);
        transpose(w.dy, z.span, z.dim, w.turned_dy);
        w.decays.read(w.row, w.head, w.chunk);
        with_states(w, w.entered, w.S, w.turned_dy, w.decays.enter, w.turned_c, w.turned_dc, w.of_enter);
        with_states(w, w.followed, w.G, w.turned_x, w.decays.carried, w.turned_b, w.turned_db, w.of_leave);
        inside(w);
        of_x(w);
        of_decays(w);
        if (s.grad_d) of_d(w);
        if (!w.entered) return;
        z.scaled_rows(w.dy, w.decays.enter, w.entering);
        z.recur(w.decays.total, w.G, w.keys.c, w.entering, z.count(w.chunk), w.G);
    }

    // to_i += by_i S u_i and products_i = k_i S u_i, all of them turned, for states that are not all zeros.
    void with_states(Work& w, bool any, const Real* S, const Real* u, const Real* by, const Real* k, Real* to,
                     Real* products) const {
        std::fill_n(products, z.span, Real(0));
        if (!any) return;
        each_tile<Real>(z.state, round_up(z.count(w.chunk), z.W), [&](int64_t row, int64_t i, auto vectors) {
            constexpr int N = vectors;
            ask(w);
            Tile<V, N> sum = {};
            multiply_tile<ROWS, N>(sum, S + row * z.dim, z.dim, 1, u + i, z.span, z.s.dim);
            const int64_t span = z.span, at = row * span + i;
            const Real *weights = by + i, *keys = k + at;
            Real *gains = to + at, *dots = products + i;
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) {
                V dot = load(dots + n * z.W);
#pragma GCC unroll 4
                for (int m = 0; m < ROWS; ++m) {
                    const int64_t j = m * span + n * z.W;
                    store(gains + j, load(gains + j) + load(weights + n * z.W) * sum[m][n]);
                    dot += load(keys + j) * sum[m][n];
                }
                store(dots + n * z.W, dot);
            }
        });
    }
    // Ask for what the next head needs, and at last for where db and dc go: a tile's share of the positions.
    void ask(Work& w) const {
        const SSD<Real>& s = z.s;
        const int64_t count = w.next_chunk < 0 ? 0 : z.count(w.next_chunk), share = z.all / z.span;
        const int64_t end = std::min(count, w.asked + ceil_div(z.span * ROWS, 2 * z.state));
        for (; w.asked < end; ++w.asked) {
            const int64_t t = w.next_chunk * s.chunk + w.asked;
            z.ask(z.at(s.x, w.row, w.next_head, t), s.dim, s.x.dim);
            z.ask(z.at(s.grad_y, w.row, w.next_head, t), s.dim, s.grad_y.dim);
            z.ask(z.out(w.row, w.next_head, t), s.dim, 1);
            z.ask(z.boundary(w.row, w.next_head, w.next_chunk) + share * w.asked, share, 1);
            if (w.next_chunk == w.chunk) continue;
            z.ask(s.grad_b + of_team(w, w.asked), s.state, 1);
            z.ask(s.grad_c + of_team(w, w.asked), s.state, 1);
        }
    }

    // M, M (dy . x), what K gains, and dw.
    void inside(const Work& w) const {
        const int64_t rows = round_up(z.count(w.chunk), ROWS);
        each_lower_tile<Real>(rows, [&](int64_t t, int64_t s, auto vectors) {
            constexpr int N = vectors;
            Tile<V, N> sum = {};
            multiply_tile<ROWS, N>(sum, w.dy + t * z.dim, z.dim, 1, w.turned_x + s, z.span, z.s.dim);
            keep<N>(sum, w.e + t * z.span + s, z.span);
        });
        std::fill_n(w.dw, z.span, Real(0));
        for (int64_t t = 0; t < rows; ++t) {
            Real *M = w.m + t * z.span, *E = w.e + t * z.span, *K = w.k + t * z.span;
            const Real* cb = w.keys.cb + t * z.span;
            w.decays.row(t, M);
            for (int64_t s = 0; s <= t; s += z.W) {
                const V L = load(M + s), dot = load(E + s), weight = load(w.decays.w + s), masked = load(cb + s) * L * weight;
                store(K + s, load(K + s) + dot * L * weight);
                store(w.dw + s, load(w.dw + s) + load(cb + s) * dot * L);
                store(M + s, masked);
                store(E + s, masked * dot);
            }
        }
    }

    // dx_s = r_s w_s b_s G + sum_t M_ts dy_t + d dy_s
    void of_x(const Work& w) const {
        const int64_t rows = round_up(z.count(w.chunk), ROWS);
        each_tile<Real>(rows, z.dim, [&](int64_t s, int64_t p, auto vectors) {
            constexpr int N = vectors;
            Tile<V, N> sum = {};
            multiply_tile<ROWS, N>(sum, w.keys.b + s * z.state, z.state, 1, w.G + p, z.dim, w.followed ? z.s.state : 0);
            scale<N>(sum, w.decays.carried + s);
            multiply_tile<ROWS, N>(sum, w.m + s * z.span + s, 1, z.span, w.dy + s * z.dim + p, z.dim, rows - s);
            z.template write<N>(sum, w.dy + s * z.dim + p, w.row, w.head, w.chunk, s, p);
        });
    }

    // da_r, and what dw gains from the state after the chunk.
    void of_decays(const Work& w) const {
        const SSD<Real>& s = z.s;
        const int64_t count = z.count(w.chunk), t0 = w.chunk * s.chunk;
        const double through = w.entered && w.followed && w.decays.total != 0 ? double(w.decays.total) * product(w.S, w.G) : 0;
        double left = 0;  // sum_{s<r} r_s w_s b_s G x_s
        for (int64_t i = 0; i < count; ++i) {
            w.da[i] = through + left;
            left += double(w.decays.carried[i]) * w.of_leave[i];
            w.dw[i] += w.decays.leave[i] * w.of_leave[i];
        }
        double entered = 0;  // sum_{t>=r} e_t c_t S dy_t
        std::fill_n(w.run, z.span, Real(0));  // sum_{t>=r} M_ts (dy_t . x_s)
        V lane = {};
        for (int i = 0; i < z.W; ++i) lane[i] = Real(i);
        for (int64_t r = count - 1; r >= 0; --r) {
            V sums = {};
            for (int64_t i = 0; i <= r; i += z.W) {
                const V run = load(w.run + i) + load(w.e + r * z.span + i);
                store(w.run + i, run);
                sums += lane < Real(r - i) + V{} ? run : V{};
            }
            entered += double(w.decays.enter[r]) * w.of_enter[r];
            const int64_t at = z.of_head(w.row, t0 + r, w.head);
            s.grad_a[at] = z.is(PADDING, w.row, t0 + r) ? 0 : w.da[r] + entered + across<Real>(sums);
            if (s.grad_w) s.grad_w[at] = w.dw[r];
        }
    }
    // <S, G>
    Real product(const Real* S, const Real* G) const {
        V sum[4] = {};
        for (int64_t i = 0; i < z.all; i += 4 * z.W)
#pragma GCC unroll 4
            for (int j = 0; j < 4; ++j) sum[j] += load(S + i + j * z.W) * load(G + i + j * z.W);
        return across<Real>((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }

    // The chunk's part of the gradient of d: sum_t dy_t x_t.
    void of_d(const Work& w) const {
        Real* to = z.s.grad_d + ((w.row * z.chunks + w.chunk) * z.s.heads + w.head) * z.s.dim;
        for (int64_t p = 0; p < z.dim; p += z.W) {
            V sum = {};
            for (int64_t i = 0; i < z.count(w.chunk); ++i) sum += load(w.dy + i * z.dim + p) * load(w.x + i * z.dim + p);
            if (p < z.s.dim) store(to + p, sum, z.s.dim - p);
        }
    }

    // dc_t gains sum_s K_ts b_s, and db_s gains sum_t K_ts c_t; then both are done.
    void of_b_and_c(const Work& w) const {
        const int64_t rows = round_up(z.count(w.chunk), ROWS);
        transpose(w.turned_dc, z.state, z.span, w.dc);
        transpose(w.turned_db, z.state, z.span, w.db);
        each_tile<Real>(rows, z.state, [&](int64_t i, int64_t n, auto vectors) {
            constexpr int N = vectors;
            Tile<V, N> of_c = {}, of_b = {};
            multiply_tile<ROWS, N>(of_c, w.k + i * z.span, z.span, 1, w.keys.b + n, z.state, i + ROWS);
            write<N>(of_c, w.dc + i * z.state + n, w, i, n, z.s.grad_c);
            multiply_tile<ROWS, N>(of_b, w.k + i * z.span + i, 1, z.span, w.keys.c + i * z.state + n, z.state, rows - i);
            write<N>(of_b, w.db + i * z.state + n, w, i, n, z.s.grad_b);
        });
    }
    // Where the team's gradients of b and c at a position of the chunk stand.
    int64_t of_team(const Work& w, int64_t i) const {
        const int64_t row = w.team.number * z.s.batch + w.row, t = w.chunk * z.s.chunk + i;
        return ((row * z.s.length + t) * z.s.groups + w.team.group) * z.s.state;
    }
    template <int N>
    void write(const Tile<V, N>& sum, const Real* rest, const Work& w, int64_t i, int64_t at, Real* to) const {
        const int64_t stride = z.s.groups * z.s.state, rows = z.count(w.chunk) - i, left = z.s.state - at, width = z.state;
        to += of_team(w, i) + at;
#pragma GCC unroll 4
        for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n)
                if (m < rows)
                    store(to + m * stride + n * z.W, load(rest + m * width + n * z.W) + sum[m][n], left - n * z.W);
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
        : s(s_), size(round_up(std::max(size_, z.span * z.state), z.UNIT)), shared{z, nullptr} {
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
