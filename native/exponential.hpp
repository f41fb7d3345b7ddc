// e^x of the lanes of a vector.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "lanes.hpp"

namespace longwave::LONGWAVE_ISA {
namespace {

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

}  // namespace
}  // namespace longwave::LONGWAVE_ISA
