// Map: one function over a range: pulled lazily, in chunks, with a bounded window.
//
// An input range of results. What is pulled from the source is at most `buffersize` items ahead of what
// was taken. A Map that goes before its end cancels what is under way.
#pragma once

#include <aiomq/cpp/function.hpp>
#include <aiomq/cpp/future.hpp>
#include <iterator>

namespace aiomq {

struct MapOptions {
    std::size_t chunksize = 0;  ///< items in one task; 0: follows how long they take
    std::size_t buffersize =
        0;  ///< items under way or not taken yet; 0: enough to keep all workers busy
};

namespace detail {

/// A range: one that is given as an lvalue is referred to, others, views too, are kept.
template <class Range>
class Source {
  public:
    using Held = std::remove_reference_t<Range>;
    explicit Source(Range &&range) : held_(hold(range)) {}

    auto begin() { return std::begin(range()); }
    auto end() { return std::end(range()); }
    static constexpr bool is_sized = requires(Held & held) { std::size(held); };
    std::size_t size() { return static_cast<std::size_t>(std::size(range())); }
    using Iterator = decltype(std::begin(std::declval<Held &>()));
    using Element = std::remove_cvref_t<decltype(*std::declval<Iterator &>())>;

  private:
    static constexpr bool is_kept = !std::is_lvalue_reference_v<Range>;
    using Kept = std::conditional_t<is_kept, Held, Held *>;
    static Kept hold(Held &range) {
        if constexpr (is_kept)
            return std::move(range);
        else
            return &range;
    }
    Held &range() {
        if constexpr (is_kept)
            return held_;
        else
            return *held_;
    }
    Kept held_;
};

template <class T>
concept RangeLike = requires(T &range) {
    *std::begin(range);
    ++std::declval<decltype(std::begin(range)) &>();
    std::begin(range) != std::end(range);
};

/// How many items a task has: about 2 ms of them, as far as round trips tell. Items that wait for I/O
/// take as long one by one as together, so size grows only while chunks come back soon.
class Pace {
  public:
    using Clock = std::chrono::steady_clock;

    std::size_t size() const { return size_; }
    /// A task of @items has come back @took after it was sent, with @ahead others before it.
    void note(std::size_t items, Clock::duration took, std::size_t ahead) {
        const auto own = took / static_cast<int>(ahead + 1);
        if (items < size_ / 2) return;
        if (own < kTarget / 2)
            size_ = std::min(size_ * 2, kMost);
        else if (own > 2 * kTarget)
            size_ = std::max<std::size_t>(size_ / 2, 1);
    }

  private:
    static constexpr Clock::duration kTarget = std::chrono::milliseconds(2);
    static constexpr std::size_t kMost = 8192;
    std::size_t size_ = 1;
};

/// A tuple's elements are the arguments of a function with several; anything else is its only one.
template <class Fn, class Element>
void write_call(Writer &writer, const Fn &fn, const Element &element) {
    if constexpr (Named<Fn>) {
        if constexpr (Fn::arity == 1) {
            write_arguments(writer, fn, std::make_index_sequence<1>(), element);
        } else {
            std::apply(
                [&](const auto &...arguments) {
                    static_assert(
                        sizeof...(arguments) == Fn::arity,
                        "the range's tuples have another number of elements than the function "
                        "has parameters");
                    write_arguments(writer, fn, std::make_index_sequence<Fn::arity>(),
                                    arguments...);
                },
                element);
        }
    } else {
        write(writer, element);
    }
}

template <class Fn>
std::string name_of(const Fn &fn) {
    if constexpr (Named<Fn>)
        return std::string(Fn::name());
    else
        return fn;
}

/// What a Map and its tasks share, whatever the types.
class MapState {
  public:
    explicit MapState(std::shared_ptr<Core> core) : core(std::move(core)) {}
    std::shared_ptr<Core> core;
    Pace pace;
    std::size_t sent = 0;   ///< items
    std::size_t held = 0;   ///< of them, not taken yet
    std::size_t tasks = 0;  ///< under way
    Waiting *waiting = nullptr;
    Loop *loop = nullptr;
    bool gone = false;  ///< the Map is

    void tell() {
        if (waiting != nullptr) loop->make_ready(*std::exchange(waiting, nullptr));
    }
};

/// One chunk of a map: its results as they come.
template <class R>
class MapChunk final : public Call {
  public:
    using Stored = std::conditional_t<std::is_void_v<R>, std::monostate, R>;

    MapChunk(std::shared_ptr<MapState> map, const std::string &function, std::size_t first,
             std::size_t count)
        : function(function),
          first(first),
          results(count),
          map_(std::move(map)),
          ahead_(map_->tasks) {
        ++map_->tasks;
    }
    void arrive(const aiomq_completion &completion) override {
        for (std::uint32_t i = 0; i < completion.item_count; ++i) {
            const aiomq_item &item = completion.items[i];
            if (item.index >= results.size() || results[item.index]) continue;
            results[item.index].emplace(read(item));
            if (unordered != nullptr) unordered->push_back({this, item.index});
        }
        if (completion.loan != 0) map_->core->release(completion.loan);
        map_->tell();
        if (completion.items_left != 0) return;
        map_->pace.note(results.size(), Pace::Clock::now() - began_, ahead_);
        end();
    }
    void abandon() override {
        for (auto &result : results)
            if (!result)
                result.emplace(Error(AIOMQ_POOL_CLOSED, "aiomq.POOL_CLOSED", "task " + function));
        if (unordered != nullptr)
            for (std::uint32_t i = 0; i < results.size(); ++i) unordered->push_back({this, i});
        map_->tell();
        end();
    }

    struct Place {
        MapChunk *chunk;
        std::uint32_t index;
    };
    std::string function;
    std::size_t first;
    std::size_t taken = 0;
    std::vector<std::optional<Result<R>>> results;
    std::deque<Place> *unordered = nullptr;
    bool over = false;
    bool ends_itself = false;

  private:
    Result<R> read(const aiomq_item &item) const {
        if (item.status != AIOMQ_OK) return Error::of_item(item, function);
        try {
            if constexpr (std::is_void_v<R>)
                return {};
            else
                return decode_item<R>(item, function);
        } catch (Error &error) {
            return std::move(error);
        }
    }
    void end() {
        --map_->tasks;
        over = true;
        if (map_->gone || ends_itself) delete this;
    }

    std::shared_ptr<MapState> map_;
    std::size_t ahead_;
    Pace::Clock::time_point began_ = Pace::Clock::now();
};

}  // namespace detail

/// @Try: gives Result<R>, so that one item's error does not end the iteration. @Unordered: gives pairs of
/// index and result as they finish.
template <class R, class Fn, class Range, bool Unordered, bool Try>
class Map {
    using Chunk = detail::MapChunk<R>;
    using Source = detail::Source<Range>;
    using One = std::conditional_t<Try, Result<R>, typename Chunk::Stored>;

  public:
    using Item = std::conditional_t<Unordered, std::pair<std::size_t, One>, One>;

    Map(std::shared_ptr<detail::Core> core, Fn fn, Source source, MapOptions options,
        CallOptions call_options, std::size_t workers)
        : state_(std::make_shared<detail::MapState>(std::move(core))),
          fn_(std::move(fn)),
          name_(detail::name_of(fn_)),
          source_(std::move(source)),
          options_(options),
          call_options_(std::move(call_options)),
          workers_(workers) {}
    Map(Map &&) = default;
    Map &operator=(Map &&) = delete;
    ~Map() {
        if (state_ == nullptr) return;
        const auto lock = state_->core->lock();
        state_->gone = true;
        state_->waiting = nullptr;
        std::vector<Chunk *> left;
        for (auto &chunk : chunks_) {
            if (chunk->over) continue;
            chunk->unordered = nullptr;
            left.push_back(chunk.release());  // ends itself
        }
        for (Chunk *chunk : left) state_->core->cancel(*chunk);
    }

    /// The next result; nullopt at the end. Blocks. Throws what the item failed with.
    std::optional<Item> next() {
        if (has_own()) return take();
        feed();
        {
            auto lock = state_->core->lock();
            if (chunks_.empty()) return std::nullopt;
            if (!state_->core->wait(lock, [&] { return has_next(); }) && !has_next())
                throw Error::of_call(-ESHUTDOWN, "map of " + name_, "the pool was destroyed");
            take_over();
        }
        return take();
    }
    /// The same for coroutines on the pool's loop.
    Task<std::optional<Item>> async_next() {
        if (has_own()) co_return take();
        feed();
        for (;;) {
            {
                const auto lock = state_->core->lock();
                if (chunks_.empty()) co_return std::nullopt;
                if (has_next()) {
                    take_over();
                    break;
                }
            }
            // Of any chunk, which need not be the one whose turn it is.
            Arrival arrival(*this);
            co_await arrival;
        }
        co_return take();
    }
    /// All results that are left, in the order in which they come.
    std::vector<Item> to_vector() {
        std::vector<Item> all;
        while (auto item = next()) all.push_back(std::move(*item));
        return all;
    }

    class Iterator {
      public:
        using value_type = Item;
        using difference_type = std::ptrdiff_t;
        Iterator() = default;
        explicit Iterator(Map *map) : map_(map) { ++*this; }
        Item &operator*() const { return *map_->current_; }
        Iterator &operator++() {
            map_->current_ = map_->next();
            return *this;
        }
        void operator++(int) { ++*this; }
        bool operator==(std::default_sentinel_t) const { return !map_->current_; }

      private:
        Map *map_ = nullptr;
    };
    Iterator begin() { return Iterator(this); }
    std::default_sentinel_t end() const { return {}; }

  private:
    struct Arrival : detail::Waiting {
        explicit Arrival(Map &map) : map(map) {}
        bool await_ready() const { return map.chunks_.empty(); }
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> handle) {
            detail::MapState &state = *map.state_;
            const auto lock = state.core->lock();
            if (map.has_next()) return false;
            state.loop = state.core->loop();
            if (state.loop == nullptr || !state.loop->is_here())
                throw Error::of_call(-EPERM, "co_await of a map",
                                     "this thread does not run the pool's loop");
            if (this->enter(handle)) return false;
            state.waiting = this;
            return true;
        }
        void await_resume() const { this->leave(); }
        void on_cancel() override {
            {
                detail::MapState &state = *map.state_;
                const auto lock = state.core->lock();
                state.waiting = nullptr;
                state.loop->forget(*this);
            }
            Waiting::on_cancel();
        }
        Map &map;
    };

    /// Sends what the window has room for.
    void feed() {
        if (!begun_) {
            position_.emplace(source_.begin());
            begun_ = true;
        }
        while (*position_ != source_.end()) {
            const std::size_t size = next_size();
            if (state_->held != 0 && state_->held + size > window(size)) return;
            send(size);
        }
    }
    std::size_t next_size() {
        if (options_.chunksize != 0)
            return std::min<std::size_t>(options_.chunksize, AIOMQ_ITEMS_MAX);
        std::size_t size = state_->pace.size();
        if constexpr (Source::is_sized) {
            // No worker is left with a long tail.
            const std::size_t left = source_.size() - state_->sent;
            size = std::min(size, std::max<std::size_t>(left / (4 * workers_), 1));
        }
        if (options_.buffersize == 0) return size;
        // Several under way for each worker, so that none waits for us.
        return std::clamp<std::size_t>(options_.buffersize / (kTasksPerBuffer * workers_), 1, size);
    }
    std::size_t window(std::size_t size) const {
        if (options_.buffersize != 0) return options_.buffersize;
        return std::max(kLeastWindow, kTasksPerWorker * workers_ * size);
    }
    void send(std::size_t size) {
        elements_.clear();
        for (; elements_.size() < size && *position_ != source_.end(); ++*position_)
            elements_.push_back(**position_);
        detail::Core &core = *state_->core;
        auto lock = core.lock();
        auto chunk = std::make_unique<Chunk>(state_, name_, state_->sent, elements_.size());
        if constexpr (Unordered) chunk->unordered = ready_.get();
        Writer &writer = core.writer();
        writer.reset();
        try {
            for (std::size_t i = 0; i < elements_.size(); ++i) {
                if (i != 0) writer.next_call();
                detail::write_call(writer, fn_, elements_[i]);
            }
            core.submit(lock, *chunk, name_, call_options_, Unordered ? AIOMQ_TASK_PROGRESS : 0);
        } catch (...) {
            --state_->tasks;
            throw;
        }
        state_->sent += elements_.size();
        state_->held += elements_.size();
        chunks_.push_back(std::move(chunk));
    }
    bool has_next() const {
        if constexpr (Unordered) return !ready_->empty();
        return chunks_.empty() || chunks_.front()->results[chunks_.front()->taken].has_value();
    }
    /// Whether there is a result that only this thread knows of: no lock is needed for it.
    bool has_own() const {
        if constexpr (Unordered) return !own_.empty();
        return own_left_ > 0;
    }
    /// Makes what has come this thread's own. With the lock held, and has_next().
    void take_over() {
        if constexpr (Unordered) {
            own_.swap(*ready_);
        } else {
            const Chunk &chunk = *chunks_.front();
            std::size_t upto = chunk.taken;
            while (upto < chunk.results.size() && chunk.results[upto]) ++upto;
            own_left_ = upto - chunk.taken;
        }
    }
    Item take() {
        Chunk *chunk = nullptr;
        std::size_t index = 0;
        if constexpr (Unordered) {
            chunk = own_.front().chunk;
            index = own_.front().index;
            own_.pop_front();
        } else {
            chunk = chunks_.front().get();
            index = chunk->taken;
            --own_left_;
        }
        Result<R> result = std::move(*chunk->results[index]);
        const std::size_t place = chunk->first + index;
        --state_->held;
        if (++chunk->taken == chunk->results.size()) drop(chunk);
        if constexpr (Try) {
            if constexpr (Unordered)
                return {place, std::move(result)};
            else
                return result;
        } else {
            if (!result) throw result.error();
            if constexpr (Unordered)
                return {place, stored(std::move(result))};
            else
                return stored(std::move(result));
        }
    }
    /// All its results were taken; its task may end only now.
    void drop(Chunk *chunk) {
        const auto lock = state_->core->lock();
        const auto found =
            std::ranges::find(chunks_, chunk, [](const auto &entry) { return entry.get(); });
        if (!chunk->over) {
            chunk->unordered = nullptr;
            chunk->ends_itself = true;
            (void)found->release();
        }
        chunks_.erase(found);
    }
    static typename Chunk::Stored stored(Result<R> result) {
        if constexpr (std::is_void_v<R>)
            return {};
        else
            return std::move(result).value();
    }

    static constexpr std::size_t kLeastWindow = 64;
    static constexpr std::size_t kTasksPerWorker = 6;
    static constexpr std::size_t kTasksPerBuffer = 8;

    std::shared_ptr<detail::MapState> state_;
    Fn fn_;
    std::string name_;
    Source source_;
    MapOptions options_;
    CallOptions call_options_;
    std::size_t workers_;
    bool begun_ = false;
    std::optional<typename Source::Iterator> position_;
    std::vector<typename Source::Element> elements_;
    std::deque<std::unique_ptr<Chunk>> chunks_;
    /// With the lock. Where it is, chunks know, also when this is moved.
    std::unique_ptr<std::deque<typename Chunk::Place>> ready_ =
        std::make_unique<std::deque<typename Chunk::Place>>();
    std::deque<typename Chunk::Place> own_;  ///< taken over
    std::size_t own_left_ = 0;               ///< of the first chunk, likewise
    std::optional<Item> current_;
};

}  // namespace aiomq
