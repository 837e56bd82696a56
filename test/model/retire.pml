/* retire.pml: workers that are asked to leave, and a pool that is closed because all of them were.
 *
 * What is modelled   worker*.cpp (retire, take_no_more, ready, claim_one, claim_follow_up,
 *                    start_next, finish_job, sleep),
 *                    supervisor*.cpp (on_signal, become_ready, on_exit, schedule_respawn, all_were_asked,
 *                    depart, maybe_end), recovery.cpp (recover_claimed, locked_fail_all), pool.cpp
 *                    (locked_close).
 * Processes          two workers, which claim what they find and run one item of each slot at a time; the
 *                    application, which submits TASKS chunks of ITEMS items and waits for their outcomes;
 *                    the supervisor; someone who asks single workers to leave, ASKS times, more than
 *                    kTogetherNs apart, and with ALL once both in one moment, as a service manager does; a
 *                    killer with KILLS kills, between any two steps of a worker.
 *                    With FOLLOW the last task follows what runs: workers that retire claim it, too, if
 *                    they are told of it.
 * Properties         every item has one outcome and starts once (assertions); nothing that ran is lost by
 *                    retiring, which is never taken for a death; a pool is closed only if all were asked at
 *                    once, and then nobody is started any more, if nobody was killed (assertions). All
 *                    outcomes come, who was asked leaves, its place is filled or the pool ends: else an
 *                    invalid end state.
 * Left out           the way of completions, which claim.pml shows: what is DONE is delivered when the
 *                    supervisor or the application look. Being asked before aiomq_worker_open(), which
 *                    SIGTERM ends. The wake audit, which would only help.
 * Signals            a handler runs between two steps of its worker, so it is one step. The supervisor sees
 *                    that a worker is ready before it sees its exit: epoll(7) reports what was first.
 * Memory order       sequentially consistent; state and flag are stored by seq_cst operations.
 * Mutants            see run.py.
 */
#ifndef TASKS
#define TASKS 2
#endif
#ifndef ITEMS
#define ITEMS 2
#endif
#ifndef ASKS
#define ASKS 1
#endif
#ifndef KILLS
#define KILLS 0
#endif

mtype = { FREE, READY, CLAIMED, DONE, STARTING, RUNNING, RETIRING, ABSENT };

/* The slots, one for each task. */
mtype phase[TASKS] = FREE;
byte owner[TASKS];             /* worker and incarnation */
byte next[TASKS], end[TASKS]; /* one word */
bit runs[TASKS];              /* item next - 1 has no outcome yet */
byte base[TASKS];

chan ring = [2 * TASKS + 4] of { byte };
bit wants[2], token[2];

mtype state[2];
bit is_ready[2];              /* the worker's own, as the next */
bit retiring[2];
byte asked[2];                /* WorkerArea::asked_ns: which request it was */
bit supervisor_token;

/* Private to the dispatcher, under its mutex. */
bit mutex;
bit alive[2];
byte incarnation[2];
byte submitted;
bit closing, ended;

bit doomed[2], gone[2];
byte kills, asks;

/* Only for the properties. */
bit ran[TASKS * ITEMS];
byte outcomes[TASKS * ITEMS];
bit all_asked;

#define lock() atomic { !mutex -> mutex = 1 }
#define unlock() mutex = 0
#define give(s, item) outcomes[(s) * ITEMS + item]++; assert(outcomes[(s) * ITEMS + item] == 1)

/* --- worker ------------------------------------------------------------------------------------ */

#define OWNER(w) (2 * incarnation[w] + w)
#define MINE(s) (phase[s] == CLAIMED && owner[s] == OWNER(w))
#ifdef BUG_LEAVES_RUNNING
#define BUSY false
#else
#define BUSY ((MINE(0) && runs[0]) || (MINE(TASKS - 1) && runs[TASKS - 1]))
#endif
#ifdef FOLLOW
#define FOLLOWS(s) ((s) == TASKS - 1)
#else
#define FOLLOWS(s) 0
#endif
#define CAN_START(s) (MINE(s) && !runs[s] && (!retiring[w] || FOLLOWS(s) || next[s] == end[s]))

/* start_next(): the item, or DONE when none is left. */
inline start(s) {
    if
    :: atomic {
            next[s] < end[s] ->
            assert(!ran[(s) * ITEMS + next[s]]);
            ran[(s) * ITEMS + next[s]] = 1;
            next[s]++;
            runs[s] = 1
        }
    :: atomic { next[s] == end[s] -> phase[s] = DONE; supervisor_token = 1 }
    fi
}

proctype worker(byte w; bit successor) {
    byte s;
    {
        if
        :: successor -> is_ready[w] = 1 /* ready() */
        :: else -> goto serves
        fi;
        state[w] = RUNNING;
#ifndef BUG_NO_LAST_LOOK
        if :: retiring[w] -> state[w] = RETIRING :: else fi;
#endif
        supervisor_token = 1;
serves: do
        :: !retiring[w] && nempty(ring) -> /* claim_one() */
            if
            :: ring?s;
                if
                :: atomic { phase[s] == READY -> phase[s] = CLAIMED; owner[s] = OWNER(w) }
                :: else
                fi;
                s = 0
            :: empty(ring)
            fi
        :: atomic {
                FOLLOWS(TASKS - 1) && retiring[w] && BUSY && phase[TASKS - 1] == READY ->
                phase[TASKS - 1] = CLAIMED; /* claim_follow_up() */
                owner[TASKS - 1] = OWNER(w)
            }
        :: CAN_START(0) -> start(0)
        :: TASKS > 1 && CAN_START(TASKS - 1) -> start(TASKS - 1)
        :: MINE(0) && runs[0] -> runs[0] = 0
        :: TASKS > 1 && MINE(TASKS - 1) && runs[TASKS - 1] -> runs[TASKS - 1] = 0
        :: retiring[w] && !BUSY -> break
        :: (retiring[w] -> BUSY : len(ring) == 0) && !CAN_START(0) && !CAN_START(TASKS - 1) -> /* sleep() */
            wants[w] = !retiring[w];
            if
            :: wants[w] && len(ring) > 0 -> wants[w] = 0
            :: else ->
                if
                :: !BUSY ->
end_asleep:         token[w]
                :: else -> skip /* what runs ends, and that wakes it */
                fi;
                d_step { token[w] = 0; wants[w] = 0 }
            fi
        od;
        skip /* exit(0) */
    } unless { doomed[w] };
    d_step { s = 0; gone[w] = 1 }
}

active proctype killer() {
    do
    :: kills < KILLS && !doomed[0] && !gone[0] -> kills++; doomed[0] = 1
    :: kills < KILLS && !doomed[1] && !gone[1] -> kills++; doomed[1] = 1
    :: break
    od
}

/* retire(), in a handler. */
#ifdef BUG_NO_SELF_SIGNAL
#define signal_self(w)
#else
#define signal_self(w) token[w] = 1
#endif
#define ask(w)                                                \
    asked[w] = asks;                                          \
    retiring[w] = 1;                                          \
    if :: is_ready[w] -> state[w] = RETIRING :: else fi;      \
    signal_self(w)
#define LIVES(w) (alive[w] && !gone[w] && !doomed[w])

active proctype asker() {
    do
    :: d_step { asks < ASKS && LIVES(0) -> asks++; ask(0) }
    :: d_step { asks < ASKS && LIVES(1) -> asks++; ask(1) }
#ifdef ALL
    :: d_step {
            LIVES(0) && LIVES(1) ->
            asks = ASKS + 1;
            ask(0);
            ask(1);
            all_asked = 1
        };
        break
#endif
    :: break
    od
}

/* --- dispatcher, under the mutex ---------------------------------------------------------------- */

#define wake_everyone()         \
    wants[0] = 0; token[0] = 1; \
    wants[1] = 0; token[1] = 1

#define deliver_done(s)                                                            \
    if                                                                             \
    :: phase[s] == DONE ->                                                         \
        do :: base[s] < end[s] -> give(s, base[s]); base[s]++ :: else -> break od; \
        phase[s] = FREE                                                            \
    :: else                                                                        \
    fi

active proctype application() {
    atomic {
        d_step {
            alive[0] = 1; is_ready[0] = 1; state[0] = RUNNING;
            alive[1] = 1; is_ready[1] = 1; state[1] = RUNNING
        };
        run worker(0, 0);
        run worker(1, 0);
        run supervisor()
    };
    do
    :: submitted < TASKS ->
        lock();
        if
        :: closing -> unlock(); break
        :: else ->
            d_step {
                end[submitted] = ITEMS;
                phase[submitted] = READY;
                ring!submitted;
                submitted++;
                if
                :: wants[0] -> wants[0] = 0; token[0] = 1
                :: !wants[0] && wants[1] -> wants[1] = 0; token[1] = 1
                :: else
                fi;
                mutex = 0
            }
        fi
    :: else -> break
    od;
    /* Everybody who was asked has left. */
    (submitted < 1 || outcomes[ITEMS - 1] == 1) && (submitted < TASKS || outcomes[TASKS * ITEMS - 1] == 1) &&
    (ended || (!retiring[0] && !retiring[1] && alive[0] && alive[1]))
}

/* --- supervisor --------------------------------------------------------------------------------- */

/* Recovery of one slot. */
#ifdef BUG_FROM_BASE
#define FIRST(s) 0
#else
#define FIRST(s) next[s]
#endif
#define recover_claimed(s)                                                                \
    if                                                                                    \
    :: phase[s] == CLAIMED && owner[s] == OWNER(w) ->                                         \
        assert(!(retired && runs[s]));                                                    \
        do :: base[s] < next[s] -> give(s, base[s]); base[s]++ :: else -> break od;       \
        runs[s] = 0;                                                                      \
        if                                                                                \
        :: base[s] == end[s] -> phase[s] = FREE                                           \
        :: else -> next[s] = FIRST(s); phase[s] = READY                                   \
        fi                                                                                \
    :: else                                                                               \
    fi

inline on_exit() {
    d_step {
        gone[w] = 0;
        alive[w] = 0;
        retired = !doomed[w] && ready[w] && state[w] == RETIRING;
        assert(retired || doomed[w]);
        ready[w] = 0;
        left[w] = (retired -> asked[w] : 0);
        state[w] = ABSENT;
#ifdef BUG_NO_RECOVERY
        if :: retired -> skip :: else -> recover_claimed(0); recover_claimed(TASKS - 1) fi;
#else
        recover_claimed(0);
#if TASKS > 1
        recover_claimed(TASKS - 1);
#endif
#endif
        retired = 0
    };
    d_step {
        deliver_done(0);
        deliver_done(TASKS - 1);
        /* rehint() */
        do :: len(ring) > 0 -> ring?_ :: else -> break od;
        j = 0;
        do
        :: j < submitted -> if :: phase[j] == READY -> ring!j :: else fi; j++
        :: else -> break
        od;
        j = 0;
        wake_everyone();
        mutex = 0
    }
}

#ifdef BUG_STARTING_NOT_ASKED
#define WHEN(v) (alive[v] -> (state[v] == RETIRING -> asked[v] : 0) : left[v])
#else
#define WHEN(v) (alive[v] -> asked[v] : left[v])
#endif
#ifdef BUG_ONE_IS_ALL
#define ALL_WERE_ASKED(v) true
#else
#define ALL_WERE_ASKED(v) (WHEN(1 - (v)) == left[v])
#endif

/* locked_close() with AIOMQ_CLOSE_DISCARD: the items that have not started. */
#define discard(s)                                                                  \
    if                                                                              \
    :: phase[s] == READY || phase[s] == CLAIMED ->                                  \
        do :: next[s] < end[s] -> end[s]--; give(s, end[s]) :: else -> break od;    \
        if                                                                          \
        :: phase[s] == READY ->                                                     \
            do :: base[s] < end[s] -> give(s, base[s]); base[s]++ :: else -> break od; \
            phase[s] = FREE                                                         \
        :: else                                                                     \
        fi                                                                          \
    :: else                                                                         \
    fi

inline depart() {
    assert(all_asked);
    lock();
    d_step {
        closing = 1;
        due[0] = 0;
        due[1] = 0;
        discard(0);
#if TASKS > 1
        discard(TASKS - 1);
#endif
        mutex = 0
    }
}

inline spawn(v) {
    assert(!closing && (!all_asked || kills > 0));
    lock();
    d_step {
        token[v] = 0;
        wants[v] = 0;
        is_ready[v] = 0;
        retiring[v] = 0;
        asked[v] = 0;
        state[v] = STARTING;
        doomed[v] = 0;
        left[v] = 0;
        incarnation[v]++;
        alive[v] = 1;
        mutex = 0
    };
    run worker(v, 1)
}

inline maybe_end() {
    if
    :: d_step { closing && !alive[0] && !alive[1] && !due[0] && !due[1] -> discard(0); discard(TASKS - 1); ended = 1 }
    :: else
    fi
}

/* The place of who was asked to leave is filled after a while, by which all may have been asked. */
#ifdef BUG_RESPAWN_AT_ONCE
#define when_due(v) due[v] -> due[v] = 0; spawn(v)
#else
#define when_due(v)                                                     \
    due[v] ->                                                           \
        due[v] = 0;                                                     \
        if                                                              \
        :: left[v] != 0 && ALL_WERE_ASKED(v) -> depart(); maybe_end()   \
        :: else -> spawn(v)                                             \
        fi
#endif

proctype supervisor() {
    byte w, j;
    bit retired, ready[2], due[2];
    byte left[2]; /* when who left its place was asked */
    ready[0] = 1;
    ready[1] = 1;
end_idle:
    do
    :: supervisor_token -> /* on_signal() */
        supervisor_token = 0;
        d_step {
            if :: alive[0] && state[0] != STARTING -> ready[0] = 1 :: else fi;
            if :: alive[1] && state[1] != STARTING -> ready[1] = 1 :: else fi
        };
        lock();
        d_step { deliver_done(0); deliver_done(TASKS - 1); mutex = 0 }
    :: atomic { (gone[0] || gone[1]) && !supervisor_token -> w = (gone[0] -> 0 : 1) };
        lock();
        on_exit();
#ifdef BUG_RESPAWN_WHEN_CLOSING
        due[w] = 1;
#else
        due[w] = !closing;
#endif
        w = 0;
        maybe_end()
    :: when_due(0)
    :: when_due(1)
    od
}
