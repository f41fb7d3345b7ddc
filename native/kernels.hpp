// What the kernels offer to the bindings: plain structs of pointers, sizes and strides (in elements), one function per pass.
#pragma once
#include <array>
#include <cstdint>

namespace longwave {

// A (batch, time, dim) tensor with any strides; a stride of 0 broadcasts.
template <class T> struct View {
    T* data;
    int64_t batch, time, dim;
};

// Rows that are contiguous in themselves.
template <class T> struct Rows {
    const T* data;
    int64_t stride;
    const T* operator[](int64_t row) const { return data + row * stride; }
};

// What a position is to a recurrence, as src/longwave/ops/_marks.py has it: padding leaves the state as it is.
enum Mark : uint8_t { GOES_ON = 0, BEGINS = 1, PADDING = 2 };

// A (batch, time, heads, dim) tensor with any strides.
template <class T> struct Heads {
    T* data;
    int64_t batch, time, head, dim;
};

template <class T> struct LinearScan {
    int64_t batch, length, dim;
    bool is_complex, reverse;
    View<const T> a, b, h, grad_h;  // b is read by the forward pass; h, the states, and grad_h by the backward pass
    const T* initial;               // (batch, dim), contiguous, or null
    const T* grad_final;            // (batch, dim), contiguous, or null
    const uint8_t* reset;           // (batch, length), contiguous, or null
    const int64_t* lengths;         // (batch,), or null
    T* states;                      // (batch, length, dim), contiguous: states, or the gradient of b
    T* final;                       // (batch, dim): final state, or the gradient of the initial state
    T* grad_a;                      // (batch, length or 1, dim), contiguous, or null
    bool sum_grad_a;                // a does not depend on time: add its gradient up over time
    int threads;
};

template <class T> struct DiagonalSSM {
    int64_t batch, length, dim, modes;
    bool is_complex;
    View<const T> u, grad_y;
    const T *a, *b, *c;      // (dim, modes), contiguous, complex ones as pairs
    const T* d;              // (dim,), or null
    const T* initial;        // (batch, dim, modes), or null
    const T* grad_final;     // (batch, dim, modes), or null
    const uint8_t* reset;    // (batch, length), contiguous, or null
    const int64_t* lengths;  // (batch,), or null
    T* y;                    // (batch, length, dim), contiguous: y, or the gradient of u
    T* final;                // (batch, dim, modes): final state, or the gradient of the initial state
    T* checkpoints;          // states at the beginning of each chunk, written forward, read backward; or null
    T *grad_a, *grad_b, *grad_c, *grad_d;
    int threads;
};

// The checkpoints are (batch, blocks of channels, chunks, state coordinates, lanes): a block is one vector of channels, a
// chunk DIAGONAL_SSM_CHUNK positions, and the coordinates are padded to a multiple of DIAGONAL_SSM_ROWS.
constexpr int DIAGONAL_SSM_CHUNK = 256, DIAGONAL_SSM_ROWS = 4;

template <class T> struct GatedLinear {
    int64_t rows, in, out;
    bool gelu;                   // of x, before the linear map
    const T *x, *weight, *bias;  // (rows, in), (2 out, in), (2 out,) or null; contiguous
    const T *grad_y;             // (rows, out), contiguous
    T *y;                        // (rows, out)
    T *z;                        // (rows, 2 out): x weight' + bias, written forward if not null, read backward
    T *grad_x, *grad_weight, *grad_bias;
    int threads;
};

// One position, everything contiguous.
template <class T> struct DenseStep {
    int64_t batch, dim, state;
    bool shared;                 // A and B are one for all channels
    const T *x, *u;              // (batch, dim, state), (batch, dim)
    const T *A, *B, *C, *D;      // A transposed: (1 or dim, state, state), (1 or dim, state), (dim, state), (dim,)
    T *y, *after;                // (batch, dim), (batch, dim, state)
    int threads;
};

// The same with an A that all channels share, whose blocks off the diagonal are of low rank (longwave/math/hodlr.py):
// leaves x leaf is the state, columns are those of all levels. leaf and columns are whole vectors.
template <class T> struct HodlrStep {
    int64_t batch, dim, state, leaf, columns;
    const T *x, *u;                   // (batch, dim, state), (batch, dim)
    const T *near, *gather, *spread;  // (leaves, leaf, leaf), (leaves, leaf, columns), (leaves, columns, leaf)
    const T *B, *C, *D;               // (state,), (dim, state), (dim,)
    T *y, *after;
    int threads;
};

// Views have no batch: (rows, in), (out, in), (rows, out).
template <class T> struct Linear {
    int64_t rows, in, out;
    View<const T> x, weight, grad_y;
    const T* bias;   // (out,), contiguous, or null
    T* y;            // (rows, out), or the gradient of x, (rows, in); null: not wanted
    T* grad_weight;  // (out, in), or null: not wanted
    int threads;
};

// One position of a batch. A and dt, with its bias, are one number a head (`per_head`), or those of every channel.
template <class T> struct StateAdvance {
    int64_t batch, heads, groups, dim, states;
    bool per_head, softplus;
    std::array<double, 2> limits;  // of dt
    T* h;                      // (batch, heads, dim, states), contiguous, read and written
    Rows<T> u, dt;             // (heads, dim); (heads[, dim])
    const T* a;                // (heads[, dim, states])
    Rows<T> b, c;              // (groups, states) twice
    const T* d;                // (heads, dim), or null
    Rows<T> z;                 // (heads, dim), or null
    const T* bias;             // (heads[, dim]), or null
    T* y;                      // (batch, heads, dim), contiguous
    int threads;
};

template <class T> struct WindowSlide {
    int64_t batch, dim, width;
    bool silu;
    T* window;                     // (batch, dim, width), contiguous, the oldest input first; read and written
    Rows<T> x;                     // (dim,)
    const T *weight, *bias;        // (dim, width), (dim,) or null
    T* y;                          // (batch, dim), contiguous
    int threads;
};

// One position of a whole mixer: of Mamba, or of Mamba-2 if there is no rank. Everything is contiguous.
template <class T> struct MixerToken {
    int64_t batch, dim_in, dim_out, heads, groups, dim, states, width;
    int64_t rank;                  // of Mamba's map to dt
    int64_t norm_size;             // channels of a group of Mamba-2's norm
    bool norm_first;               // before the gate
    std::array<double, 2> limits;  // of dt
    double eps;                    // of the norm
    const T* x;                    // (batch, dim_in)
    T *window, *h, *y;             // as above, read and written; (batch, dim_out)
    const T *in, *in_bias;         // matrices are (out, in); what has `bias` in its name may be null
    const T *taps, *taps_bias;
    const T *select, *step;        // of Mamba: to (dt, B, C), and of dt to all channels
    const T *dt_bias, *a, *d;
    const T* norm;                 // weight; null where there is none
    const T *out, *out_bias;
    int threads;
};

// `groups` groups of `size` channels at each of `rows` positions. Views have no batch.
template <class T> struct GatedNorm {
    int64_t rows, groups, size;
    bool norm_first;           // before the gate
    double eps;
    View<const T> x, z, grad_y;
    const T* weight;           // (channels,), contiguous
    T *y, *grad_z;             // (rows, channels): the result, or the gradient of x; that of z
    T* grad_weight;            // (blocks of GATED_NORM_ROWS positions, channels), still to be added up
    int threads;
};
constexpr int GATED_NORM_ROWS = 32;

// Complex numbers as pairs; everything contiguous.
struct Krylov {
    int64_t dim, rows, count, modes, rank;
    bool reverse;             // the rows in memory: the last power first
    const double *a, *q, *s;  // (dim, modes), (dim, rank, modes), (dim, rank, modes)
    const double *v, *grad;   // (dim, rows, modes); (dim, rows, count, modes), read backward
    double* out;              // (dim, rows, count, modes), written forward, read backward
    double *grad_a, *grad_q, *grad_s, *grad_v;
    int threads;
};

// Complex numbers as pairs; everything contiguous. The gradients of the tables are read backward.
template <class T> struct BlockTables {
    int64_t dim, modes, rank, span;
    const double *a, *q, *s, *b, *c;                    // (dim, modes), (dim, rank, modes) twice, (dim, modes) twice
    T *enter, *leave, *kernel;                          // (dim, span, state) twice, (dim, span); state = 2 modes
    double* transition;                                 // (dim, state, state)
    const T *grad_enter, *grad_leave, *grad_kernel;
    const double* grad_transition;
    double *grad_a, *grad_q, *grad_s, *grad_b, *grad_c;
    int threads;
};

// A (dim, batch, blocks, span) tensor with any strides.
template <class T> struct Blocks {
    T* data;
    int64_t channel, row, block, place;
    T* at(int64_t c, int64_t r, int64_t k) const { return data + c * channel + r * row + k * block; }
};

template <class T> struct BlockScan {
    int64_t dim, batch, blocks, span, state;
    Blocks<const T> u, grad_y;  // grad_y is read by the backward pass
    const double* transition;   // (dim, state, state); contiguous, as all that follows
    const T *enter, *leave;     // (dim, span, state)
    const T* kernel;            // (dim, span)
    const uint8_t* fresh;       // (batch, blocks): the state is zero before these blocks; or null
    const double* initial;      // (dim, batch, state)
    Blocks<T> y, grad_u;
    T* starts;                  // (dim, batch, blocks, state), written forward, read backward
    double* final;              // (dim, batch, state)
    const T* grad_starts;       // (dim, batch, blocks, state), or null
    const double* grad_final;   // (dim, batch, state), or null
    double *grad_initial, *grad_transition;
    T *grad_enter, *grad_leave, *grad_kernel;
    int threads;
};

// Complex numbers as pairs; everything contiguous.
struct Cauchy {
    int64_t dim, rows, nodes, modes;
    const double *v, *omega, *w;  // (dim, rows, modes), (nodes,), (dim, modes)
    const double* grad;           // (dim, rows, nodes), read backward
    double* out;                  // (dim, rows, nodes), written forward
    double *grad_v, *grad_omega, *grad_w;  // that of the nodes may be null
    int threads;
};

template <class T> struct SelectiveScan {
    int64_t batch, length, dim, groups, states;
    bool is_complex, softplus, varying_B, varying_C;
    View<const T> u, delta, z, grad_y;  // no z: null
    const T* A;                         // (dim, states), contiguous, complex ones as pairs
    const T *B, *C;                     // (dim, states), or varying: (batch, length, groups, states); contiguous
    const T *D, *bias;                  // (dim,), or null
    const T *initial, *grad_final;      // (batch, dim, states), or null
    const uint8_t* marks;               // (batch, length), or null
    T* checkpoints;                     // states at the beginning of each chunk, written forward, read backward; or null
    T *y, *final;                       // (batch, length, dim), (batch, dim, states): the results, or the gradients of u, initial
    T *grad_delta, *grad_z;             // (batch, length, dim); of z: or null
    T* grad_A;                          // (batch, dim, states): the gradients of each row
    T *grad_B, *grad_C;                 // the same, or varying: (strips, batch, length, groups, states)
    T *grad_D, *grad_bias;              // (batch, dim)
    int threads;
};

// The checkpoints are (batch, groups, blocks of channels, chunks, state coordinates, lanes): a block is one vector of
// channels of one group, a chunk SELECTIVE_SCAN_CHUNK positions, and the coordinates are padded to a multiple of
// SELECTIVE_SCAN_TILE. A strip is up to SELECTIVE_SCAN_STRIP blocks of a group.
constexpr int SELECTIVE_SCAN_CHUNK = 64, SELECTIVE_SCAN_TILE = 8, SELECTIVE_SCAN_STRIP = 8;

template <class T> struct ShortConv {
    int64_t batch, length, dim, width;
    bool silu;
    View<const T> x, grad_y;
    const T *weight, *bias;         // (dim, width), contiguous; (dim,), or null
    const T *initial, *grad_final;  // (batch, dim, width - 1), or null
    const uint8_t* marks;           // (batch, length), or null
    T *y, *final;                   // (batch, length, dim), (batch, dim, width - 1): the results, or the gradients of x, initial
    T *grad_weight, *grad_bias;     // (batch, dim, width), (batch, dim): the gradients of each row
    int threads;
};

// The state is (batch, 2, dim): a weighted mean and the logarithm of its weight.
template <class T> struct WKV {
    int64_t batch, length, dim;
    View<const T> k, v, grad_y;
    const T *w, *u;        // (dim,), contiguous
    const T* initial;      // or null; read by the forward pass, and then in the checkpoints
    const T* grad_final;   // or null
    const uint8_t* marks;  // (batch, length), contiguous, or null
    T *y, *final;          // written by the forward pass; y is (batch, length, dim), contiguous
    T* checkpoints;        // (batch, chunks, 3, dim): states at the beginning of each WKV_CHUNK positions; or null
    T *grad_k, *grad_v;    // (batch, length, dim), contiguous
    T *grad_w, *grad_u;    // (batch, dim): still to be added up over the batch
    T* grad_initial;
    int threads;
};
constexpr int WKV_CHUNK = 64;

template <class T> struct SSD {
    int64_t batch, length, heads, groups, dim, state, chunk;
    Heads<const T> x, b, c, grad_y;  // b and c have groups for heads, and state for dim
    const double* a;                 // (batch, length, heads), contiguous
    const T* w;                      // the same: the weight of x, or null
    const T* d;                      // (heads, dim), or null
    const T *initial, *grad_final;   // (batch, heads, state, dim), or null
    const uint8_t* marks;            // (batch, length), or null
    T* checkpoints;                  // (batch, heads, chunks, padded state, padded dim): the states before each chunk, or null
    T *y, *final;                    // (batch, length, heads, dim), (batch, heads, state, dim): the results, or gradients of x, initial
    int64_t y_time;                  // numbers from one position of y to the next; `final` is null backward if nothing was initial
    double* grad_a;                  // (batch, length, heads)
    T* grad_w;                       // the same, or null
    T *grad_b, *grad_c;              // (teams, batch, length, groups, state), still to be added up
    T* grad_d;                       // (batch, chunks, heads, dim), or null
    int threads;
};
constexpr int64_t SSD_TEAM = 6;  // heads of a group that one thread takes together backward
constexpr int64_t SSD_PADDING = 64;  // bytes: states and channels of checkpoints are filled up to multiples of it

struct Kernels {
    const char* isa;
    int vector_bytes;
    void (*linear_scan_f32)(const LinearScan<float>&);
    void (*linear_scan_f64)(const LinearScan<double>&);
    void (*linear_scan_backward_f32)(const LinearScan<float>&);
    void (*linear_scan_backward_f64)(const LinearScan<double>&);
    void (*diagonal_ssm_f32)(const DiagonalSSM<float>&);
    void (*diagonal_ssm_f64)(const DiagonalSSM<double>&);
    void (*diagonal_ssm_backward_f32)(const DiagonalSSM<float>&);
    void (*diagonal_ssm_backward_f64)(const DiagonalSSM<double>&);
    void (*gated_linear_f32)(const GatedLinear<float>&);
    void (*gated_linear_f64)(const GatedLinear<double>&);
    void (*gated_linear_backward_f32)(const GatedLinear<float>&);
    void (*gated_linear_backward_f64)(const GatedLinear<double>&);
    void (*dense_step_f32)(const DenseStep<float>&);
    void (*dense_step_f64)(const DenseStep<double>&);
    void (*hodlr_step_f32)(const HodlrStep<float>&);
    void (*hodlr_step_f64)(const HodlrStep<double>&);
    void (*gated_norm_f32)(const GatedNorm<float>&);
    void (*gated_norm_f64)(const GatedNorm<double>&);
    void (*gated_norm_backward_f32)(const GatedNorm<float>&);
    void (*gated_norm_backward_f64)(const GatedNorm<double>&);
    void (*linear_f32)(const Linear<float>&);
    void (*linear_f64)(const Linear<double>&);
    void (*linear_backward_f32)(const Linear<float>&);
    void (*linear_backward_f64)(const Linear<double>&);
    void (*state_advance_f32)(const StateAdvance<float>&);
    void (*state_advance_f64)(const StateAdvance<double>&);
    void (*window_slide_f32)(const WindowSlide<float>&);
    void (*window_slide_f64)(const WindowSlide<double>&);
    void (*mixer_token_f32)(const MixerToken<float>&);
    void (*mixer_token_f64)(const MixerToken<double>&);
    void (*krylov)(const Krylov&);
    void (*krylov_backward)(const Krylov&);
    void (*block_tables_f32)(const BlockTables<float>&);
    void (*block_tables_f64)(const BlockTables<double>&);
    void (*block_tables_backward_f32)(const BlockTables<float>&);
    void (*block_tables_backward_f64)(const BlockTables<double>&);
    void (*block_scan_f32)(const BlockScan<float>&);
    void (*block_scan_f64)(const BlockScan<double>&);
    void (*block_scan_backward_f32)(const BlockScan<float>&);
    void (*block_scan_backward_f64)(const BlockScan<double>&);
    void (*cauchy)(const Cauchy&);
    void (*cauchy_backward)(const Cauchy&);
    void (*selective_scan_f32)(const SelectiveScan<float>&);
    void (*selective_scan_f64)(const SelectiveScan<double>&);
    void (*selective_scan_backward_f32)(const SelectiveScan<float>&);
    void (*selective_scan_backward_f64)(const SelectiveScan<double>&);
    void (*short_conv_f32)(const ShortConv<float>&);
    void (*short_conv_f64)(const ShortConv<double>&);
    void (*short_conv_backward_f32)(const ShortConv<float>&);
    void (*short_conv_backward_f64)(const ShortConv<double>&);
    void (*wkv_f32)(const WKV<float>&);
    void (*wkv_f64)(const WKV<double>&);
    void (*wkv_backward_f32)(const WKV<float>&);
    void (*wkv_backward_f64)(const WKV<double>&);
    void (*ssd_f32)(const SSD<float>&);
    void (*ssd_f64)(const SSD<double>&);
    void (*ssd_backward_f32)(const SSD<float>&);
    void (*ssd_backward_f64)(const SSD<double>&);
};

#define LONGWAVE_DECLARE(ISA)                                                                      \
    namespace ISA {                                                                                \
    template <class T> void linear_scan(const LinearScan<T>&);                                     \
    template <class T> void linear_scan_backward(const LinearScan<T>&);                            \
    template <class T> void diagonal_ssm(const DiagonalSSM<T>&);                                   \
    template <class T> void diagonal_ssm_backward(const DiagonalSSM<T>&);                          \
    template <class T> void gated_linear(const GatedLinear<T>&);                                   \
    template <class T> void gated_linear_backward(const GatedLinear<T>&);                          \
    template <class T> void dense_step(const DenseStep<T>&);                                       \
    template <class T> void hodlr_step(const HodlrStep<T>&);                                       \
    template <class T> void gated_norm(const GatedNorm<T>&);                                       \
    template <class T> void gated_norm_backward(const GatedNorm<T>&);                              \
    template <class T> void linear(const Linear<T>&);                                              \
    template <class T> void linear_backward(const Linear<T>&);                                     \
    template <class T> void state_advance(const StateAdvance<T>&);                                 \
    template <class T> void window_slide(const WindowSlide<T>&);                                   \
    template <class T> void mixer_token(const MixerToken<T>&);                                     \
    void krylov(const Krylov&);                                                                    \
    void krylov_backward(const Krylov&);                                                           \
    template <class T> void block_tables(const BlockTables<T>&);                                   \
    template <class T> void block_tables_backward(const BlockTables<T>&);                          \
    template <class T> void block_scan(const BlockScan<T>&);                                       \
    template <class T> void block_scan_backward(const BlockScan<T>&);                              \
    void cauchy(const Cauchy&);                                                                    \
    void cauchy_backward(const Cauchy&);                                                           \
    template <class T> void selective_scan(const SelectiveScan<T>&);                               \
    template <class T> void selective_scan_backward(const SelectiveScan<T>&);                      \
    template <class T> void short_conv(const ShortConv<T>&);                                       \
    template <class T> void short_conv_backward(const ShortConv<T>&);                              \
    template <class T> void wkv(const WKV<T>&);                                                    \
    template <class T> void wkv_backward(const WKV<T>&);                                           \
    template <class T> void ssd(const SSD<T>&);                                                    \
    template <class T> void ssd_backward(const SSD<T>&);                                           \
    }
LONGWAVE_DECLARE(baseline)
#ifdef LONGWAVE_X86
LONGWAVE_DECLARE(avx2)
LONGWAVE_DECLARE(avx512)
#endif
#undef LONGWAVE_DECLARE

}  // namespace longwave
