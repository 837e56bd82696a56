// A plugin for test_native.py.
#include <aiomq/libevent.hpp>
#include <numeric>
#include <stdexcept>

namespace {

std::int64_t add(std::int64_t a, std::int64_t b) { return a + b; }
std::string shout(std::string_view text) { return std::string(text) + "!"; }
double total(std::span<const double> numbers) {
    return std::accumulate(numbers.begin(), numbers.end(), 0.0);
}
std::map<std::string, std::vector<std::int64_t>> divisors(
    const std::vector<std::int64_t> &numbers) {
    std::map<std::string, std::vector<std::int64_t>> all;
    for (const std::int64_t number : numbers)
        for (std::int64_t i = 1; i <= number; ++i)
            if (number % i == 0) all[std::to_string(number)].push_back(i);
    return all;
}
[[noreturn]] void fail(const std::string &text) { throw std::out_of_range(text); }
aiomq::Task<int> nap(int milliseconds) {
    co_await aiomq::sleep_for(std::chrono::milliseconds(milliseconds));
    co_return milliseconds;
}
std::int64_t die(std::int64_t) { _exit(7); }

}  // namespace

AIOMQ_PLUGIN(aiomq::function<"add", add>, aiomq::function<"shout", shout>,
             aiomq::function<"total", total>, aiomq::function<"divisors", divisors>,
             aiomq::function<"fail", fail>, aiomq::function<"nap", nap>,
             aiomq::function<"die", die>,
             aiomq::function<"text", [](std::int64_t number) { return std::to_string(number); }>,
             aiomq::function<"concat", [](std::string a, std::string b) { return a + b; }>)
