// What the dispatcher reads of its workers: slots, ranges, outcomes, chains of blocks, lanes, requests of
// nested tasks. An input is a list of steps: of the application, of workers that behave, of workers that
// write where they like, of the supervisor. However they follow each other, every item gets one outcome,
// every byte of a result can be read, and the pool comes to its end.
#include <algorithm>
#include <map>

#include "checkup.hpp"
#include "patch.hpp"
#include "rig.hpp"

using aiomq_fuzz::Input;
using aiomq_fuzz::kRigArenaBytes;
using aiomq_fuzz::kRigQueues;
using aiomq_fuzz::kRigWorkers;
using aiomq_fuzz::Part;
using aiomq_fuzz::require;

namespace {

constexpr std::uint32_t kCapacity = 12;
constexpr std::size_t kMostSteps = 200;
constexpr std::uint64_t kBlocks = 64;  // of each arena that behaving workers use

class Session {
  public:
    Session(const std::uint8_t *data, std::size_t size)
        : input_(data, size), rig_(kCapacity), checkup_(rig_.pool()) {
        for (const char *name : {"a", "module:function"})
            require(pool().function(name, function_) == 0, "a function has a number");
    }

    void run() {
        for (std::size_t steps = 0; steps < kMostSteps && !input_.empty(); ++steps) step();
        end();
    }

  private:
    aiomq::Pool &pool() { return rig_.pool(); }
    aiomq::Segment &segment() { return rig_.segment(); }
    std::uint32_t some_worker() { return static_cast<std::uint32_t>(input_.below(kRigWorkers)); }
    /// One with a task in it, mostly: in the others there is little to read.
    std::uint32_t some_slot() {
        const auto first = static_cast<std::uint32_t>(input_.below(pool().slot_count()));
        for (std::uint32_t slot = first; slot < pool().slot_count(); ++slot)
            if (pool().task(slot).in_use) return slot;
        return first;
    }
    std::uint64_t some_block(std::uint32_t worker) {
        return segment().result_arena_offset(worker) +
               input_.below(kBlocks) * aiomq::kBlockAlign * 4;
    }

    void step() {
        switch (input_.below(16)) {
            case 0:
            case 1:
                return submit();
            case 2:
            case 3:
                return claim();
            case 4:
                return finish_one();
            case 5:
                return work_on_many();
            case 6:
                return scribble();
            case 7:
                return change_field();
            case 8:
                return collect(1 + input_.below(4));
            case 9:
                return supervise();
            case 10:
                return die();
            case 11:
                return ask_for_nested();
            case 12:
                return say_anything();
            case 13:
                return cancel();
            case 14:
                (void)pool().dispatch();
                return release(input_.below(4));
            default:
                return look();
        }
    }

    // --- the application --------------------------------------------------------------------------

    void submit() {
        const std::string payload = input_.bytes(input_.below(128));
        aiomq_task task{};
        task.struct_bytes = sizeof task;
        task.function = function_;
        task.kind =
            payload.empty() ? std::uint16_t{AIOMQ_KIND_NONE} : std::uint16_t{AIOMQ_KIND_BYTES};
        task.payload = payload.empty() ? nullptr : payload.data();
        task.payload_bytes = payload.size();
        const std::uint8_t options = input_.take<std::uint8_t>();
        task.items = (options & 1) != 0 ? 2 + static_cast<std::uint32_t>(input_.below(30)) : 1;
        if ((options & 2) != 0) task.flags |= AIOMQ_TASK_PROGRESS;
        if ((options & 4) != 0) {
            task.flags |= AIOMQ_TASK_KEYED;
            task.key = input_.take<std::uint8_t>();
        }
        if ((options & 8) != 0) task.retries = 1 + static_cast<std::uint32_t>(input_.below(4));
        if ((options & 16) != 0) task.start_within_ns = 1 + input_.below(2) * 3'600'000'000'000;
        if ((options & 32) != 0) task.timeout_ns = 1;
        task.queue = options >> 6 & 1;
        std::uint64_t id = 0;
        const std::int64_t done = pool().submit(&task, 1, &id);
        require(
            done == 1 || done == -EAGAIN || done == -ENOMEM || done == -EPIPE || done == -ESHUTDOWN,
            "a task is taken or refused");
        if (done == 1) due_[id] = std::vector<bool>(task.items);
    }

    void collect(std::size_t count) {
        aiomq_completion completions[4];
        const std::int64_t taken = pool().collect(completions, count);
        require(taken >= 0 && static_cast<std::size_t>(taken) <= count, "collect counts");
        for (std::int64_t i = 0; i < taken; ++i) take(completions[i]);
    }

    void take(const aiomq_completion &completion) {
        const auto task = due_.find(completion.task_id);
        require(task != due_.end(), "an outcome is of a task that was submitted");
        for (std::uint32_t i = 0; i < completion.item_count; ++i) {
            const aiomq_item &item = completion.items[i];
            require(item.index < task->second.size(), "an item is one of the task's");
            require(!task->second[item.index], "an item has one outcome");
            task->second[item.index] = true;
            require(item.status >= AIOMQ_OK && item.status <= AIOMQ_POOL_CLOSED &&
                        item.kind <= AIOMQ_KIND_ERROR,
                    "an outcome is one that there is");
            if (item.kind < AIOMQ_KIND_BYTES) continue;
            aiomq_fuzz::touch(item.value.data, item.bytes);
            std::vector<char> buffer(item.bytes + 64);
            aiomq_error error{};
            if (item.kind == AIOMQ_KIND_ERROR)
                (void)aiomq_error_decode(&item, buffer.data(), buffer.size(), &error);
        }
        if (completion.loan != 0) loans_.push_back(completion.loan);
    }

    void release(std::size_t count) {
        for (; count > 0 && !loans_.empty(); --count) {
            require(pool().release(loans_.back()) == 0, "a loan goes back");
            loans_.pop_back();
        }
    }

    void cancel() {
        const std::uint8_t which = input_.take<std::uint8_t>();
        if (which == 0) {
            (void)pool().close(input_.below(2) == 0 ? 0 : AIOMQ_CLOSE_DISCARD);
        } else if (!due_.empty()) {
            const auto task = std::next(due_.begin(), which % static_cast<int>(due_.size()));
            (void)pool().cancel(task->first);
        }
    }

    // --- workers that behave ----------------------------------------------------------------------

    void claim() {
        const std::uint32_t first = some_worker();
        for (std::uint32_t turn = 0; turn < kRigWorkers; ++turn)  // a keyed one is for one of them
            for (std::uint32_t slot = 0; slot < pool().slot_count(); ++slot)
                if (rig_.claim(slot, (first + turn) % kRigWorkers)) return;
    }

    void finish_one() {
        const std::uint32_t worker = some_worker();
        const std::uint32_t slot = some_slot();
        aiomq::Slot &line = segment().slot(slot);
        const aiomq::SlotWord word(line.word.load_relaxed());
        const std::uint8_t how = input_.take<std::uint8_t>();
        aiomq::start_only_item(line, 1 + (how & 1));
        segment().area(worker).current.store_relaxed((std::uint64_t{slot} + 1) << 32);
        if ((how & 2) != 0) return;  // it runs
        line.status = AIOMQ_OK + how % 3;
        line.kind = static_cast<std::uint16_t>(input_.below(AIOMQ_KIND_ERROR + 1));
        line.value.store_relaxed(input_.below(100));
        if ((how & 4) != 0) line.block_offset.store_relaxed(some_block(worker));
        line.retained = (how & 8) != 0;
        (void)aiomq::finish(line, word);
        if ((how & 16) == 0) rig_.post(worker, aiomq::Notice::kDone, slot);
        if ((how & 8) != 0 && (how & 32) != 0)
            rig_.post(worker, aiomq::Notice::kReturn,
                      segment().request(slot).payload_offset / aiomq::kBlockAlign);
    }

    void work_on_many() {
        const std::uint32_t worker = some_worker();
        const std::uint32_t slot = some_slot();
        const aiomq::Request &request = segment().request(slot);
        aiomq::Slot &line = segment().slot(slot);
        const aiomq::SlotWord word(line.word.load_relaxed());
        const std::uint64_t block = some_block(worker);
        const std::uint8_t how = input_.take<std::uint8_t>();
        auto *outcomes = segment().at<aiomq::OutcomeBlock>(block);
        const std::uint64_t data = (how & 1) != 0 ? some_block(worker) : 0;
        outcomes->data_offset.store_relaxed(data);
        if (data != 0)
            *segment().at<aiomq::DataBlock>(data) = {(how & 2) != 0 ? some_block(worker) : 0,
                                                     16 + input_.below(256)};
        line.block_offset.store_relaxed(block);
        auto *outcome = reinterpret_cast<aiomq::ItemOutcome *>(outcomes + 1);  // NOLINT
        const std::uint32_t count = (how & 4) != 0 ? request.items : some_slot();
        for (std::uint32_t item = request.item_base; item < count; ++item, ++outcome) {
            std::uint32_t started = 0;
            if (item >= segment().layout().slots + 30 || !aiomq::start_item(line, started)) break;
            const auto status = static_cast<std::uint16_t>(input_.below(4));
            const auto kind = static_cast<std::uint16_t>(input_.below(AIOMQ_KIND_ERROR + 1));
            outcome->value.store_relaxed(kind < AIOMQ_KIND_BYTES ? 7 : data + 16);
            outcome->head.store_release(
                aiomq::OutcomeHead{status, kind, status == 0 ? 1U : 8U}.pack());
        }
        if ((how & 8) != 0) (void)aiomq::finish(line, word);
        if ((how & 16) == 0)
            rig_.post(worker, (how & 8) != 0 ? aiomq::Notice::kDone : aiomq::Notice::kProgress,
                      slot);
    }

    void ask_for_nested() {
        const std::uint32_t worker = some_worker();
        const std::uint64_t block = some_block(worker);
        const std::uint32_t parent = some_slot();
        const std::uint8_t how = input_.take<std::uint8_t>();
        aiomq::NestedRequest request{};
        request.ticket = input_.below(8);
        request.payload_bytes = input_.below(100);
        request.flags = (how & 1) != 0 ? AIOMQ_TASK_PROGRESS : 0;
        if ((how & 2) != 0) request.flags |= AIOMQ_TASK_KEYED;
        request.items = (how & 4) != 0 ? 1 : 1 + static_cast<std::uint32_t>(input_.below(16));
        request.retries = (how & 8) != 0 ? 1 : 0;
        request.name_bytes = 8;
        request.parent_slot = parent;
        request.parent_generation =
            aiomq::SlotWord(segment().slot(parent).word.load_relaxed()).generation();
        request.kind = request.payload_bytes == 0 ? 0 : AIOMQ_KIND_BYTES;
        request.queue = how >> 4 & 1;
        std::memcpy(segment().at<void>(block), &request, sizeof request);
        std::memcpy(segment().at<char>(block + sizeof request), "function", 8);
        rig_.post(worker, aiomq::Notice::kSubmit, block / aiomq::kBlockAlign);
    }

    // --- workers that do not ----------------------------------------------------------------------

    void scribble() {
        const aiomq::Layout &layout = segment().layout();
        const std::uint32_t worker = some_worker();
        const std::uint32_t slot = some_slot();
        const std::uint64_t area =
            layout.workers_offset + std::uint64_t{layout.worker_area_bytes} * worker;
        const std::uint64_t arena = segment().result_arena_offset(worker);
        const std::vector<Part> parts{
            {layout.slots_offset + slot * sizeof(aiomq::Slot), 32},
            {layout.slots_offset, layout.slots * sizeof(aiomq::Slot)},
            {layout.heads_offset, kRigQueues * sizeof(aiomq::QueueHead)},
            {layout.flags_offset, sizeof(aiomq::SleepFlags)},
            {area, 256},
            {area + sizeof(aiomq::WorkerArea), layout.outbox_cells * 8ULL},
            {arena, kBlocks * aiomq::kBlockAlign * 4},
            {arena, 256},
        };
        const aiomq::SlotWord word(segment().slot(slot).word.load_relaxed());
        aiomq_fuzz::patch(input_, rig_.memory(), parts,
                          {arena, layout.result_arenas_offset, layout.request_arena_offset,
                           word.bits(), word.bits() ^ 1ULL << 61, segment().size()});
    }

    /// One field of a slot's word, or of its range.
    void change_field() {
        struct Field {
            unsigned shift;
            unsigned bits;
        };
        constexpr Field kFields[] = {{61, 3}, {53, 8}, {43, 10}, {32, 11}, {0, 32}};
        const std::uint32_t slot = some_slot();
        aiomq::Slot &line = segment().slot(slot);
        const std::uint64_t which = input_.below(7);
        auto &word = which < 5 ? line.word : line.range;
        const Field field = which < 5 ? kFields[which] : Field{which == 5 ? 32U : 0U, 32};
        const std::uint64_t mask = ((1ULL << field.bits) - 1) << field.shift;
        const std::uint64_t value = std::uint64_t{input_.take<std::uint8_t>()} << field.shift;
        word.store_release((word.load_relaxed() & ~mask) | (value & mask));
    }

    void say_anything() {
        const std::uint32_t worker = some_worker();
        const auto notice = static_cast<aiomq::Notice>(input_.below(13));
        const std::uint64_t value = aiomq_fuzz::some_number(
            input_, {segment().result_arena_offset(worker) / aiomq::kBlockAlign,
                     segment().layout().request_arena_offset / aiomq::kBlockAlign});
        rig_.post(worker, notice, value);
    }

    // --- the supervisor ---------------------------------------------------------------------------

    void supervise() {
        const aiomq::Pool::Lock lock(pool());
        if (segment().flags().corrupt.load_relaxed() != 0) pool().locked_corrupt("it is said");
        if (!pool().locked_terminating()) pool().locked_drain_lanes();
        pool().locked_split();
        (void)pool().locked_wake_sleepers_with_hints();
    }

    void look() {
        const aiomq::Pool::Lock lock(pool());
        if (pool().locked_terminating()) return;
        switch (input_.below(4)) {
            case 0:
                if (!pool().locked_look_at_limits().empty()) (void)pool().locked_culprit(0);
                return;
            case 1:
                return pool().locked_avoid(some_worker(), input_.below(2) == 0);
            default:
                (void)checkup_.locked_look();
        }
    }

    void die() {
        const std::uint32_t worker = some_worker();
        if (!pool().seat(worker).alive) return;
        rig_.bury(worker, input_.below(4) == 0 ? 0 : 9);
        if (!broken()) rig_.spawn(worker);
    }

    bool broken() {
        const aiomq::Pool::Lock lock(pool());
        return pool().locked_state() == AIOMQ_POOL_BROKEN;
    }

    /// All workers die; what is left gets the same outcome.
    void end() {
        for (std::uint32_t worker = 0; worker < kRigWorkers; ++worker) rig_.bury(worker, 9);
        {
            const aiomq::Pool::Lock lock(pool());
            aiomq::ErrorText error;
            error.type = "aiomq.PoolClosed";
            const bool damaged = pool().locked_state() == AIOMQ_POOL_BROKEN;
            pool().locked_terminate();
            aiomq::locked_fail_all(pool(), damaged ? AIOMQ_POOL_CORRUPT : AIOMQ_POOL_CLOSED, error);
            require(pool().locked_in_use() == 0, "no slot is left in use");
            pool().locked_set_state(AIOMQ_POOL_ENDED);
        }
        std::size_t left = 0;
        for (const auto &[id, items] : due_) left += items.size();
        for (std::size_t i = 0; i <= left; ++i) collect(4);
        for (const auto &[id, items] : due_)
            require(std::all_of(items.begin(), items.end(), [](bool seen) { return seen; }),
                    "every item has an outcome");
        release(loans_.size());
    }

    Input input_;
    aiomq_fuzz::Rig rig_;
    aiomq::Checkup checkup_;
    std::uint32_t function_ = 0;
    std::map<std::uint64_t, std::vector<bool>> due_;  ///< by task; the items that have an outcome
    std::vector<std::uint64_t> loans_;
};

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    Session(data, size).run();
    return 0;
}
