// aiomq.hpp - libaiomq for C++20, header only, over the C ABI of aiomq.h.
//
// It needs the standard library and libaiomq.so alone, and there is no C++ ABI to break: what crosses the
// library's border is C. See the manual aiomq_hpp(7).
//
//     constexpr auto add = aiomq::function<"add", [](int a, int b) { return a + b; }>;
//
//     int main() {
//         aiomq::run_if_worker(add);
//         aiomq::Pool pool;
//         std::cout << pool.apply(add, 1, 2) << '\n';
//     }
//
// Caveats, first:
//  - A pool starts processes that run the program it is given, by default this one again: run_if_worker()
//    comes first in main().
//  - What crosses processes is values: a function's parameters and result have a Codec.
//  - A Task runs on one thread. Pool and Future may be used by any thread, one at a time each Future.
//  - Errors are exceptions, aiomq::Error; Future::result() gives them as values.
#pragma once

#include <aiomq/cpp/plugin.hpp>
#include <aiomq/cpp/pool.hpp>
#include <aiomq/cpp/worker.hpp>
