/* timeout.pml: items that run longer than their timeout, and the kill of their worker.
 *
 * What is modelled   worker*.cpp (start_guarded, publish, finish_job), pool_limits.cpp (locked_limit,
 *                    locked_look_at_limits, locked_started_ns, locked_unstamped_ns, locked_culprit,
 *                    locked_expire),
 *                    supervisor.cpp (end_stuck, kill_stuck), recovery.cpp (time_out, fail).
 * Processes          a worker that runs its items beside each other, some of which never end by themselves;
 *                    the dispatcher with its supervisor, each of whose steps holds the mutex, and with the
 *                    clock: an item that has a stamp may be overdue at any moment, a task late; a killer
 *                    with KILLS kills for other reasons. Tasks have one item: 0 a timeout, 1 no limit, 2 a
 *                    timeout and a start limit. With MANY their stamps lie where those of a chunk do, and
 *                    are written a step after `next`; between both a worker may be stopped for ever.
 * Properties         every task has one outcome; TIMED_OUT only what had been overdue and had not ended;
 *                    EXPIRED only what never ran; a worker is killed only while something overdue runs in
 *                    it; what never ends is ended by the timer (a deadlock if not), and when no task has
 *                    limits the timer is not set again (assertions).
 * Left out           the worker's own cancel, which is an end like others; the stuck signal, which is the
 *                    time between both looks; poison_limit.
 * Memory order       sequentially consistent. The stamp shares a word with `next` or with what ends the item.
 * Mutants            see run.py.
 */
#ifndef KILLS
#define KILLS 0
#endif
#ifndef RETRIES
#define RETRIES 1
#endif
#ifndef TASKS
#define TASKS 3
#endif

mtype = { FREE, READY, CLAIMED, DONE };
mtype phase[2] = FREE;
byte id[2];                      /* the task in a slot */
bit next[2], stamp[2], head[2];  /* head: published, in the word of the stamp */
bit expired[2];                  /* what was published is EXPIRED */
bit seen[2];                     /* a look has found that it started and has no stamp */
byte attempt[TASKS], outcomes[TASKS];
bit late, armed, stuck;          /* stuck: between both looks */
bit overdue[2];                  /* the seat's list, with the tasks it was made for */
byte overdue_id[2];
byte submitted, limited, kills;
bit killed, doomed, gone, over;

/* Only for the properties. */
bit aged[TASKS], ran[TASKS], ended[TASKS], hangs[TASKS];

#define HAS_TIMEOUT(task) (task != 1)
#ifdef BUG_STAMP_BESIDE
#define RUNS(s) (phase[s] == CLAIMED && next[s] && (stamp[s] || seen[s]))
#else
#define RUNS(s) (phase[s] == CLAIMED && next[s] && (stamp[s] || seen[s]) && !head[s])
#endif

inline claim(s) {
    atomic { phase[s] == READY -> phase[s] = CLAIMED; was_late = late && id[s] == 2 && attempt[id[s]] == 0 };
#ifdef MANY
    next[s] = 1;
    if :: HAS_TIMEOUT(id[s]) -> false /* stopped */ :: skip fi;
#else
    d_step { next[s] = 1; stamp[s] = HAS_TIMEOUT(id[s]) };
#endif
    if
    :: was_late -> d_step { expired[s] = 1; head[s] = 1 }; phase[s] = DONE
    :: else ->
#ifdef MANY
        stamp[s] = HAS_TIMEOUT(id[s]);
#endif
        d_step { ran[id[s]] = 1; running[s] = 1 };
        if :: HAS_TIMEOUT(id[s]) -> hangs[id[s]] = 1 :: skip fi
    fi;
    was_late = 0
}

inline finish(s) {
#ifdef MANY
    d_step { running[s] && !hangs[id[s]] -> running[s] = 0; head[s] = 1; ended[id[s]] = 1 };
    phase[s] = DONE
#else
    d_step { running[s] && !hangs[id[s]] -> running[s] = 0; ended[id[s]] = 1; phase[s] = DONE }
#endif
}

proctype worker() {
    bit was_late, running[2];
    {
        do
        :: claim(0)
        :: claim(1)
        :: finish(0)
        :: finish(1)
        :: over -> break
        od
    } unless { doomed };
    if :: doomed -> gone = 1 :: else fi
}

active proctype killer() {
    do
    :: killed && !doomed -> doomed = 1 /* it dies some time after it was killed */
    :: kills < KILLS && !doomed && !over -> kills++; doomed = 1
    :: over -> break
    od
}

#define give(s) \
    outcomes[id[s]]++; \
    assert(outcomes[id[s]] == 1); \
    if :: HAS_TIMEOUT(id[s]) -> limited-- :: else fi; \
    phase[s] = FREE
#define ready(s) next[s] = 0; stamp[s] = 0; seen[s] = 0; head[s] = 0; expired[s] = 0; phase[s] = READY
#define expire(s) assert(!ran[id[s]]); give(s)
#define take_done(s) \
    if :: expired[s] -> expire(s) :: else -> assert(ended[id[s]]); give(s) fi

inline submit(s) {
    d_step {
        phase[s] == FREE && submitted < TASKS ->
        id[s] = submitted;
        submitted++;
        ready(s);
        if :: HAS_TIMEOUT(id[s]) -> limited++; armed = 1 :: else fi
    }
}

#ifdef BUG_NOT_FOR_UNSTARTED
#define SET_UNSTARTED armed
#else
#define SET_UNSTARTED 1
#endif

#ifdef BUG_UNSTAMPED_IS_UNSTARTED
#define SEE(s) skip
#else
#define SEE(s) seen[s] = next[s] && !stamp[s] && !head[s]
#endif

/* locked_look_at(): of one task. */
#define look_at(s) \
    if \
    :: phase[s] == FREE || phase[s] == DONE || !HAS_TIMEOUT(id[s]) \
    :: phase[s] == READY && HAS_TIMEOUT(id[s]) -> \
        if \
        :: late && id[s] == 2 && attempt[id[s]] == 0 -> expire(s) \
        :: else -> armed = SET_UNSTARTED \
        fi \
    :: phase[s] == CLAIMED && HAS_TIMEOUT(id[s]) -> \
        SEE(s); \
        assert(!next[s] || head[s] || RUNS(s)); /* time counts for all that has started */ \
        if :: RUNS(s) -> armed = 1 :: else -> armed = SET_UNSTARTED fi; \
        if \
        :: !was_stuck && RUNS(s) && aged[id[s]] -> overdue[s] = 1; overdue_id[s] = id[s]; stuck = 1 \
        :: else \
        fi \
    fi

#ifdef BUG_NO_TASK_ID
#define IS_OVERDUE(s) overdue[s]
#else
#define IS_OVERDUE(s) (overdue[s] && overdue_id[s] == id[s])
#endif
#ifdef BUG_NO_SECOND_LOOK
#define CULPRIT true
#else
#define CULPRIT ((IS_OVERDUE(0) && RUNS(0)) || (IS_OVERDUE(1) && RUNS(1)))
#endif
#ifdef BUG_NEIGHBOURS_TOO
#define TIMES_OUT(s) culprit
#else
#define TIMES_OUT(s) (culprit && IS_OVERDUE(s))
#endif
#define forget_overdue()                \
    overdue[0] = 0; overdue[1] = 0;     \
    overdue_id[0] = 0; overdue_id[1] = 0; \
    stuck = 0; was_stuck = 0

#define recover(s) \
    if \
    :: phase[s] == DONE || (phase[s] == CLAIMED && head[s]) -> take_done(s) \
    :: phase[s] == CLAIMED && !head[s] && !next[s] -> ready(s) \
    :: phase[s] == CLAIMED && !head[s] && next[s] -> \
        if \
        :: TIMES_OUT(s) -> assert(aged[id[s]] && !ended[id[s]]); give(s) \
        :: !(TIMES_OUT(s)) && attempt[id[s]] == RETRIES -> give(s) \
        :: else -> attempt[id[s]]++; aged[id[s]] = 0; hangs[id[s]] = 0; ready(s) \
        fi \
    :: else \
    fi

active proctype dispatcher() {
    bit was_stuck, culprit;
    run worker();
    do
    :: submit(0)
    :: submit(1)
    :: d_step { phase[0] == DONE -> take_done(0) }
    :: d_step { phase[1] == DONE -> take_done(1) }
    :: d_step { RUNS(0) && !aged[id[0]] -> aged[id[0]] = 1 }
    :: d_step { RUNS(1) && !aged[id[1]] -> aged[id[1]] = 1 }
    :: !late -> late = 1
    :: d_step {
            armed -> /* locked_look_at_limits() */
            armed = 0;
            was_stuck = overdue[0] || overdue[1];
            look_at(0);
            look_at(1);
#ifdef BUG_ALWAYS_SET
            armed = 1;
#endif
            was_stuck = 0;
            assert(!armed || limited > 0)
        }
    :: d_step {
            stuck -> /* kill_stuck() */
            stuck = 0;
            if
            :: CULPRIT ->
                assert((RUNS(0) && aged[id[0]] && !ended[id[0]]) ||
                       (RUNS(1) && aged[id[1]] && !ended[id[1]]));
                killed = 1
            :: else ->
                forget_overdue();
                if :: limited > 0 -> armed = 1 :: else fi
            fi
        }
    :: d_step {
            gone -> /* locked_recover() */
            culprit = CULPRIT;
            recover(0);
            recover(1);
            culprit = 0;
            forget_overdue();
            if :: limited > 0 -> armed = 1 :: else fi;
            gone = 0; killed = 0; doomed = 0
        };
        run worker()
    :: submitted == TASKS && phase[0] == FREE && phase[1] == FREE && !armed && !stuck -> break
    od;
    over = 1
}
