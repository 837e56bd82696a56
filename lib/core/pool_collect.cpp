// Pool: the way out. Completions, loans and releases.
//
// Everything read from a slot, an outcome or a block chain is checked before it is used: a worker may
// have scribbled on what it can write. What does not fit ends in locked_corrupt(), never in a wild read.
#include <algorithm>
#include <bit>
#include <cstring>

#include "pool.hpp"

namespace aiomq {
namespace {

bool is_data(std::uint16_t kind) { return kind >= AIOMQ_KIND_BYTES; }

/// Outcomes that a worker may publish.
bool is_worker_status(std::uint16_t status) {
    return status == AIOMQ_OK || status == AIOMQ_ERROR || status == AIOMQ_CANCELLED ||
           status == AIOMQ_EXPIRED || status == AIOMQ_TIMED_OUT;
}

/// From here on it is remembered which items of the task were delivered.
void note_deliveries(TaskRecord &task) {
    if (task.delivered == nullptr) task.delivered = std::make_unique<std::vector<bool>>(task.items);
}

/// An error for whose text the worker's arena had no room.
bool is_bare_error(const aiomq_item &item) {
    return item.status == AIOMQ_ERROR && item.kind == AIOMQ_KIND_NONE;
}

/// An error envelope in private memory that @loan keeps.
void give_error(aiomq_item &item, const ErrorText &error, Loan &loan) {
    const ErrorText text = bounded(error);
    const std::size_t bytes = error_bytes(text);
    loan.copies.emplace_back(new std::uint64_t[bytes / 8 + 1]);
    item.kind = AIOMQ_KIND_ERROR;
    item.bytes = build_error(text, loan.copies.back().get(), bytes);
    item.value.data = loan.copies.back().get();
}

void give_text(aiomq_item &item, Loan &loan) {
    ErrorText error;
    error.type = "aiomq.ResultTooLarge";
    error.message =
        "neither the result nor an error about it fits the worker's arena: make tasks smaller, "
        "raise arena_max_bytes, or free memory if the system refused it some";
    give_error(item, error, loan);
}

/// Records of loans are used again. What a larger completion needed is given back, or each record would in
/// time hold as much as the largest one.
constexpr std::size_t kKeptItems = 128;

template <typename T>
void empty(std::vector<T> &entries) {
    entries.clear();
    if (entries.capacity() > kKeptItems) entries.shrink_to_fit();
}

/// How many messages ahead the slots are fetched into the cache.
constexpr std::uint64_t kPrefetch = 4;

}  // namespace

std::int64_t Pool::collect(aiomq_completion *completions, std::size_t count) {
    const Lock lock(*this);
    std::size_t taken = 0;
    while (taken < count && !pending_.empty()) {
        completions[taken++] = pending_.front();
        pending_.pop_front();
    }
    const std::uint32_t workers = worker_count();
    // In a broken pool nothing of the workers counts any more: what is left ends with them.
    const std::uint32_t turns = state_ == AIOMQ_POOL_BROKEN ? 0 : workers;
    for (std::uint32_t turn = 0; turn < turns && taken < count; ++turn) {
        const std::uint32_t worker = next_worker_;
        LaneReader &lane = seats_[worker].outbox;
        std::uint64_t cell = 0;
        LaneStatus status = LaneStatus::kOk;
        while (taken < count && state_ != AIOMQ_POOL_BROKEN &&
               (status = lane.pop(cell)) == LaneStatus::kOk) {
            const auto next = static_cast<std::uint32_t>(lane.guess(kPrefetch));
            if (next < slot_count()) {
                __builtin_prefetch(&segment_->slot(next), 1);
                __builtin_prefetch(&tasks_[next], 1);
            }
            if (locked_take_message(worker, cell, completions[taken])) ++taken;
        }
        locked_lane_read(worker);
        if (status == LaneStatus::kCorrupt)
            locked_corrupt("the outbox of worker " + std::to_string(worker));
        if (status == LaneStatus::kEmpty) locked_rescan(worker);
        if (taken < count) next_worker_ = next_worker_ + 1 == workers ? 0 : next_worker_ + 1;
    }
    while (taken < count && !pending_.empty()) {  // what a rescan found
        completions[taken++] = pending_.front();
        pending_.pop_front();
    }
    for (std::size_t i = 0; i < taken; ++i) {
        aiomq_completion &completion = completions[i];
        if (completion.item_count != 1) continue;
        completion.items = &completion.item;
        if (completion.loan == 0 && is_data(completion.item.kind))
            completion.item.value.data = completion.bytes;
    }
    if (taken == 0) locked_watch_what_is_left();
    const bool moved = locked_end_nested();
    if (freed_ || moved || taken > 0) {  // a task may end without an outcome
        locked_room();
        locked_maybe_leave();
    }
    return static_cast<std::int64_t>(taken);
}

/// A completion hint did not fit the outbox: look at every slot of the worker instead.
void Pool::locked_rescan(std::uint32_t worker) {
    auto &rescan = segment_->area(worker).rescan;
    if (rescan.load_relaxed() == 0 || rescan.exchange_seq(0) == 0) return;
    aiomq_completion completion;
    for (std::uint32_t slot = 0; slot < slot_count(); ++slot) {
        const SlotWord word(segment_->slot(slot).word.load_acquire());
        if (word.worker() != worker || word.phase() < Phase::kClaimed) continue;
        const auto notice = word.phase() == Phase::kDone ? Notice::kDone : Notice::kProgress;
        if (locked_take_message(worker, Message{notice, slot}.pack(), completion))
            pending_.push_back(completion);
    }
}

/// Looks at what a hint names; true when that gave a completion.
bool Pool::locked_take_message(std::uint32_t worker, std::uint64_t cell, aiomq_completion &ret) {
    const Message message = Message::unpack(cell);
    if (message.notice > Notice::kProgress) {
        locked_take_nested(worker, message);
        return false;
    }
    if (message.value >= slot_count()) {
        locked_corrupt("a completion of worker " + std::to_string(worker));
        return false;
    }
    const auto slot = static_cast<std::uint32_t>(message.value);
    if (message.notice == Notice::kDone) return locked_take_done(slot, ret);
    const SlotWord word(segment_->slot(slot).word.load_acquire());
    if (word.phase() != Phase::kClaimed || word.worker() != worker || !tasks_[slot].in_use ||
        (tasks_[slot].flags & AIOMQ_TASK_PROGRESS) == 0)
        return false;
    return locked_take_many(slot, worker, Claimer::kWorking, ret) && !locked_answered(slot, ret);
}

bool Pool::locked_take_done(std::uint32_t slot, aiomq_completion &ret) {
    const SlotWord word(segment_->slot(slot).word.load_acquire());
    if (word.phase() != Phase::kDone || !tasks_[slot].in_use) return false;  // delivered before
    if (word.worker() >= worker_count()) {
        locked_corrupt("the word of slot " + std::to_string(slot));
        return false;
    }
    bool completed = false;
    if (tasks_[slot].items > 1)  // also when nothing is left to deliver: its blocks go back
        completed = locked_take_many(slot, word.worker(), Claimer::kDone, ret);
    else
        completed = locked_take_one(slot, word, ret);
    // Of a damaged chunk some items may be out: the rest is left to the end of the pool.
    const bool over = state_ != AIOMQ_POOL_BROKEN || tasks_[slot].left == 0;
    if (completed && locked_answered(slot, ret)) completed = false;
    if (segment_->slot(slot).retained != 0) locked_keep_payload(slot, word);
    if (over) locked_free_slot(slot);
    return completed;
}

void Pool::locked_begin_completion(std::uint32_t slot, std::uint32_t worker,
                                   aiomq_completion &ret) {
    const TaskRecord &task = tasks_[slot];
    ret.task_id = task.id;
    ret.user = task.user;
    ret.items = nullptr;
    ret.item_count = 0;
    ret.items_left = locked_items_left(task);
    ret.attempt = task.attempt;
    ret.worker = worker;
    ret.loan = 0;
}

bool Pool::locked_take_one(std::uint32_t slot, SlotWord word, aiomq_completion &ret) {
    const Slot &line = segment_->slot(slot);
    locked_begin_completion(slot, word.worker(), ret);
    aiomq_item &item = ret.item;
    item.index = 0;
    item.status = line.status;
    item.kind = line.kind;
    item.bytes = 0;
    item.value.integer = static_cast<std::int64_t>(line.value.load_relaxed());
    bool sound = is_worker_status(item.status) && item.kind <= AIOMQ_KIND_ERROR;
    if (sound && is_data(item.kind)) {
        const std::uint64_t bytes = line.value.load_relaxed();
        const std::uint64_t block = line.block_offset.load_relaxed();
        item.bytes = bytes;
        if (block == 0) {
            sound = bytes <= kInlineResultBytes;
            if (sound) std::memcpy(ret.bytes, line.inline_result, bytes);
        } else {
            sound = bytes > 0 && block % kBlockAlign == 0 &&
                    segment_->in_result_arena(word.worker(), block, bytes);
            if (sound) {
                Loan *loan = nullptr;
                ret.loan = locked_new_loan(loan);
                loan->blocks.push_back({word.worker(), block, bytes});
                item.value.data = segment_->at<void>(block);
            }
        }
    }
    if (!sound) {
        locked_corrupt("the result in slot " + std::to_string(slot));
        return false;
    }
    if (is_bare_error(item)) {
        Loan *loan = nullptr;
        ret.loan = locked_new_loan(loan);
        give_text(item, *loan);
    }
    tasks_[slot].left = 0;
    ret.item_count = 1;
    ret.items_left = 0;
    locked_count(item);
    return true;
}

/// Reads one item of many. False: it is damaged.
bool Pool::locked_read_outcome(std::uint32_t worker, const ItemOutcome &outcome,
                               aiomq_item &ret_item) {
    const OutcomeHead head = OutcomeHead::unpack(outcome.head.load_acquire());
    if (!is_worker_status(head.status) || head.kind > AIOMQ_KIND_ERROR) return false;
    ret_item.status = head.status;
    ret_item.kind = head.kind;
    ret_item.bytes = 0;
    if (!is_data(head.kind)) {
        ret_item.value.integer = static_cast<std::int64_t>(outcome.value.load_relaxed());
        return true;
    }
    const std::uint64_t offset = outcome.value.load_relaxed();
    ret_item.bytes = head.bytes;
    if (offset % 8 != 0 || !segment_->in_result_arena(worker, offset, head.bytes)) return false;
    ret_item.value.data = segment_->at<void>(offset);
    return true;
}

/// Adds a chunk's outcome block and its chain of data blocks to @loan. False: the chain is damaged.
bool Pool::locked_loan_chunk_blocks(std::uint32_t worker, std::uint64_t block, std::uint64_t bytes,
                                    Loan &loan) {
    loan.blocks.push_back({worker, block, bytes});
    std::uint64_t offset = segment_->at<OutcomeBlock>(block)->data_offset.load_acquire();
    // A chain can't have more blocks than the arena has room for. One that comes back to where it was has
    // no end, and would fill as much private memory as that first (R. P. Brent, "An improved Monte Carlo
    // factorization algorithm", BIT 20, 1980: compare with a place that is left behind less and less often).
    std::uint64_t left = segment_->layout().arena_bytes;
    std::uint64_t mark = offset;
    std::uint64_t steps = 0;
    while (offset != 0) {
        if (offset % kBlockAlign != 0 ||
            !segment_->in_result_arena(worker, offset, sizeof(DataBlock)))
            return false;
        const DataBlock data = *segment_->at<DataBlock>(offset);
        if (data.bytes < sizeof(DataBlock) || data.bytes > left ||
            !segment_->in_result_arena(worker, offset, data.bytes))
            return false;
        loan.blocks.push_back({worker, offset, data.bytes});
        left -= std::min(left, std::max(data.bytes, kBlockAlign));
        offset = data.next_offset;
        if (offset == mark) return false;
        if (std::has_single_bit(++steps)) mark = offset;
    }
    return true;
}

/// Takes the items of a slot that are published and not delivered yet. While the claimer still works
/// on it their data is copied; after that the slot's blocks go on loan.
bool Pool::locked_take_many(std::uint32_t slot, std::uint32_t worker, Claimer claimer,
                            aiomq_completion &ret) {
    const bool finished = claimer != Claimer::kWorking;
    TaskRecord &task = tasks_[slot];
    const std::uint64_t offset = segment_->slot(slot).block_offset.load_acquire();
    const std::uint32_t base = segment_->request(slot).item_base;
    // No block: nothing of it has started, and if it has ended all of it was withdrawn.
    if (offset == 0 && (!finished || task.left == 0)) return false;
    const std::uint32_t count = task.items - base;
    const std::uint64_t bytes = sizeof(OutcomeBlock) + std::uint64_t{count} * sizeof(ItemOutcome);
    bool sound = offset != 0 && offset % kBlockAlign == 0 &&
                 segment_->in_result_arena(worker, offset, bytes);
    if (!sound) {
        if (task.upto > base) locked_corrupt("the outcomes of slot " + std::to_string(slot));
        return false;
    }
    locked_begin_completion(slot, worker, ret);
    Loan *loan = nullptr;
    const std::uint64_t loan_id = locked_new_loan(loan);
    if (!finished) note_deliveries(task);
    if (task.upto > base) loan->items.reserve(task.upto - base);
    const auto *outcomes =
        reinterpret_cast<const ItemOutcome *>(segment_->at<OutcomeBlock>(offset) + 1);  // NOLINT
    std::uint64_t data_bytes = 0;
    for (std::uint32_t index = base; index < task.upto && sound; ++index) {
        if (is_delivered(task, index)) continue;
        const ItemOutcome &outcome = outcomes[index - base];
        const std::uint64_t head = outcome.head.load_relaxed();
        if (OutcomeHead::unpack(head).status ==
            AIOMQ_PENDING) {  // not finished: damage if the claimer says it is
            sound = claimer != Claimer::kDone;
            continue;
        }
        aiomq_item item{};
        sound = locked_read_outcome(worker, outcome, item);
        if (!sound) break;
        // Sound items do not share bytes; copies of damaged ones must not eat the memory.
        if (is_data(item.kind)) data_bytes += item.bytes;
        sound = data_bytes <= segment_->layout().arena_bytes;
        if (!sound) break;
        item.index = index;
        const bool bare = is_bare_error(item);
        if (bare) give_text(item, *loan);
        if (!finished) {
            (*task.delivered)[index] = true;
            if (is_data(item.kind) && !bare) {
                loan->copies.emplace_back(new std::uint64_t[item.bytes / 8 + 1]);
                std::memcpy(loan->copies.back().get(), item.value.data, item.bytes);
                item.value.data = loan->copies.back().get();
            }
        }
        loan->items.push_back(item);
        locked_count(item);
    }
    if (sound && finished) sound = locked_loan_chunk_blocks(worker, offset, bytes, *loan);
    if (!sound) {
        locked_corrupt("an outcome of slot " + std::to_string(slot));
        loan->blocks.clear();
        note_deliveries(task);
        for (const aiomq_item &item : loan->items) (*task.delivered)[item.index] = true;
    }
    task.left -= std::min(task.left, static_cast<std::uint32_t>(loan->items.size()));
    ret.items_left = locked_items_left(task);
    locked_set_items(ret, loan_id);
    return ret.item_count > 0;
}

/// Points a completion at its loan's items; gives the loan back at once when there are none.
void Pool::locked_set_items(aiomq_completion &completion, std::uint64_t loan_id) {
    const Loan &loan = loans_[(loan_id & UINT32_MAX) - 1];
    completion.item_count = static_cast<std::uint32_t>(loan.items.size());
    completion.items = loan.items.data();
    completion.loan = loan_id;
    if (completion.item_count == 0)
        locked_release(loan_id);
    else if (completion.item_count == 1)
        completion.item = loan.items[0];
}

void Pool::locked_count(const aiomq_item &item) {
    counters().outcomes[item.status <= AIOMQ_POOL_CLOSED ? item.status : 0].add_by_single_writer(1);
}

void Pool::locked_deliver_done(std::uint32_t slot) {
    aiomq_completion completion;
    if (locked_take_done(slot, completion)) pending_.push_back(completion);
}

void Pool::locked_deliver_published(std::uint32_t slot, std::uint32_t worker) {
    aiomq_completion completion;
    if (segment_->slot(slot).block_offset.load_acquire() == 0) return;
    TaskRecord &task = tasks_[slot];
    if (task.items == 1) return;  // a block without DONE names nothing yet
    note_deliveries(task);
    if (!locked_take_many(slot, worker, Claimer::kDead, completion)) return;
    for (std::uint32_t i = 0; i < completion.item_count; ++i)
        (*task.delivered)[completion.item_count == 1 ? completion.item.index
                                                     : completion.items[i].index] = true;
    if (!locked_answered(slot, completion)) pending_.push_back(completion);
}

void Pool::locked_deliver_same(std::uint32_t slot, std::uint32_t first, std::uint32_t end,
                               int outcome, const ErrorText *error, std::uint32_t worker) {
    TaskRecord &task = tasks_[slot];
    aiomq_completion completion{};
    locked_begin_completion(slot, worker, completion);
    Loan *loan = nullptr;
    const std::uint64_t loan_id = locked_new_loan(loan);
    aiomq_item item{};
    item.status = static_cast<std::uint16_t>(outcome);
    if (error != nullptr) give_error(item, *error, *loan);
    for (std::uint32_t index = first; index < end && index < task.items; ++index) {
        if (is_delivered(task, index)) continue;
        item.index = index;
        loan->items.push_back(item);
        locked_count(item);
        if (task.delivered != nullptr) (*task.delivered)[index] = true;
    }
    task.left -= std::min(task.left, static_cast<std::uint32_t>(loan->items.size()));
    completion.items_left = locked_items_left(task);
    locked_set_items(completion, loan_id);
    if (completion.item_count > 0 && !locked_answered(slot, completion))
        pending_.push_back(completion);
}

void Pool::locked_free_slot(std::uint32_t slot) {
    TaskRecord &task = tasks_[slot];
    if (task.split) locked_leave_split(task, slot);
    if (task.payload_offset != 0) {
        locked_free_payload(task.payload_offset);
        task.payload_offset = 0;
    }
    constexpr std::uint32_t kRelated = task_relation::kOwned | task_relation::kParent;
    if ((task.flags & (kRelated | request_flag::kLimited)) != 0) {
        if ((task.flags & kRelated) != 0) locked_forget_relations(slot);
        if ((task.flags & request_flag::kLimited) != 0) --limited_;
    }
    if (task.retries != 0 || task.mourned) locked_forget_attempts(slot);
    task.in_use = false;
    task.delivered.reset();
    if (task.items > 1) --chunks_;
    make_free(segment_->slot(slot));
    free_slots_.push_back(slot);
    freed_ = true;
    --in_use_;
}

std::uint64_t Pool::locked_new_loan(Loan *&ret_loan) {
    if (free_loans_.empty()) {
        free_loans_.push_back(static_cast<std::uint32_t>(loans_.size()));
        loans_.emplace_back();
    }
    const std::uint32_t index = free_loans_.back();
    free_loans_.pop_back();
    Loan &loan = loans_[index];
    loan.in_use = true;
    ++loan.nonce;
    ret_loan = &loan;
    return std::uint64_t{loan.nonce} << 32 | (index + 1);
}

int Pool::release(std::uint64_t loan) {
    if (loan == 0) return 0;
    // Not the mutex: a finalizer must not wait. Whoever holds it takes the releases in at unlock().
    if (releases_.bounded_push(loan)) {
        if (mutex_.try_lock()) {
            locked_drain_releases();
            unlock();
        }
        return 0;
    }
    const Lock lock(*this);
    locked_drain_releases();
    locked_release(loan);
    return 0;
}

void Pool::locked_drain_releases() {
    for (std::uint64_t loan = 0; releases_.pop(loan);) locked_release(loan);
}

void Pool::locked_release(std::uint64_t loan_id) {
    const std::uint64_t index = (loan_id & UINT32_MAX) - 1;
    if (index >= loans_.size()) return;
    Loan &loan = loans_[index];
    if (!loan.in_use || loan.nonce != loan_id >> 32) return;
    loan.in_use = false;
    for (const LoanedBlock &block : loan.blocks)
        locked_post(block.worker, {Notice::kRelease, block.offset / kBlockAlign});
    empty(loan.blocks);
    empty(loan.copies);
    empty(loan.items);
    free_loans_.push_back(static_cast<std::uint32_t>(index));
}

std::vector<BlockRange> Pool::locked_loaned_blocks(std::uint32_t worker) const {
    std::vector<BlockRange> blocks;
    for (const Loan &loan : loans_)
        for (const LoanedBlock &block : loan.blocks)
            if (block.worker == worker) blocks.push_back({block.offset, block.bytes});
    return blocks;
}

void Pool::locked_reset_lanes(std::uint32_t worker) {
    WorkerSeat &seat = seats_[worker];
    WorkerArea &area = segment_->area(worker);
    WorkerRecord &record = segment_->record(worker);
    area.outbox_tail.store_relaxed(0);
    area.inbox_head.store_relaxed(0);
    area.rescan.store_relaxed(0);
    area.outbox_waiting.store_relaxed(0);
    record.outbox_head.store_relaxed(0);
    record.inbox_tail.store_relaxed(0);
    record.inbox_waiting.store_relaxed(0);
    seat.inbox_overflow.clear();
    seat.outbox = LaneReader(segment_->outbox(worker), segment_->layout().outbox_cells,
                             &area.outbox_tail, &record.outbox_head);
    seat.inbox = LaneWriter(record.inbox, kInboxCells, &record.inbox_tail, &area.inbox_head);
}

int Pool::locked_write_takeover(std::uint32_t worker, const std::vector<BlockRange> &blocks) {
    WorkerRecord &record = segment_->record(worker);
    record.takeover_count = 0;
    record.takeover_offset = 0;
    if (blocks.empty()) return 0;
    auto memory = requests_.allocate(blocks.size() * sizeof(BlockRange));
    if (!memory) return memory.error();
    std::memcpy(segment_->at<void>(*memory), blocks.data(), blocks.size() * sizeof(BlockRange));
    record.takeover_offset = *memory;
    record.takeover_count = static_cast<std::uint32_t>(blocks.size());
    return 0;
}

void Pool::locked_release_takeover(std::uint32_t worker) {
    WorkerRecord &record = segment_->record(worker);
    if (record.takeover_offset != 0) {
        requests_.release(record.takeover_offset);
        freed_ = true;
    }
    record.takeover_offset = record.takeover_count = 0;
}

}  // namespace aiomq
