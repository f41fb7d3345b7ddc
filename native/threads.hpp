// The calling thread's number inside a parallel region, with or without OpenMP.
#pragma once
#ifdef _OPENMP
#include <omp.h>
#endif

namespace longwave::LONGWAVE_ISA {

inline int thread_number() {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

}  // namespace longwave::LONGWAVE_ISA
