// Exponentials on vectors and what is made of them, to about one unit in the last place: 2^x, e^x, SiLU, softplus, sine
// and cosine. Rounding to an integer is adding and taking away 1.5 * 2^(bits of the mantissa); the integer then
// stands in the lowest bits of the sum, from where a shift puts it into an exponent.
#pragma once
#include <cstdint>
#include <limits>

#include "lanes.hpp"

namespace longwave::LONGWAVE_ISA {

template <class T> struct Constants;
template <> struct Constants<float> {
    typedef int32_t Bits __attribute__((vector_size(LONGWAVE_VECTOR_BYTES)));
    static constexpr int MANTISSA = 23;
    static constexpr float ROUND = 12582912, LOWEST = -126, HIGHEST = 127.5;
    // (2^r - 1) / r for |r| <= 1/2, within 1e-8; (atanh(s)/s - 1) / s^2 in s^2 <= 1/9, within 1e-9: Chebyshev interpolation.
    static constexpr float EXP2[] = {0.6931472f, 0.2402265f, 0.05550357f, 0.009618083f, 0.0013390863f, 0.00015453163f};
    static constexpr float ATANH[] = {0.33333334f, 0.19999853f, 0.14296179f, 0.108532876f, 0.11612165f};
    // Taylor series of sin(r)/r and cos(r) in r^2, for |r| <= pi/4.
    static constexpr float SINE[] = {1, -1.f / 6, 1.f / 120, -1.f / 5040, 1.f / 362880};
    static constexpr float COSINE[] = {1, -0.5f, 1.f / 24, -1.f / 720, 1.f / 40320, -1.f / 3628800};
    // ln 2 and pi/2 in parts: an integer times any but the last is exact, without a fused multiply-add too.
    static constexpr float LN2[] = {0.693359375f, -2.12194440e-4f};
    static constexpr float QUARTER[] = {1.5703125f, 4.837512969970703125e-4f, 7.54978995489188216e-8f};
};
template <> struct Constants<double> {
    typedef int64_t Bits __attribute__((vector_size(LONGWAVE_VECTOR_BYTES)));
    static constexpr int MANTISSA = 52;
    static constexpr double ROUND = 6755399441055744, LOWEST = -1022, HIGHEST = 1023.5;
    // As above, within 2e-17 and 7e-18.
    static constexpr double EXP2[] = {0.6931471805599453,     0.24022650695910097,    0.0555041086648216,
                                      0.009618129107606888,   0.0013333558146416936,  0.0001540353044173605,
                                      1.525273382983612e-05,  1.321544258792169e-06,  1.0178062445845774e-07,
                                      7.072585949269223e-09,  4.4549605981865186e-10};
    static constexpr double ATANH[] = {0.3333333333333333,  0.20000000000007292, 0.1428571428355438,  0.11111111358713932,
                                       0.09090894718066429, 0.07692785032479312, 0.06657072104827468, 0.06000536404795356,
                                       0.04400369243072337, 0.08082022805971766};
    static constexpr double SINE[] = {1,        -1. / 6,         1. / 120,          -1. / 5040,
                                      1. / 362880, -1. / 39916800, 1. / 6227020800., -1. / 1307674368000.};
    static constexpr double COSINE[] = {1,           -0.5,             1. / 24,          -1. / 720,
                                        1. / 40320,  -1. / 3628800,    1. / 479001600.,  -1. / 87178291200.,
                                        1. / 20922789888000.};
    static constexpr double LN2[] = {6.93145751953125e-1, 1.42860682030941723212e-6};
    static constexpr double QUARTER[] = {1.5707962512969970703125, 7.54978941586159635336e-8, 5.39030285815811905290e-15};
};

template <class T> constexpr T LOG2_E = T(1.44269504088896340736);
template <class T> constexpr T LN_2 = T(0.69314718055994530942);

template <class Real, size_t N> inline Vector<Real> polynomial(const Real (&c)[N], Vector<Real> x) {
    Vector<Real> p = x * c[N - 1] + c[N - 2];
#pragma GCC unroll 16
    for (int i = int(N) - 3; i >= 0; --i) p = p * x + c[i];
    return p;
}

template <class Real> struct Rounded {
    using K = Constants<Real>;
    Vector<Real> sum, whole;  // the integer stands in the lowest bits of `sum`
    explicit Rounded(Vector<Real> x) : sum(x + K::ROUND), whole(sum - K::ROUND) {}
    typename K::Bits bits() const { return typename K::Bits(sum); }
    // 2^whole times a number near 1, for whole numbers that are exponents of normal numbers.
    Vector<Real> scale(Vector<Real> p) const { return Vector<Real>(typename K::Bits(p) + (bits() << K::MANTISSA)); }
};

// 2^x where LOWEST <= x <= HIGHEST.
template <class Real> inline Vector<Real> exp2_tame(Vector<Real> x) {
    const Rounded<Real> k(x);
    const Vector<Real> r = x - k.whole;
    return k.scale(r * polynomial(Constants<Real>::EXP2, r) + Real(1));
}

// 2^x for every x: 0 below the normal numbers, infinity above them, and nothing but NaN for NaN.
template <class Real> inline Vector<Real> exp2(Vector<Real> x) {
    using K = Constants<Real>;
    const Vector<Real> lowest = Vector<Real>{} + K::LOWEST, highest = Vector<Real>{} + K::HIGHEST;
    const Vector<Real> low = x < lowest ? lowest : x, inside = low > highest ? highest : low;
    const Vector<Real> infinity = Vector<Real>{} + std::numeric_limits<Real>::infinity();
    const Vector<Real> above = x > highest ? infinity : exp2_tame<Real>(inside);
    const Vector<Real> number = x < lowest ? Vector<Real>{} : above;
    return x == x ? number : x;
}

// e^x for every x, with the limits of 2^x.
template <class Real> inline Vector<Real> exponential(Vector<Real> x) {
    using K = Constants<Real>;
    const Vector<Real> lowest = Vector<Real>{} + K::LOWEST * LN_2<Real>, highest = Vector<Real>{} + K::HIGHEST * LN_2<Real>;
    const Vector<Real> low = x < lowest ? lowest : x, y = low > highest ? highest : low;
    const Vector<Real> infinity = Vector<Real>{} + std::numeric_limits<Real>::infinity();
    const Rounded<Real> k(y * LOG2_E<Real>);
    const Vector<Real> r = ((y - k.whole * K::LN2[0]) - k.whole * K::LN2[1]) * LOG2_E<Real>;
    const Vector<Real> above = x > highest ? infinity : k.scale(r * polynomial(K::EXP2, r) + Real(1));
    const Vector<Real> number = x < lowest ? Vector<Real>{} : above;
    return x == x ? number : x;
}

// e^-|x|, 0 below the normal numbers.
template <class Real> inline Vector<Real> exp_minus_abs(Vector<Real> x) {
    using K = Constants<Real>;
    const Vector<Real> lowest = Vector<Real>{} + K::LOWEST * LN_2<Real>, minus = x < Vector<Real>{} ? x : -x;
    const Vector<Real> y = minus < lowest ? lowest : minus;
    const Rounded<Real> k(y * LOG2_E<Real>);
    const Vector<Real> r = ((y - k.whole * K::LN2[0]) - k.whole * K::LN2[1]) * LOG2_E<Real>;
    return minus < lowest ? Vector<Real>{} : k.scale(r * polynomial(K::EXP2, r) + Real(1));
}

// x / (1 + e^-x) and its derivative s (1 + x (1 - s)), s = 1 / (1 + e^-x); 1 - s is no difference, which would cancel.
template <class Real> struct Silu {
    Vector<Real> value, slope;
    explicit Silu(Vector<Real> x) {
        const Vector<Real> zero = {}, one = zero + Real(1), e = exp_minus_abs<Real>(x), sum = one + e;
        const Vector<Real> s = (x < zero ? e : one) / sum, rest = (x < zero ? one : e) / sum;
        value = x * s;
        slope = s * (x * rest + one);
    }
};

// log(1 + e^x) and its derivative; x and 1 from 20 on, as torch has it. With s = e / (2 + e), log(1 + e) = 2 atanh(s), and
// 2 s = e - s e: written so, what is rounded in s counts the less the smaller e is.
template <class Real> struct Softplus {
    Vector<Real> value, slope;
    explicit Softplus(Vector<Real> x) {
        const Vector<Real> zero = {}, one = zero + Real(1), linear = zero + Real(20);
        const Vector<Real> e = exp_minus_abs<Real>(x), s = e / (e + Real(2)), s2 = s * s;
        const Vector<Real> log = e - s * (e - (s2 + s2) * polynomial(Constants<Real>::ATANH, s2));
        const Vector<Real> positive = x < zero ? zero : x;  // a NaN stays one
        value = x > linear ? x : positive + log;
        slope = x > linear ? one : (x < zero ? e : one) / (one + e);
    }
};

// Of an angle of up to some thousand radians.
template <class Real> struct SineCosine {
    Vector<Real> sine, cosine;
    explicit SineCosine(Vector<Real> x) {
        using K = Constants<Real>;
        const Rounded<Real> k(x * Real(0.63661977236758134308));
        const Vector<Real> r = ((x - k.whole * K::QUARTER[0]) - k.whole * K::QUARTER[1]) - k.whole * K::QUARTER[2];
        const Vector<Real> r2 = r * r, s = r * polynomial(K::SINE, r2), c = polynomial(K::COSINE, r2);
        const auto quarter = k.bits();  // turns by a right angle
        const auto odd = (quarter & 1) != 0;
        const Vector<Real> sine_ = odd ? c : s, cosine_ = odd ? s : c;
        sine = (quarter & 2) != 0 ? -sine_ : sine_;
        cosine = ((quarter + 1) & 2) != 0 ? -cosine_ : cosine_;
    }
};

}  // namespace longwave::LONGWAVE_ISA
