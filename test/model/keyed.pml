/* keyed.pml: tasks with a key, which one worker may claim, whose hints are messages.
 *
 * What is modelled   pool_keys.cpp (locked_worker_of, locked_make_keyed_ready, locked_post_hint,
 *                    locked_hint_keyed, locked_avoid), slots.hpp (claim_keyed, withdraw), worker*.cpp
 *                    (take_inbox, take_hint, claim_keyed, sleep), pool_submit.cpp (locked_post,
 *                    locked_flush_inbox, cancel), recovery.cpp (a claimed task of a dead worker),
 *                    supervisor*.cpp (spawn, a start that fails, become_ready). Tasks of one item.
 * Processes          two workers; the application, which submits TASKS tasks through SLOTS slots, cancels
 *                    up to CANCELS and otherwise only collects; the supervisor, which moves what waits for
 *                    room in an inbox of CELLS cells, recovers, respawns under the same mutex and finds
 *                    that starts fail up to FAILS times, after which a place may stay empty; a killer with
 *                    KILLS kills, between any two steps of a worker. All tasks have the first worker for
 *                    their home, or with KEYS=2 every other one the second.
 * Properties         every task gets exactly one outcome and starts at most once; it is claimed only by the
 *                    worker that its word names; as long as no place was avoided a worker claims in submit
 *                    order; when a place is filled again, all that waits is where it belongs (assertions).
 *                    No hint is lost: if the application waits for ever for an outcome, that is an invalid
 *                    end state.
 * Left out           the way of completions, which claim.pml shows: what is DONE is found at once. The head
 *                    of the inbox, which inbox.pml shows: what is popped has made room. The checkup, which
 *                    would only hide what is lost.
 * Memory order       sequentially consistent; the code has seq_cst operations where a side stores and then
 *                    looks: the lane's tail and the sleeping bit, the lane's head and `inbox_waiting`.
 * Mutants            each takes one thing away and must fail; run.py has the list.
 */
#ifndef TASKS
#define TASKS 2
#endif
#ifndef SLOTS
#define SLOTS TASKS
#endif
#ifndef CELLS
#define CELLS 1
#endif
#ifndef KEYS
#define KEYS 1
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef FAILS
#define FAILS 0
#endif
#ifndef CANCELS
#define CANCELS 0
#endif
#define HINTS (2 * TASKS + 2)

mtype = { FREE, READY, CLAIMED, DONE };

/* The slots. */
mtype phase[SLOTS];
byte named[SLOTS]; /* of READY: who may claim it, else who did */
byte generation[SLOTS];
byte task[SLOTS];
bit started[SLOTS];

/* Inboxes, and what workers have sorted out of them into private memory. */
chan inbox[2] = [CELLS] of { byte, byte };
chan mine[2] = [HINTS] of { byte, byte };
bit waiting[2]; /* WorkerRecord::inbox_waiting */

bit asleep[2];
bit token[2];
bit running[2]; /* WorkerArea::state */
bit supervisor_token;

/* Private to the dispatcher, under its mutex. */
bit mutex;
chan over[2] = [HINTS] of { byte, byte };
bit overflow;
bit alive[2] = 1;
bit avoided[2];
byte submitted, in_use, outcomes;

bit doomed[2];
bit gone[2]; /* the kernel has confirmed the exit */
byte kills;

/* Only for the properties. */
bit ran[TASKS];
bit has_outcome[TASKS];
bit moved; /* a place was avoided */

#define outcome_of(s)              \
    assert(!has_outcome[task[s]]); \
    has_outcome[task[s]] = 1;      \
    outcomes++;                    \
    started[s] = 0;                \
    in_use--;                      \
    phase[s] = FREE

/* --- worker ------------------------------------------------------------------------------------ */

#define in_order(s, w)                                                                     \
    i = 0;                                                                                 \
    do                                                                                     \
    :: i < SLOTS ->                                                                        \
        assert(moved || phase[i] != READY || named[i] != w || task[i] >= task[s]);         \
        i++                                                                                \
    :: else -> break                                                                       \
    od;                                                                                    \
    i = 0

#ifdef BUG_NO_GENERATION
#define MINE(s, g, w) (phase[s] == READY && named[s] == w)
#else
#ifdef BUG_NO_NAME
#define MINE(s, g, w) (phase[s] == READY)
#else
#define MINE(s, g, w) (phase[s] == READY && named[s] == w && generation[s] == g)
#endif
#endif

proctype worker(byte w; bit successor) {
    byte s, g, i;
    {
        if :: successor -> running[w] = 1; supervisor_token = 1 :: else fi;
        do
        :: nempty(inbox[w]) -> /* take_inbox() */
            do
            :: inbox[w]?s,g;
                d_step {
                    if
#if !defined(BUG_NO_GENERATION) && !defined(BUG_NO_NAME)
                    :: generation[s] != g
#endif
                    :: else -> mine[w]!s,g
                    fi;
                    s = 0;
                    g = 0
                }
            :: empty(inbox[w]) -> break
            od;
#ifndef BUG_NO_WAITING_LOOK
            if :: waiting[w] -> supervisor_token = 1 :: else fi
#endif
        :: nempty(mine[w]) -> /* claim_keyed() */
            mine[w]?s,g;
            if
            :: atomic {
                    MINE(s, g, w) ->
                        assert(named[s] == w);
                        d_step { in_order(s, w) };
                        phase[s] = CLAIMED
                };
                atomic { started[s] = 1; assert(!ran[task[s]]); ran[task[s]] = 1 };
                phase[s] = DONE
            :: else /* a stale hint */
            fi;
            d_step { s = 0; g = 0 }
        :: empty(inbox[w]) && empty(mine[w]) -> /* sleep() */
            asleep[w] = 1;
            if
#ifndef BUG_LOOK_BEFORE_ANNOUNCE
            :: len(inbox[w]) > 0 -> asleep[w] = 0
#endif
            :: else ->
end_asleep:     token[w];
                d_step { token[w] = 0; asleep[w] = 0 }
            fi
        od
    } unless { doomed[w] };
    d_step {
        s = 0;
        g = 0;
        i = 0;
        do :: nempty(mine[w]) -> mine[w]?_,_ :: empty(mine[w]) -> break od;
        gone[w] = 1
    }
}

active proctype killer() {
    do
    :: kills < KILLS && !doomed[0] -> kills++; doomed[0] = 1
    :: kills < KILLS && !doomed[1] -> kills++; doomed[1] = 1
    :: break
    od
}

/* --- dispatcher, under the mutex ---------------------------------------------------------------- */

#define lock() atomic { !mutex -> mutex = 1 }
#define unlock() mutex = 0

#define HOME(t) ((t) % KEYS)
#define WORKER_OF(t) (avoided[HOME(t)] && !avoided[1 - HOME(t)] -> 1 - HOME(t) : HOME(t))

inline push_all(w) {
    do
    :: atomic { nempty(over[w]) && nfull(inbox[w]) -> over[w]?a,b; inbox[w]!a,b; a = 0; b = 0 }
    :: empty(over[w]) || full(inbox[w]) -> break
    od
}

inline flush_inbox(w) {
    push_all(w);
    if
    :: len(over[w]) > 0 ->
        waiting[w] = 1;
#ifndef BUG_NO_SECOND_PUSH
        push_all(w);
#endif
        if :: len(over[w]) > 0 -> overflow = 1 :: else -> waiting[w] = 0 fi
    :: else -> waiting[w] = 0
    fi
}

inline wake(w) {
    if :: d_step { asleep[w] -> asleep[w] = 0; token[w] = 1 } :: else fi
}

inline post_hint(s, w) {
    if
    :: !alive[w]
    :: else ->
        if
        :: atomic { empty(over[w]) && nfull(inbox[w]) -> inbox[w]!s,generation[s] }
        :: nempty(over[w]) || full(inbox[w]) ->
#ifndef BUG_DROP_WHEN_FULL
            over[w]!s,generation[s];
            flush_inbox(w)
#endif
        fi;
        wake(w)
    fi
}

inline make_ready(s) {
    d_step {
        generation[s]++;
        named[s] = WORKER_OF(task[s]);
        u = named[s];
        phase[s] = READY
    };
    post_hint(s, u)
}

/* locked_avoid(): what waits for another than it should goes there. */
inline avoid(w, value) {
    if
    :: avoided[w] == value
    :: else ->
        d_step { avoided[w] = value; moved = 1; j = 0 };
        do /* in submit order */
        :: j < submitted ->
            k = 0;
            do
            :: k < SLOTS ->
                if
                :: phase[k] == READY && task[k] == j && named[k] != WORKER_OF(j) ->
                    if
#ifdef BUG_WITHDRAW_BY_STORE
                    :: phase[k] = FREE;
#else
                    :: atomic { phase[k] == READY -> phase[k] = FREE };
#endif
                        make_ready(k)
                    :: else /* claimed just now */
                    fi
                :: else
                fi;
                k++
            :: else -> break
            od;
            j++
        :: else -> break
        od;
        j = 0;
        d_step { k = 0; u = 0 }
    fi
}

inline submit() {
    d_step {
        do :: phase[k] != FREE -> k++ :: else -> break od;
        task[k] = submitted;
        submitted++;
        in_use++
    };
    make_ready(k);
    d_step { k = 0; u = 0 }
}

active proctype application() {
    byte k, u, a, b, cancels;
    atomic {
        do :: k < SLOTS -> phase[k] = FREE; k++ :: else -> break od;
        k = 0;
        run worker(0, 0);
        run worker(1, 0);
        run supervisor()
    };
    do
    :: outcomes == TASKS -> break
    :: submitted < TASKS && in_use < SLOTS -> lock(); submit(); unlock()
    :: phase[0] == DONE || phase[SLOTS - 1] == DONE ->
        lock();
        d_step {
            do
            :: k < SLOTS -> if :: phase[k] == DONE -> outcome_of(k) :: else fi; k++
            :: else -> break
            od;
            k = 0
        };
        unlock()
    :: cancels < CANCELS && phase[0] == READY ->
        lock();
        d_step { if :: phase[0] == READY -> outcome_of(0) :: else fi; cancels++ };
        unlock()
    od
}

/* --- supervisor --------------------------------------------------------------------------------- */

/* locked_recover(), then a successor that is due; while starts fail the place is avoided. */
inline recover(w) {
    d_step {
        if :: !ready[w] -> failing = 1 :: else fi;
        alive[w] = 0;
        gone[w] = 0;
        running[w] = 0;
        ready[w] = 0;
        j = 0
    };
    do
    :: j < SLOTS ->
        if
        :: phase[j] == CLAIMED && named[j] == w && !started[j] -> make_ready(j)
        :: phase[j] == CLAIMED && named[j] == w && started[j] -> d_step { outcome_of(j) }
        :: phase[j] == DONE && named[j] == w -> d_step { outcome_of(j) }
        :: else
        fi;
        j++
    :: else -> break
    od;
    j = 0;
    d_step {
        u = 0;
        asleep[0] = 0;
        asleep[1] = 0;
        token[0] = 1;
        token[1] = 1
    };
    if :: failing -> avoid(w, 1) :: else fi;
    due[w] = 1
}

inline spawn(w) {
    lock();
    d_step {
        do :: nempty(inbox[w]) -> inbox[w]?_,_ :: empty(inbox[w]) -> break od;
        do :: nempty(over[w]) -> over[w]?_,_ :: empty(over[w]) -> break od;
        waiting[w] = 0;
        token[w] = 0;
        due[w] = 0;
        alive[w] = 1
    };
#ifndef BUG_NO_REHINT_ON_SPAWN
    j = 0;
    do
    :: j < submitted ->
        k = 0;
        do
        :: k < SLOTS ->
            if :: phase[k] == READY && task[k] == j && named[k] == w -> post_hint(k, w) :: else fi;
            k++
        :: else -> break
        od;
        j++
    :: else -> break
    od;
    j = 0;
    k = 0;
#endif
#ifdef BUG_ALIVE_LATER
    alive[w] = 0;
    unlock();
    lock();
    alive[w] = 1;
#endif
    unlock();
    if
    :: doomed[w] = 0; run worker(w, 1)
    :: fails < FAILS ->
        d_step { fails++; failing = 1 };
        lock();
        alive[w] = 0;
#ifndef BUG_NO_AVOID
        avoid(w, 1);
#endif
        unlock();
        if
        :: due[w] = 1
        :: !empty_place -> empty_place = 1 /* it can't be filled any more */
        fi
    fi
}

inline become_ready(w) {
    d_step { ready[w] = 1; failing = 0 };
    lock();
#ifdef BUG_NOT_HOME
    avoided[w] = 0;
#else
    avoid(w, 0);
#endif
    d_step {
        do
        :: k < SLOTS -> assert(phase[k] != READY || named[k] == WORKER_OF(task[k])); k++
        :: else -> break
        od;
        k = 0
    };
    unlock()
}

proctype supervisor() {
    byte j, k, u, a, b, fails;
    bit due[2], ready[2], failing, empty_place;
    ready[0] = 1;
    ready[1] = 1;
end_idle:
    do
    :: gone[0] -> lock(); recover(0); unlock()
    :: gone[1] -> lock(); recover(1); unlock()
    :: due[0] -> spawn(0)
    :: due[1] -> spawn(1)
    :: supervisor_token ->
        supervisor_token = 0;
        if :: running[0] && !ready[0] -> become_ready(0) :: else fi;
        if :: running[1] && !ready[1] -> become_ready(1) :: else fi;
        lock();
        if
        :: overflow ->
            overflow = 0;
            if :: len(over[0]) > 0 -> flush_inbox(0); wake(0) :: else fi;
            if :: len(over[1]) > 0 -> flush_inbox(1); wake(1) :: else fi
        :: else
        fi;
        unlock()
    od
}
