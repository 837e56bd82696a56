/* claim.pml: the way of a task, from submit to its outcome, with deaths at any step.
 *
 * What is modelled   slots.hpp (claim, finish), worker*.cpp (claim_one, start, finish_job, tell, settle,
 *                    sleep), pool_submit.cpp (put, publish, locked_rehint), pool_collect.cpp (collect,
 *                    locked_rescan), pool.cpp (dispatch), recovery.cpp (locked_recover). Tasks of one
 *                    item, one queue, no retries.
 * Processes          WORKERS workers, which run one task at a time; the application, which submits TASKS
 *                    tasks through SLOTS slots, collects, and blocks on its eventfd; the supervisor, which
 *                    recovers and respawns under the same mutex; a killer with KILLS kills, which may hit a
 *                    worker between any two of its steps.
 * Properties         every task gets exactly one outcome and starts at most once (assertions); no wake-up
 *                    is lost: if the application blocks for ever before it has all outcomes, that is an
 *                    invalid end state; no token stays that nobody will consume, or the application's loop
 *                    would spin (assertion).
 * Steps              one step is one access to a word that processes share, except what only the holder of
 *                    the mutex or a dead worker's estate could see in between.
 * The hint ring      as pushed by put() and publish(): pops see a cell at once, a sleeper's second look
 *                    counts only what `tail` shows, which is all but `unpublished` cells. ring.pml looks
 *                    inside.
 * Memory order       Spin is sequentially consistent. A worker's last stores, DONE and the lane's tail, may
 *                    stay in its store buffer until its next seq_cst operation (`held`): the pop's
 *                    exchange, or settle()'s publish(). Stores drain in order and survive their process.
 *                    What the code takes from seq_cst operations, its mutants BUG_RELAXED_* take away, by
 *                    letting the store take effect after the load that follows it. Not modelled: loads that
 *                    pass loads, which the acquire loads of slot words and cells forbid; and that C++ orders
 *                    the lane's release store before the load of the application's flag only by way of what
 *                    x86, arm64 and POWER make of a seq_cst exchange between the two.
 * Mutants            each takes one thing away and must fail; run.py has the list.
 */
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef TASKS
#define TASKS 2
#endif
#ifndef SLOTS
#define SLOTS TASKS
#endif
#ifndef KILLS
#define KILLS 0
#endif
#ifndef LANE
#define LANE 1
#endif
#define CELLS (2 * SLOTS + KILLS)
#define NONE 255

mtype = { FREE, READY, CLAIMED, DONE };

/* The slots, and for each what the claimer has stored in the range word. */
mtype phase[SLOTS];
byte owner[SLOTS];
byte task[SLOTS];
bit started[SLOTS];

chan ring = [CELLS] of { byte };
byte unpublished;
chan lane[WORKERS] = [LANE] of { byte };
bit rescan[WORKERS];

/* Sleeping flags and eventfds. */
bit wants[WORKERS];
bit token[WORKERS];
bit app_sleeps;
bit app_token;

/* Private to the dispatcher, under its mutex. */
bit mutex;
byte submitted, in_use, pending, collected;
bit armed, token_due;

bit doomed[WORKERS];
bit gone[WORKERS]; /* the kernel has confirmed the exit */
byte kills;

/* Only for the properties. */
bit ran[TASKS];
bit has_outcome[TASKS];

/* --- worker ------------------------------------------------------------------------------------ */

#define held_lands(w)                                              \
    if                                                             \
    :: held != NONE ->                                             \
        phase[held] = DONE;                                        \
        if :: len(lane[w]) < LANE -> lane[w]!held :: else -> rescan[w] = 1 fi; \
        held = NONE                                                \
    :: else                                                        \
    fi

/* wake_application(): look, take the announcement back, write the eventfd. */
inline worker_wakes_application() {
    untold = 0;
    if
    :: app_sleeps ->
        if
        :: atomic { app_sleeps -> app_sleeps = 0 };
            app_token = 1
        :: else
        fi
    :: else
    fi
}

inline finish_task(w) {
#ifdef BUG_RELAXED_LANE
    if :: len(lane[w]) < LANE -> lane[w]!s :: else -> rescan[w] = 1 fi;
    phase[s] = DONE;
#else
    if
    :: phase[s] = DONE;
        if :: len(lane[w]) < LANE -> lane[w]!s :: else -> rescan[w] = 1 fi
    :: len(lane[w]) < LANE -> held = s /* both stores stay in the buffer */
    fi;
#endif
    untold = 1
}

proctype worker(byte w) {
    byte s;
    byte held = NONE;
    bit untold = 0;
    {
        do
        ::
#ifdef BUG_RELAXED_POP
            atomic { nempty(ring) -> ring?s };
            if :: untold -> worker_wakes_application() :: else fi;
            d_step { held_lands(w) };
#else
            atomic { nempty(ring) -> ring?s; d_step { held_lands(w) } };
            if :: untold -> worker_wakes_application() :: else fi;
#endif
            if
#ifdef BUG_OWNER_LATER
            :: atomic { phase[s] == READY -> phase[s] = CLAIMED; owner[s] = NONE };
                owner[s] = w;
#else
            :: atomic { phase[s] == READY -> phase[s] = CLAIMED; owner[s] = w };
#endif
                atomic { started[s] = 1; assert(!ran[task[s]]); ran[task[s]] = 1 };
                task[s] == 0 || !ran[0] || has_outcome[0]; /* the body */
                finish_task(w)
            :: else /* a stale hint */
            fi
        :: empty(ring) ->
#ifdef BUG_NO_SETTLE
            d_step { held_lands(w) };
#else
            if
            :: untold ->
#ifdef BUG_RELAXED_SETTLE
                worker_wakes_application();
                d_step { held_lands(w) }
#else
                d_step { held_lands(w) };
                worker_wakes_application()
#endif
            :: else
            fi;
#endif
#ifdef BUG_RELAXED_ANNOUNCE
            if
            :: len(ring) > unpublished
            :: else ->
                wants[w] = 1;
#else
            wants[w] = 1;
            if
#ifndef BUG_NO_SECOND_LOOK
            :: len(ring) > unpublished -> wants[w] = 0
#endif
            :: else ->
#endif
end_asleep:     token[w];
                d_step { token[w] = 0; wants[w] = 0 }
            fi
        od
    } unless { doomed[w] };
    d_step { held_lands(w); s = 0; untold = 0; gone[w] = 1 }
}

active proctype killer() {
    byte w;
    do
    :: kills < KILLS ->
        kills++;
        select(w : 0 .. WORKERS - 1);
        doomed[w] = 1;
        w = 0
    :: break
    od
}

/* --- dispatcher, under the mutex ---------------------------------------------------------------- */

#ifdef BUG_NO_MUTEX
#define lock() skip
#define unlock() skip
#define owned
#else
#define lock() atomic { !mutex -> mutex = 1 }
#define unlock() mutex = 0
#define owned d_step /* nobody can see in between */
#endif

#define outcome_of(s)                 \
    assert(!has_outcome[task[s]]);    \
    has_outcome[task[s]] = 1;         \
    started[s] = 0;                   \
    owner[s] = 0;                     \
    in_use--;                         \
    phase[s] = FREE

inline put(slot) {
    atomic { assert(nfull(ring)); ring!slot; unpublished++ }
}

/* Wakes up to n of those who want tasks. */
inline wake_workers(n) {
    k = 0;
    do
    :: k < WORKERS && n > 0 ->
        if :: d_step { wants[k] -> wants[k] = 0; token[k] = 1; n-- } :: else fi;
        k++
    :: else -> break
    od;
    n = 0
}

inline rehint() {
    do
    :: atomic { nempty(ring) -> ring?_ }
    :: empty(ring) -> break
    od;
    j = 0;
    do /* in submit order */
    :: j < submitted ->
        k = 0;
        do
        :: k < SLOTS ->
            if :: phase[k] == READY && task[k] == j -> put(k) :: else fi;
            k++
        :: else -> break
        od;
        j++
    :: else -> break
    od;
    unpublished = 0;
    d_step { j = 0; k = 0 }
}

/* Takes what the lane of worker w names; then all of w's slots if a hint did not fit. */
inline collect_from(w) {
    do
    :: owned {
        nempty(lane[w]) ->
            lane[w]?j;
            if :: phase[j] == DONE -> outcome_of(j); collected++ :: else fi;
            j = 0
    }
    :: empty(lane[w]) -> break
    od;
    if
    :: rescan[w] ->
#ifndef BUG_RESCAN_CLEARED_LATE
        rescan[w] = 0;
#endif
        owned {
            j = 0;
            do
            :: j < SLOTS ->
                if :: phase[j] == DONE && owner[j] == w -> outcome_of(j); collected++ :: else fi;
                j++
            :: else -> break
            od;
            j = 0
        }
#ifdef BUG_RESCAN_CLEARED_LATE
        rescan[w] = 0
#endif
    :: else
    fi
}

inline submit_batch() {
    do
    :: submitted < TASKS && in_use < SLOTS ->
        d_step {
            do :: phase[j] != FREE -> j++ :: else -> break od;
            task[j] = submitted;
            submitted++;
            in_use++;
            phase[j] = READY
        };
        put(j);
        d_step { j = 0; fresh++ }
    :: fresh > 0 || submitted == TASKS || in_use == SLOTS -> break
    od;
    if
    :: fresh > 0 ->
#ifdef BUG_RELAXED_PUBLISH
        wake_workers(fresh);
        unpublished = 0
#else
        unpublished = 0;
        wake_workers(fresh)
#endif
    :: else
    fi
}

#define COMPLETIONS                                                                        \
    (pending > 0 || len(lane[0]) > 0 || rescan[0] || len(lane[WORKERS - 1]) > 0 || rescan[WORKERS - 1])

inline take_announcement_back() {
    if
    :: atomic { app_sleeps -> app_sleeps = 0 }
    :: else -> token_due = 1
    fi
}

active proctype application() {
    byte j, k, fresh;
    bit was_armed;
    atomic {
        j = 0;
        do :: j < SLOTS -> phase[j] = FREE; j++ :: else -> break od;
        j = 0;
        do :: j < WORKERS -> run worker(j); j++ :: else -> break od;
        j = 0;
        run supervisor()
    };
    do
    :: collected == TASKS -> break
    :: else ->
        lock();
        d_step { collected = collected + pending; pending = 0 };
        collect_from(0);
#if WORKERS > 1
        collect_from(1);
#endif
        submit_batch();
        if
        :: collected == TASKS
        :: else -> /* dispatch() */
            was_armed = armed;
            if :: armed -> armed = 0; take_announcement_back() :: else fi;
            d_step {
#ifdef BUG_CONSUME_IF_DUE
                if :: token_due && app_token -> app_token = 0; token_due = 0 :: else fi;
#else
                if :: (was_armed || token_due) && app_token -> app_token = 0; token_due = 0 :: else fi;
#endif
                assert(!(was_armed && app_token && !token_due));
                was_armed = 0
            };
            if
            :: COMPLETIONS
            :: else ->
#ifdef BUG_RELAXED_APP_ANNOUNCE
                if :: COMPLETIONS :: else -> app_sleeps = 1; armed = 1 fi
#else
                app_sleeps = 1;
                if
#ifndef BUG_NO_APP_SECOND_LOOK
                :: COMPLETIONS -> take_announcement_back()
#endif
                :: else -> armed = 1
                fi
#endif
            fi
        fi;
        unlock();
        if :: armed -> app_token :: else fi /* poll() */
    od
}

/* locked_recover(), then a successor. */
inline recover(w) {
    owned {
        wants[w] = 0;
        j = 0;
        do
        :: j < SLOTS ->
            if
            :: phase[j] == DONE && owner[j] == w -> outcome_of(j); pending++
            :: phase[j] == CLAIMED && owner[j] == w && started[j] -> outcome_of(j); pending++
            :: phase[j] == CLAIMED && owner[j] == w && !started[j] -> owner[j] = 0; phase[j] = READY
            :: else
            fi;
            j++
        :: else -> break
        od;
        j = 0
    };
#ifndef BUG_NO_REHINT
    rehint();
#endif
#ifndef BUG_NO_WAKE_ALL
    d_step {
        do :: k < WORKERS -> wants[k] = 0; token[k] = 1; k++ :: else -> break od;
        k = 0
    };
#endif
#ifdef BUG_TRUST_ANNOUNCEMENT
    /* As if the dead could not have taken the announcement back without writing the eventfd. */
    if :: d_step { app_sleeps -> app_sleeps = 0; app_token = 1 } :: else fi;
#else
    app_sleeps = 0;
    d_step { token_due = 1; app_token = 1 };
#endif
    d_step {
        do :: len(lane[w]) > 0 -> lane[w]?_ :: else -> break od;
        rescan[w] = 0;
        token[w] = 0;
        gone[w] = 0
    };
    if
    :: doomed[w] = 0; run worker(w)
    :: doomed[0] + doomed[WORKERS - 1] < 2 && WORKERS > 1 /* its seat stays empty */
    fi
}

proctype supervisor() {
    byte j, k;
end_idle:
    do
    :: gone[0] -> lock(); recover(0); unlock()
#if WORKERS > 1
    :: gone[1] -> lock(); recover(1); unlock()
#endif
    od
}
