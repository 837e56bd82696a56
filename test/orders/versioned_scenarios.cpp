// Values that are overwritten while others copy them.
#include <array>

#include "../../lib/core/versioned.hpp"
#include "scenario.hpp"

namespace weak {
namespace {

/// What is read is what was written with that very sequence.
class Overwritten : public Scenario {
  public:
    void *shared() override { return &memory_; }
    std::size_t shared_bytes() const override { return sizeof memory_; }
    std::vector<std::function<void()>> threads() override {
        return {[this] {
                    for (std::uint64_t sequence = 1; sequence <= kWrites; ++sequence)
                        memory_.write(sequence, value_of(sequence));
                },
                [this] {
                    for (std::uint64_t sequence = 1; sequence <= kWrites; ++sequence)
                        for (int look = 0; look < kLooks; ++look) read(sequence);
                }};
    }
    std::string verdict() override { return {}; }

  private:
    using Value = std::array<std::uint64_t, 3>;
    static constexpr std::uint64_t kWrites = 3;
    static constexpr int kLooks = 3;

    static Value value_of(std::uint64_t sequence) {
        return {sequence * 10, sequence * 10 + 1, sequence * 10 + 2};
    }
    void read(std::uint64_t sequence) {
        Value value{};
        if (memory_.read(sequence, value))
            expect(value == value_of(sequence), "a value of which another was a part");
    }

    aiomq::Versioned<Value> memory_;
};

}  // namespace

std::vector<Kind> versioned_scenarios() { return {{"overwritten values", make<Overwritten>}}; }

}  // namespace weak
