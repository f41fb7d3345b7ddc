// The Python module longwave._native: addresses, sizes and strides in, nothing out. Checks and allocation are Python's.
//
// A tensor's data_ptr() as an integer costs 0.2 us where a DLPack exchange costs 6.7 us. Strides count elements.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels.hpp"

namespace nb = nanobind;
using namespace longwave;
using Address = uintptr_t;
using Strides = std::array<int64_t, 3>;
using AxesStrides = std::array<int64_t, 4>;

namespace {

#define LONGWAVE_TABLE(ISA, BYTES)                                                                         \
    Kernels {                                                                                              \
        #ISA, BYTES, ISA::linear_scan<float>, ISA::linear_scan<double>, ISA::linear_scan_backward<float>,  \
            ISA::linear_scan_backward<double>, ISA::diagonal_ssm<float>, ISA::diagonal_ssm<double>,        \
            ISA::diagonal_ssm_backward<float>, ISA::diagonal_ssm_backward<double>,                         \
            ISA::gated_linear<float>, ISA::gated_linear<double>, ISA::gated_linear_backward<float>,        \
            ISA::gated_linear_backward<double>, ISA::dense_step<float>, ISA::dense_step<double>,           \
            ISA::hodlr_step<float>, ISA::hodlr_step<double>,                                               \
            ISA::gated_norm<float>, ISA::gated_norm<double>,                                               \
            ISA::gated_norm_backward<float>, ISA::gated_norm_backward<double>,                             \
            ISA::linear<float>, ISA::linear<double>, ISA::linear_backward<float>,                          \
            ISA::linear_backward<double>, ISA::state_advance<float>, ISA::state_advance<double>,           \
            ISA::window_slide<float>, ISA::window_slide<double>, ISA::mixer_token<float>,                  \
            ISA::mixer_token<double>, ISA::krylov, ISA::krylov_backward,                                   \
            ISA::block_tables<float>, ISA::block_tables<double>, ISA::block_tables_backward<float>,        \
            ISA::block_tables_backward<double>, ISA::block_scan<float>,                                    \
            ISA::block_scan<double>, ISA::block_scan_backward<float>, ISA::block_scan_backward<double>,    \
            ISA::cauchy, ISA::cauchy_backward,                                                             \
            ISA::selective_scan<float>, ISA::selective_scan<double>,                                       \
            ISA::selective_scan_backward<float>, ISA::selective_scan_backward<double>,                     \
            ISA::short_conv<float>, ISA::short_conv<double>, ISA::short_conv_backward<float>,              \
            ISA::short_conv_backward<double>, ISA::wkv<float>, ISA::wkv<double>, ISA::wkv_backward<float>, \
            ISA::wkv_backward<double>, ISA::ssd<float>, ISA::ssd<double>, ISA::ssd_backward<float>,        \
            ISA::ssd_backward<double>                                                                      \
    }

// The sets this processor can run, best first.
std::vector<Kernels> available() {
    std::vector<Kernels> all;
#ifdef LONGWAVE_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw"))
        all.push_back(LONGWAVE_TABLE(avx512, 64));
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) all.push_back(LONGWAVE_TABLE(avx2, 32));
#endif
    all.push_back(LONGWAVE_TABLE(baseline, 16));
    return all;
}

Kernels active = available().front();

void use(const std::string& isa) {
    for (const Kernels& k : available())
        if (isa == k.isa) {
            active = k;
            return;
        }
    throw std::invalid_argument("this processor cannot run, or this build does not have, the instruction set " + isa);
}

template <class T> T* at(Address a) { return reinterpret_cast<T*>(a); }
template <class T> View<const T> view(Address a, const Strides& s) { return {at<const T>(a), s[0], s[1], s[2]}; }
template <class T> Blocks<T> blocks(Address a, const AxesStrides& s) { return {at<T>(a), s[0], s[1], s[2], s[3]}; }

struct ScanCall {
    int64_t batch, length, dim;
    bool is_complex, reverse, is_double, sum_grad_a;
    Address a, b, h, grad_h, initial, grad_final, reset, lengths, states, final, grad_a;
    Strides a_strides, b_strides, h_strides, grad_h_strides;
    int threads;

    template <class T> LinearScan<T> as() const {
        return {batch, length, dim, is_complex, reverse, view<T>(a, a_strides), view<T>(b, b_strides), view<T>(h, h_strides),
                view<T>(grad_h, grad_h_strides), at<const T>(initial), at<const T>(grad_final), at<const uint8_t>(reset),
                at<const int64_t>(lengths), at<T>(states), at<T>(final), at<T>(grad_a), sum_grad_a, threads};
    }
};

struct SSMCall {
    int64_t batch, length, dim, modes;
    bool is_complex, is_double;
    Address u, grad_y, a, b, c, d, initial, grad_final, reset, lengths, y, final, checkpoints, grad_a, grad_b, grad_c, grad_d;
    Strides u_strides, grad_y_strides;
    int threads;

    template <class T> DiagonalSSM<T> as() const {
        return {batch, length, dim, modes, is_complex, view<T>(u, u_strides), view<T>(grad_y, grad_y_strides), at<const T>(a),
                at<const T>(b), at<const T>(c), at<const T>(d), at<const T>(initial), at<const T>(grad_final),
                at<const uint8_t>(reset), at<const int64_t>(lengths), at<T>(y), at<T>(final), at<T>(checkpoints), at<T>(grad_a),
                at<T>(grad_b), at<T>(grad_c), at<T>(grad_d), threads};
    }
};

struct GatedCall {
    int64_t rows, in, out;
    bool gelu;
    Address x, weight, bias, grad_y, y, z, grad_x, grad_weight, grad_bias;
    int threads;

    template <class T> GatedLinear<T> as() const {
        return {rows, in, out, gelu, at<const T>(x), at<const T>(weight), at<const T>(bias), at<const T>(grad_y), at<T>(y), at<T>(z),
                at<T>(grad_x), at<T>(grad_weight), at<T>(grad_bias), threads};
    }
};

struct StepCall {
    std::array<int64_t, 3> sizes;   // batch, dim, state
    bool shared;
    std::array<Address, 6> inputs;  // x, u, A, B, C, D
    Address y, after;
    int threads;

    template <class T> DenseStep<T> as() const {
        const auto in = [&](int i) { return at<const T>(inputs[i]); };
        return {sizes[0], sizes[1], sizes[2], shared, in(0), in(1), in(2), in(3), in(4), in(5), at<T>(y), at<T>(after),
                threads};
    }
};

struct HodlrCall {
    std::array<int64_t, 5> sizes;   // batch, dim, state, leaf, columns
    std::array<Address, 8> inputs;  // x, u, near, gather, spread, B, C, D
    Address y, after;
    int threads;

    template <class T> HodlrStep<T> as() const {
        const auto in = [&](int i) { return at<const T>(inputs[i]); };
        return {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], in(0), in(1), in(2), in(3), in(4), in(5), in(6), in(7),
                at<T>(y), at<T>(after), threads};
    }
};

struct LinearCall {
    std::array<int64_t, 3> sizes;        // rows, in, out
    std::array<Address, 3> matrices;     // x, weight, grad_y
    std::array<Strides, 3> strides;
    std::array<Address, 3> others;       // bias; y, grad_weight
    int threads;

    template <class T> Linear<T> as() const {
        const auto seen = [&](int i) { return view<T>(matrices[i], strides[i]); };
        return {sizes[0], sizes[1], sizes[2], seen(0), seen(1), seen(2), at<const T>(others[0]), at<T>(others[1]), at<T>(others[2]),
                threads};
    }
};

struct AdvanceCall {
    std::array<int64_t, 5> sizes;  // batch, heads, groups, dim, states
    bool per_head, softplus;
    std::array<double, 2> limits;
    std::array<Address, 10> tensors;  // h, u, dt, A, B, C, D, z, bias; y
    int threads;

    template <class T> StateAdvance<T> as() const {
        const auto [batch, heads, groups, dim, states] = sizes;
        const int64_t row = heads * dim, modes = groups * states;
        const auto in = [&](int i) { return at<const T>(tensors[i]); };
        return {batch, heads, groups, dim, states, per_head, softplus, limits, at<T>(tensors[0]), {in(1), row},
                {in(2), per_head ? heads : row}, in(3), {in(4), modes}, {in(5), modes}, in(6), {in(7), row}, in(8),
                at<T>(tensors[9]), threads};
    }
};

struct SlideCall {
    std::array<int64_t, 3> sizes;  // batch, dim, width
    bool silu;
    std::array<Address, 5> tensors;  // window, x, weight, bias; y
    int threads;

    template <class T> WindowSlide<T> as() const {
        const auto in = [&](int i) { return at<const T>(tensors[i]); };
        return {sizes[0], sizes[1], sizes[2], silu, at<T>(tensors[0]), {in(1), sizes[1]}, in(2), in(3), at<T>(tensors[4]), threads};
    }
};

struct TokenCall {
    int64_t batch;
    std::array<int64_t, 9> sizes;  // dim_in, dim_out, heads, groups, dim, states, width, rank, norm_size
    bool norm_first;
    std::array<double, 2> limits;
    double eps;
    std::array<Address, 12> weights;  // in, in_bias, taps, taps_bias, select, step, dt_bias, a, d, norm, out, out_bias
    std::array<Address, 4> moving;    // x, window, h, y
    int threads;

    template <class T> MixerToken<T> as() const {
        const auto in = [&](int i) { return at<const T>(weights[i]); };
        return {batch, sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], sizes[7], sizes[8], norm_first, limits,
                eps, at<const T>(moving[0]), at<T>(moving[1]), at<T>(moving[2]), at<T>(moving[3]), in(0), in(1), in(2), in(3), in(4),
                in(5), in(6), in(7), in(8), in(9), in(10), in(11), threads};
    }
};

struct NormCall {
    std::array<int64_t, 3> sizes;  // rows, groups, size
    bool norm_first;
    double eps;
    std::array<Address, 3> sequences;  // x, z, grad_y
    std::array<Strides, 3> strides;
    std::array<Address, 4> others;  // weight; y, grad_z, grad_weight
    int threads;

    template <class T> GatedNorm<T> as() const {
        const auto seen = [&](int i) { return view<T>(sequences[i], strides[i]); };
        return {sizes[0], sizes[1], sizes[2], norm_first, eps, seen(0), seen(1), seen(2), at<const T>(others[0]), at<T>(others[1]),
                at<T>(others[2]), at<T>(others[3]), threads};
    }
};

struct TablesCall {
    std::array<int64_t, 4> sizes;   // dim, modes, rank, span
    std::array<Address, 5> system;  // a, q, s, b, c
    std::array<Address, 4> tables, given;  // enter, leave, kernel, transition, and their gradients
    std::array<Address, 5> gradients;
    int threads;

    template <class T> BlockTables<T> as() const {
        const auto [dim, modes, rank, span] = sizes;
        const auto [a, q, s, b, c] = system;
        const auto [grad_a, grad_q, grad_s, grad_b, grad_c] = gradients;
        return {dim, modes, rank, span, at<const double>(a), at<const double>(q), at<const double>(s), at<const double>(b),
                at<const double>(c), at<T>(tables[0]), at<T>(tables[1]), at<T>(tables[2]), at<double>(tables[3]),
                at<const T>(given[0]), at<const T>(given[1]), at<const T>(given[2]), at<const double>(given[3]),
                at<double>(grad_a), at<double>(grad_q), at<double>(grad_s), at<double>(grad_b), at<double>(grad_c), threads};
    }
};

struct BlockCall {
    std::array<int64_t, 5> sizes;  // dim, batch, blocks, span, state
    Address u, grad_y, transition, enter, leave, kernel, fresh, initial, y, grad_u, starts, final, grad_starts, grad_final;
    Address grad_initial, grad_transition, grad_enter, grad_leave, grad_kernel;
    AxesStrides u_strides, grad_y_strides, y_strides, grad_u_strides;
    int threads;

    template <class T> BlockScan<T> as() const {
        const auto [dim, batch, blocks_, span, state] = sizes;
        return {dim, batch, blocks_, span, state, blocks<const T>(u, u_strides), blocks<const T>(grad_y, grad_y_strides),
                at<const double>(transition), at<const T>(enter), at<const T>(leave), at<const T>(kernel), at<const uint8_t>(fresh),
                at<const double>(initial), blocks<T>(y, y_strides), blocks<T>(grad_u, grad_u_strides), at<T>(starts),
                at<double>(final), at<const T>(grad_starts), at<const double>(grad_final), at<double>(grad_initial),
                at<double>(grad_transition), at<T>(grad_enter), at<T>(grad_leave), at<T>(grad_kernel), threads};
    }
};

struct SelectiveCall {
    std::array<int64_t, 5> sizes;  // batch, length, dim, groups, states
    std::array<bool, 4> flags;     // complex, softplus, varying B, varying C
    std::array<Address, 4> sequences;  // u, delta, z, grad_y
    std::array<Strides, 4> strides;
    std::array<Address, 9> inputs;    // A, B, C, D, bias, initial, grad_final, marks, checkpoints
    std::array<Address, 9> outputs;  // y, final, grad_delta, grad_z, grad_A, grad_B, grad_C, grad_D, grad_bias
    int threads;

    template <class T> SelectiveScan<T> as() const {
        const auto seen = [&](int i) { return view<T>(sequences[i], strides[i]); };
        const auto in = [&](int i) { return at<const T>(inputs[i]); };
        const auto out = [&](int i) { return at<T>(outputs[i]); };
        return {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], flags[0], flags[1], flags[2], flags[3], seen(0), seen(1), seen(2),
                seen(3), in(0), in(1), in(2), in(3), in(4), in(5), in(6), at<const uint8_t>(inputs[7]), at<T>(inputs[8]), out(0),
                out(1), out(2), out(3), out(4), out(5), out(6), out(7), out(8), threads};
    }
};

struct ConvCall {
    std::array<int64_t, 4> sizes;  // batch, length, dim, width
    bool silu;
    Address x, grad_y;
    Strides x_strides, grad_y_strides;
    std::array<Address, 5> inputs;   // weight, bias, initial, grad_final, marks
    std::array<Address, 4> outputs;  // y, final, grad_weight, grad_bias
    int threads;

    template <class T> ShortConv<T> as() const {
        const auto in = [&](int i) { return at<const T>(inputs[i]); };
        const auto out = [&](int i) { return at<T>(outputs[i]); };
        return {sizes[0], sizes[1], sizes[2], sizes[3], silu, view<T>(x, x_strides), view<T>(grad_y, grad_y_strides), in(0), in(1),
                in(2), in(3), at<const uint8_t>(inputs[4]), out(0), out(1), out(2), out(3), threads};
    }
};

struct WKVCall {
    int64_t batch, length, dim;
    Address k, v, grad_y, w, u, initial, grad_final, marks, y, final, checkpoints, grad_k, grad_v, grad_w, grad_u, grad_initial;
    Strides k_strides, v_strides, grad_y_strides;
    int threads;

    template <class T> WKV<T> as() const {
        return {batch, length, dim, view<T>(k, k_strides), view<T>(v, v_strides), view<T>(grad_y, grad_y_strides), at<const T>(w),
                at<const T>(u), at<const T>(initial), at<const T>(grad_final), at<const uint8_t>(marks), at<T>(y), at<T>(final),
                at<T>(checkpoints), at<T>(grad_k), at<T>(grad_v), at<T>(grad_w), at<T>(grad_u), at<T>(grad_initial), threads};
    }
};

struct SSDCall {
    std::array<int64_t, 8> sizes;     // batch, length, heads, groups, dim, state, chunk, y_time
    std::array<Address, 4> sequences;  // x, B, C, grad_y
    std::array<AxesStrides, 4> strides;
    std::array<Address, 7> inputs;   // a, w, D, initial, grad_final, marks, checkpoints
    std::array<Address, 7> outputs;  // y, final, grad_a, grad_w, grad_B, grad_C, grad_D
    int threads;

    template <class T> SSD<T> as() const {
        const auto seen = [&](int i) {
            const AxesStrides& s = strides[i];
            return Heads<const T>{at<const T>(sequences[i]), s[0], s[1], s[2], s[3]};
        };
        const auto in = [&](int i) { return at<const T>(inputs[i]); };
        const auto out = [&](int i) { return at<T>(outputs[i]); };
        return {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], seen(0), seen(1), seen(2), seen(3),
                at<const double>(inputs[0]), in(1), in(2), in(3), in(4), at<const uint8_t>(inputs[5]), at<T>(inputs[6]), out(0), out(1),
                sizes[7], at<double>(outputs[2]), out(3), out(4), out(5), out(6), threads};
    }
};

}  // namespace

NB_MODULE(_native, m) {
    using namespace nb::literals;
    m.def("available", [] {
        std::vector<std::string> names;
        for (const Kernels& k : available()) names.push_back(k.isa);
        return names;
    });
    m.def("active", [] { return std::string(active.isa); });
    m.def("use", &use, "isa"_a);
    m.def("openmp", [] {
#ifdef _OPENMP
        return true;
#else
        return false;
#endif
    });

    m.def("linear_scan",
          [](int64_t batch, int64_t length, int64_t dim, bool is_complex, bool is_double, bool reverse, Address a, Strides sa,
             Address b, Strides sb, Address initial, Address reset, Address lengths, Address states, Address final, int threads) {
              ScanCall call{batch, length, dim, is_complex, reverse, is_double, false, a, b, 0, 0, initial, 0, reset, lengths,
                            states, final, 0, sa, sb, {}, {}, threads};
              nb::gil_scoped_release release;
              is_double ? active.linear_scan_f64(call.as<double>()) : active.linear_scan_f32(call.as<float>());
          });
    m.def("linear_scan_backward",
          [](int64_t batch, int64_t length, int64_t dim, bool is_complex, bool is_double, bool reverse, Address a, Strides sa,
             Address h, Strides sh, Address grad_h, Strides sg, Address initial, Address grad_final, Address reset,
             Address lengths, Address grad_b, Address grad_initial, Address grad_a, bool sum_grad_a, int threads) {
              ScanCall call{batch, length, dim, is_complex, reverse, is_double, sum_grad_a, a, 0, h, grad_h, initial, grad_final,
                            reset, lengths, grad_b, grad_initial, grad_a, sa, {}, sh, sg, threads};
              nb::gil_scoped_release release;
              is_double ? active.linear_scan_backward_f64(call.as<double>())
                        : active.linear_scan_backward_f32(call.as<float>());
          });
    m.def("diagonal_ssm",
          [](int64_t batch, int64_t length, int64_t dim, int64_t modes, bool is_complex, bool is_double, Address u, Strides su,
             Address a, Address b, Address c, Address d, Address initial, Address reset, Address lengths, Address y,
             Address final, Address checkpoints, int threads) {
              SSMCall call{batch, length, dim, modes, is_complex, is_double, u, 0, a, b, c, d, initial, 0, reset, lengths, y, final,
                           checkpoints, 0, 0, 0, 0, su, {}, threads};
              nb::gil_scoped_release release;
              is_double ? active.diagonal_ssm_f64(call.as<double>()) : active.diagonal_ssm_f32(call.as<float>());
          });
    m.def("diagonal_ssm_backward",
          [](int64_t batch, int64_t length, int64_t dim, int64_t modes, bool is_complex, bool is_double, Address u, Strides su,
             Address grad_y, Strides sg, Address a, Address b, Address c, Address d, Address grad_final, Address reset,
             Address lengths, Address checkpoints, Address grad_u, Address grad_initial, Address grad_a, Address grad_b,
             Address grad_c, Address grad_d, int threads) {
              SSMCall call{batch, length, dim, modes, is_complex, is_double, u, grad_y, a, b, c, d, 0, grad_final, reset, lengths,
                           grad_u, grad_initial, checkpoints, grad_a, grad_b, grad_c, grad_d, su, sg, threads};
              nb::gil_scoped_release release;
              is_double ? active.diagonal_ssm_backward_f64(call.as<double>())
                        : active.diagonal_ssm_backward_f32(call.as<float>());
          });
    m.def("gated_linear", [](int64_t rows, int64_t in, int64_t out, bool gelu, bool is_double, Address x, Address weight,
                             Address bias, Address y, Address z, int threads) {
        GatedCall call{rows, in, out, gelu, x, weight, bias, 0, y, z, 0, 0, 0, threads};
        nb::gil_scoped_release release;
        is_double ? active.gated_linear_f64(call.as<double>()) : active.gated_linear_f32(call.as<float>());
    });
    m.def("gated_linear_backward",
          [](int64_t rows, int64_t in, int64_t out, bool gelu, bool is_double, Address x, Address weight, Address grad_y,
             Address z, Address grad_x, Address grad_weight, Address grad_bias, int threads) {
              GatedCall call{rows, in, out, gelu, x, weight, 0, grad_y, 0, z, grad_x, grad_weight, grad_bias, threads};
              nb::gil_scoped_release release;
              is_double ? active.gated_linear_backward_f64(call.as<double>())
                        : active.gated_linear_backward_f32(call.as<float>());
          });
    m.def("dense_step", [](bool is_double, const std::array<int64_t, 3>& sizes, bool shared,
                           const std::array<Address, 6>& inputs, Address y, Address after, int threads) {
        const StepCall call{sizes, shared, inputs, y, after, threads};
        nb::gil_scoped_release release;
        is_double ? active.dense_step_f64(call.as<double>()) : active.dense_step_f32(call.as<float>());
    });
    m.def("hodlr_step", [](bool is_double, const std::array<int64_t, 5>& sizes, const std::array<Address, 8>& inputs, Address y,
                           Address after, int threads) {
        const HodlrCall call{sizes, inputs, y, after, threads};
        nb::gil_scoped_release release;
        is_double ? active.hodlr_step_f64(call.as<double>()) : active.hodlr_step_f32(call.as<float>());
    });
    m.def("linear", [](bool is_backward, bool is_double, std::array<int64_t, 3> sizes, std::array<Address, 3> matrices,
                       std::array<Strides, 3> strides, std::array<Address, 3> others, int threads) {
        const LinearCall call{sizes, matrices, strides, others, threads};
        nb::gil_scoped_release release;
        if (is_double) (is_backward ? active.linear_backward_f64 : active.linear_f64)(call.as<double>());
        else (is_backward ? active.linear_backward_f32 : active.linear_f32)(call.as<float>());
    });
    m.def("state_advance", [](bool is_double, const std::array<int64_t, 5>& sizes, bool per_head, bool softplus,
                              const std::array<double, 2>& limits, const std::array<Address, 10>& tensors, int threads) {
        const AdvanceCall call{sizes, per_head, softplus, limits, tensors, threads};
        nb::gil_scoped_release release;
        is_double ? active.state_advance_f64(call.as<double>()) : active.state_advance_f32(call.as<float>());
    });
    m.def("window_slide", [](bool is_double, const std::array<int64_t, 3>& sizes, bool silu, const std::array<Address, 5>& tensors,
                             int threads) {
        const SlideCall call{sizes, silu, tensors, threads};
        nb::gil_scoped_release release;
        is_double ? active.window_slide_f64(call.as<double>()) : active.window_slide_f32(call.as<float>());
    });
    m.def("mixer_token", [](bool is_double, int64_t batch, const std::array<int64_t, 9>& sizes, bool norm_first,
                            const std::array<double, 2>& limits, double eps, const std::array<Address, 12>& weights,
                            const std::array<Address, 4>& moving, int threads) {
        const TokenCall call{batch, sizes, norm_first, limits, eps, weights, moving, threads};
        nb::gil_scoped_release release;
        is_double ? active.mixer_token_f64(call.as<double>()) : active.mixer_token_f32(call.as<float>());
    });
    m.def("gated_norm",
          [](bool is_backward, bool is_double, std::array<int64_t, 3> sizes, bool norm_first, double eps,
             std::array<Address, 3> sequences, std::array<Strides, 3> strides, std::array<Address, 4> others, int threads) {
              const NormCall call{sizes, norm_first, eps, sequences, strides, others, threads};
              nb::gil_scoped_release release;
              if (is_double) (is_backward ? active.gated_norm_backward_f64 : active.gated_norm_f64)(call.as<double>());
              else (is_backward ? active.gated_norm_backward_f32 : active.gated_norm_f32)(call.as<float>());
          });
    m.attr("GATED_NORM_ROWS") = GATED_NORM_ROWS;
    m.def("krylov", [](int64_t dim, int64_t rows, int64_t count, int64_t modes, int64_t rank, bool reverse, Address a, Address q,
                       Address s, Address v, Address out, int threads) {
        const Krylov call{dim, rows, count, modes, rank, reverse, at<const double>(a), at<const double>(q), at<const double>(s),
                          at<const double>(v), nullptr, at<double>(out), nullptr, nullptr, nullptr, nullptr, threads};
        nb::gil_scoped_release release;
        active.krylov(call);
    });
    m.def("krylov_backward",
          [](int64_t dim, int64_t rows, int64_t count, int64_t modes, int64_t rank, bool reverse, Address a, Address q, Address s, Address grad,
             Address out, Address grad_a, Address grad_q, Address grad_s, Address grad_v, int threads) {
              const Krylov call{dim, rows, count, modes, rank, reverse, at<const double>(a), at<const double>(q), at<const double>(s),
                                nullptr, at<const double>(grad), at<double>(out), at<double>(grad_a), at<double>(grad_q),
                                at<double>(grad_s), at<double>(grad_v), threads};
              nb::gil_scoped_release release;
              active.krylov_backward(call);
          });
    m.def("block_tables", [](const std::array<int64_t, 4>& sizes, bool is_double, const std::array<Address, 5>& system,
                             const std::array<Address, 4>& tables, int threads) {
        const TablesCall call{sizes, system, tables, {}, {}, threads};
        nb::gil_scoped_release release;
        is_double ? active.block_tables_f64(call.as<double>()) : active.block_tables_f32(call.as<float>());
    });
    m.def("block_tables_backward", [](const std::array<int64_t, 4>& sizes, bool is_double, const std::array<Address, 5>& system,
                                      const std::array<Address, 4>& given, const std::array<Address, 5>& gradients, int threads) {
        const TablesCall call{sizes, system, {}, given, gradients, threads};
        nb::gil_scoped_release release;
        is_double ? active.block_tables_backward_f64(call.as<double>()) : active.block_tables_backward_f32(call.as<float>());
    });
    m.def("block_scan",
          [](const std::array<int64_t, 5>& sizes, bool is_double, Address u, const AxesStrides& u_strides, Address transition,
             Address enter, Address leave, Address kernel, Address fresh, Address initial, Address y, const AxesStrides& y_strides,
             Address starts, Address final, int threads) {
              BlockCall call{};
              call.sizes = sizes, call.threads = threads;
              call.u = u, call.u_strides = u_strides, call.y = y, call.y_strides = y_strides;
              call.transition = transition, call.enter = enter, call.leave = leave, call.kernel = kernel, call.fresh = fresh;
              call.initial = initial, call.starts = starts, call.final = final;
              nb::gil_scoped_release release;
              is_double ? active.block_scan_f64(call.as<double>()) : active.block_scan_f32(call.as<float>());
          });
    m.def("block_scan_backward",
          [](const std::array<int64_t, 5>& sizes, bool is_double, Address u, const AxesStrides& u_strides, Address transition,
             Address enter, Address leave, Address kernel, Address fresh, Address starts, Address grad_y,
             const AxesStrides& grad_y_strides, Address grad_starts, Address grad_final, Address grad_u,
             const AxesStrides& grad_u_strides, Address grad_transition, Address grad_enter, Address grad_leave,
             Address grad_kernel, Address grad_initial, int threads) {
              BlockCall call{};
              call.sizes = sizes, call.threads = threads;
              call.u = u, call.u_strides = u_strides, call.grad_y = grad_y, call.grad_y_strides = grad_y_strides;
              call.transition = transition, call.enter = enter, call.leave = leave, call.kernel = kernel, call.fresh = fresh;
              call.starts = starts, call.grad_starts = grad_starts, call.grad_final = grad_final;
              call.grad_u = grad_u, call.grad_u_strides = grad_u_strides, call.grad_transition = grad_transition;
              call.grad_enter = grad_enter, call.grad_leave = grad_leave, call.grad_kernel = grad_kernel;
              call.grad_initial = grad_initial;
              nb::gil_scoped_release release;
              is_double ? active.block_scan_backward_f64(call.as<double>()) : active.block_scan_backward_f32(call.as<float>());
          });
    m.def("cauchy", [](int64_t dim, int64_t rows, int64_t nodes, int64_t modes, Address v, Address omega, Address w, Address out,
                       int threads) {
        const Cauchy call{dim, rows, nodes, modes, at<const double>(v), at<const double>(omega), at<const double>(w), nullptr,
                          at<double>(out), nullptr, nullptr, nullptr, threads};
        nb::gil_scoped_release release;
        active.cauchy(call);
    });
    m.def("cauchy_backward", [](int64_t dim, int64_t rows, int64_t nodes, int64_t modes, Address v, Address omega, Address w,
                                Address grad, Address grad_v, Address grad_omega, Address grad_w, int threads) {
        const Cauchy call{dim, rows, nodes, modes, at<const double>(v), at<const double>(omega), at<const double>(w),
                          at<const double>(grad), nullptr, at<double>(grad_v), at<double>(grad_omega), at<double>(grad_w), threads};
        nb::gil_scoped_release release;
        active.cauchy_backward(call);
    });
    m.def("selective_scan",
          [](bool is_backward, bool is_double, std::array<int64_t, 5> sizes, std::array<bool, 4> flags,
             std::array<Address, 4> sequences, std::array<Strides, 4> strides, std::array<Address, 9> inputs,
             std::array<Address, 9> outputs, int threads) {
              const SelectiveCall call{sizes, flags, sequences, strides, inputs, outputs, threads};
              nb::gil_scoped_release release;
              if (is_double) (is_backward ? active.selective_scan_backward_f64 : active.selective_scan_f64)(call.as<double>());
              else (is_backward ? active.selective_scan_backward_f32 : active.selective_scan_f32)(call.as<float>());
          });
    m.def("short_conv",
          [](bool is_backward, bool is_double, std::array<int64_t, 4> sizes, bool silu, Address x, Strides sx, Address grad_y,
             Strides sg, std::array<Address, 5> inputs, std::array<Address, 4> outputs, int threads) {
              const ConvCall call{sizes, silu, x, grad_y, sx, sg, inputs, outputs, threads};
              nb::gil_scoped_release release;
              if (is_double) (is_backward ? active.short_conv_backward_f64 : active.short_conv_f64)(call.as<double>());
              else (is_backward ? active.short_conv_backward_f32 : active.short_conv_f32)(call.as<float>());
          });
    m.attr("SELECTIVE_SCAN_CHUNK") = SELECTIVE_SCAN_CHUNK;
    m.attr("SELECTIVE_SCAN_TILE") = SELECTIVE_SCAN_TILE;
    m.attr("SELECTIVE_SCAN_STRIP") = SELECTIVE_SCAN_STRIP;
    m.def("wkv", [](int64_t batch, int64_t length, int64_t dim, bool is_double, Address k, Strides sk, Address v, Strides sv, Address w,
                    Address u, Address initial, Address marks, Address y, Address final, Address checkpoints, int threads) {
        const WKVCall call{batch, length, dim, k, v, 0, w, u, initial, 0, marks, y, final, checkpoints, 0, 0, 0, 0, 0, sk, sv, {}, threads};
        nb::gil_scoped_release release;
        is_double ? active.wkv_f64(call.as<double>()) : active.wkv_f32(call.as<float>());
    });
    m.def("wkv_backward",
          [](int64_t batch, int64_t length, int64_t dim, bool is_double, Address k, Strides sk, Address v, Strides sv, Address grad_y,
             Strides sg, Address w, Address u, Address grad_final, Address marks, Address checkpoints, Address grad_k, Address grad_v,
             Address grad_w, Address grad_u, Address grad_initial, int threads) {
              const WKVCall call{batch, length, dim, k, v, grad_y, w, u, 0, grad_final, marks, 0, 0, checkpoints, grad_k, grad_v, grad_w,
                                 grad_u, grad_initial, sk, sv, sg, threads};
              nb::gil_scoped_release release;
              is_double ? active.wkv_backward_f64(call.as<double>()) : active.wkv_backward_f32(call.as<float>());
          });
    m.def("ssd",
          [](bool is_backward, bool is_double, std::array<int64_t, 8> sizes, std::array<Address, 4> sequences,
             std::array<AxesStrides, 4> strides, std::array<Address, 7> inputs, std::array<Address, 7> outputs, int threads) {
              const SSDCall call{sizes, sequences, strides, inputs, outputs, threads};
              nb::gil_scoped_release release;
              if (is_double) (is_backward ? active.ssd_backward_f64 : active.ssd_f64)(call.as<double>());
              else (is_backward ? active.ssd_backward_f32 : active.ssd_f32)(call.as<float>());
          });
    m.def("vector_bytes", [] { return active.vector_bytes; });
    m.attr("DIAGONAL_SSM_CHUNK") = DIAGONAL_SSM_CHUNK;
    m.attr("DIAGONAL_SSM_ROWS") = DIAGONAL_SSM_ROWS;
    m.attr("WKV_CHUNK") = WKV_CHUNK;
    m.attr("SSD_TEAM") = SSD_TEAM;
    m.attr("SSD_PADDING") = SSD_PADDING;
}
