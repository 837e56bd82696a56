// Reduction: a map whose results are folded where they arise; only partial results travel.
//
// The function "F:reduce:G" of a worker takes a list, and gives how many nanoseconds it took and the
// results of F folded by G. Neighbours are merged as they come, in a binary tree over the chunks.
#pragma once

#include <aiomq/cpp/map.hpp>

namespace aiomq {

namespace detail {

template <class T, class Fn, class Reduce>
class Reduction {
  public:
    using Partial = std::tuple<std::int64_t, T>;

    Reduction(std::shared_ptr<Core> core, Fn fn, Reduce reduce, MapOptions options,
              CallOptions call_options, std::size_t workers)
        : core_(std::move(core)),
          fn_(std::move(fn)),
          reduce_(std::move(reduce)),
          options_(options),
          call_options_(std::move(call_options)),
          workers_(workers) {}

    template <class Source>
    T run(Source source, std::optional<T> initial) {
        std::size_t size = options_.chunksize != 0 ? options_.chunksize : 1;
        const std::string name = name_of(fn_) + ":reduce:" + name_of(reduce_);
        struct UnderWay : std::deque<std::pair<Future<Partial>, std::size_t>> {
            ~UnderWay() {  // after an error
                for (auto &[future, items] : *this) future.cancel();
            }
        } under_way;
        std::size_t place = 0;
        std::size_t done = 0;
        std::vector<typename Source::Element> elements;
        auto position = source.begin();
        const auto end = source.end();
        while (position != end || !under_way.empty()) {
            while (position != end && under_way.size() < kTasksPerWorker * workers_) {
                elements.clear();
                for (; elements.size() < size && position != end; ++position)
                    elements.push_back(*position);
                under_way.emplace_back(send(name, elements), elements.size());
                ++place;
            }
            auto [future, items] = std::move(under_way.front());
            under_way.pop_front();
            auto [nanoseconds, partial] = future.get();
            if (options_.chunksize == 0) size = next_size(size, items, nanoseconds);
            merge(0, done++, std::move(partial));
        }
        return root(std::move(initial));
    }

  private:
    static constexpr std::size_t kTasksPerWorker = 4;
    static constexpr std::int64_t kTargetNs = 2'000'000;
    static constexpr std::size_t kMost = 65536;

    template <class Element>
    Future<Partial> send(const std::string &name, const std::vector<Element> &elements) {
        return submit_call<Partial>(core_, call_options_, name, [&](Writer &writer) {
            writer.begin(AIOMQ_TYPE_LIST);
            for (const Element &element : elements) write_call(writer, fn_, element);
            writer.end();
        });
    }
    static std::size_t next_size(std::size_t size, std::size_t items, std::int64_t nanoseconds) {
        const auto wanted = static_cast<std::size_t>(kTargetNs * static_cast<std::int64_t>(items) /
                                                     std::max<std::int64_t>(nanoseconds, 1));
        return std::clamp<std::size_t>(wanted, 1, std::min(8 * size, kMost));
    }
    T joined(T left, T right) {
        if constexpr (Named<Reduce>) {
            static_assert(Reduce::arity == 2, "what folds takes two arguments");
            if constexpr (!Reduce::is_task) return reduce_(std::move(left), std::move(right));
        }
        return submit_call<T>(core_, call_options_, name_of(reduce_),
                              [&](Writer &writer) {
                                  write(writer, left);
                                  write(writer, right);
                              })
            .get();
    }
    /// Puts a value at its place; while its neighbour is there, the two make one, a level up.
    void merge(std::size_t level, std::size_t place, T value) {
        for (auto found = nodes_.find({level, place ^ 1}); found != nodes_.end();
             found = nodes_.find({level, place ^ 1})) {
            T neighbour = std::move(found->second);
            nodes_.erase(found);
            value = (place & 1) != 0 ? joined(std::move(neighbour), std::move(value))
                                     : joined(std::move(value), std::move(neighbour));
            ++level;
            place >>= 1;
        }
        nodes_.emplace(std::pair(level, place), std::move(value));
    }
    /// What is left are subtrees without a neighbour, the larger the further left.
    T root(std::optional<T> initial) {
        std::optional<T> result;
        for (auto &[key, value] : nodes_)
            result = result ? joined(std::move(value), std::move(*result)) : std::move(value);
        if (!result && !initial)
            throw std::invalid_argument("map_reduce of an empty range without an initial value");
        if (!initial) return std::move(*result);
        return result ? joined(std::move(*initial), std::move(*result)) : std::move(*initial);
    }

    std::shared_ptr<Core> core_;
    Fn fn_;
    Reduce reduce_;
    MapOptions options_;
    CallOptions call_options_;
    std::size_t workers_;
    std::map<std::pair<std::size_t, std::size_t>, T> nodes_;
};

}  // namespace detail
}  // namespace aiomq
