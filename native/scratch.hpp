// Memory of the calling thread, kept from call to call: fresh pages cost more than much of what is computed in them.
#pragma once
#include <cstdint>
#include <memory>

#include "lanes.hpp"

namespace longwave::LONGWAVE_ISA {

// Room for n vectors, with whatever the last call left in it. A kernel asks once, and its threads share what it gets.
template <class V> V* scratch(int64_t n) {
    thread_local std::unique_ptr<V[]> memory;
    thread_local int64_t size = 0;
    if (n > size) {
        memory.reset();
        memory.reset(new V[n]);
        size = n;
    }
    return memory.get();
}

}  // namespace longwave::LONGWAVE_ISA
