// What the program was asked to do, and where it writes its figures.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace chaos {

struct Options {
    std::uint64_t seed = 0;
    double seconds = 10;        ///< of chaos at least
    std::uint64_t kills = 0;    ///< at least; the run goes on until there were so many
    std::uint64_t rounds = 20;  ///< deaths of dispatchers
    double per_second = 25;     ///< blows
    double sample_seconds = 2;  ///< of the soak
    std::string python{};
    std::string folder{};  ///< of the Python files
    std::string json{};    ///< where the figures go; empty: nowhere
    std::string csv{};
};

/// Figures in the order in which they were found.
class Figures {
  public:
    void add(const std::string &name, double value);
    /// Writes a JSON object; false if it can't.
    bool write(const std::string &path) const;

  private:
    std::vector<std::pair<std::string, double>> values_;
};

/// Each runs its part and prints what it found. False: something that must not be was found.
bool run_mixed(const Options &options);
bool run_deaths(const Options &options);
bool run_soak(const Options &options);
/// A dispatcher under the mixed load, until it is killed.
[[noreturn]] void run_victim(const Options &options);

}  // namespace chaos
