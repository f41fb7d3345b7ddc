// What the kernels offer to the bindings: plain structs of pointers, sizes and strides (in elements), one function per pass.
#pragma once
#include <cstdint>

namespace longwave {

// A (batch, time, dim) tensor with any strides; a stride of 0 broadcasts.
template <class T> struct View {
    T* data;
    int64_t batch, time, dim;
};

// What a position is to a recurrence, as src/longwave/ops/_marks.py has it: padding leaves the state as it is.
enum Mark : uint8_t { GOES_ON = 0, BEGINS = 1, PADDING = 2 };

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

// x[k+1] = x[k] M + in[k], out[k] = x[k]; backward in k if reverse.
template <class T> struct BlockScan {
    int64_t dim, batch, blocks, state;
    bool reverse;
    const double* matrix;      // M: (dim, state, state), contiguous
    const T* in;               // (dim, batch, blocks, state): in_stride from one block to the next
    T* out;                    // the same, with out_stride
    int64_t in_stride, out_stride;
    const double* initial;     // (dim, batch, state), or null
    double* final;             // (dim, batch, state)
    const uint8_t* fresh;      // (batch, blocks): x is zero before these blocks; or null
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
    void (*krylov)(const Krylov&);
    void (*krylov_backward)(const Krylov&);
    void (*block_scan_f32)(const BlockScan<float>&);
    void (*block_scan_f64)(const BlockScan<double>&);
    void (*cauchy)(const Cauchy&);
    void (*cauchy_backward)(const Cauchy&);
    void (*wkv_f32)(const WKV<float>&);
    void (*wkv_f64)(const WKV<double>&);
    void (*wkv_backward_f32)(const WKV<float>&);
    void (*wkv_backward_f64)(const WKV<double>&);
};

#define LONGWAVE_DECLARE(ISA)                                                                      \
    namespace ISA {                                                                                \
    template <class T> void linear_scan(const LinearScan<T>&);                                     \
    template <class T> void linear_scan_backward(const LinearScan<T>&);                            \
    template <class T> void diagonal_ssm(const DiagonalSSM<T>&);                                   \
    template <class T> void diagonal_ssm_backward(const DiagonalSSM<T>&);                          \
    template <class T> void gated_linear(const GatedLinear<T>&);                                   \
    template <class T> void gated_linear_backward(const GatedLinear<T>&);                          \
    void krylov(const Krylov&);                                                                    \
    void krylov_backward(const Krylov&);                                                           \
    template <class T> void block_scan(const BlockScan<T>&);                                       \
    void cauchy(const Cauchy&);                                                                    \
    void cauchy_backward(const Cauchy&);                                                           \
    template <class T> void wkv(const WKV<T>&);                                                    \
    template <class T> void wkv_backward(const WKV<T>&);                                           \
    }
LONGWAVE_DECLARE(baseline)
#ifdef LONGWAVE_X86
LONGWAVE_DECLARE(avx2)
LONGWAVE_DECLARE(avx512)
#endif
#undef LONGWAVE_DECLARE

}  // namespace longwave
