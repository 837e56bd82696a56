#include "ledger.hpp"

#include <unordered_map>

namespace aiomq::py {
namespace {

struct Ledger {
    std::unordered_map<std::uint32_t, JobAccount> accounts;
    std::uint32_t held = 0;
    JobAccount *held_account = nullptr;
};

// Never destroyed: worker threads of the application may outlive static destruction.
Ledger &ledger() {
    static auto *instance = new Ledger;
    return *instance;
}

void note(JobAccount &account, int completed) {
    account.running -= account.running != 0 ? 1 : 0;
    account.over = completed == 1;
}

}  // namespace

JobAccount &ledger_open(std::uint32_t job) { return ledger().accounts[job]; }

void ledger_note(std::uint32_t job, int completed) {
    if (completed != 0 && completed != 1) {
        return;  // it still runs
    }
    Ledger &book = ledger();
    if (book.held_account != nullptr && book.held == job) {
        note(*book.held_account, completed);
        return;
    }
    const auto found = book.accounts.find(job);
    if (found == book.accounts.end()) {
        return;  // started by someone else
    }
    note(found->second, completed);
    if (found->second.over) {
        book.accounts.erase(found);
    }
}

void ledger_close(std::uint32_t job) { ledger().accounts.erase(job); }

void ledger_hold(std::uint32_t job, JobAccount &account) {
    ledger().held = job;
    ledger().held_account = &account;
}

void ledger_unhold() { ledger().held_account = nullptr; }

}  // namespace aiomq::py
