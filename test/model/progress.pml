/* progress.pml: items of a chunk that are delivered while others of it still run.
 *
 * What is modelled   worker*.cpp (room_in, publish_of_many, flush, tell, settle, finish_job, sleep),
 *                    pool_collect.cpp (locked_take_message, locked_take_many, locked_rescan), pool.cpp
 *                    (dispatch).
 * Processes          a worker that runs both items of a chunk beside each other; the second ends only when
 *                    the application has got the first, which is what progress is for; the application,
 *                    which submits CHUNKS chunks through one slot, collects, and blocks on its eventfd. The
 *                    lane holds LANE hints; STALE times the worker puts one that is of no use, as after a
 *                    look at all slots, or for other tasks.
 * Properties         every item is delivered once, and not before it has ended (assertions); nobody waits for
 *                    ever (invalid end state).
 * Left out           deaths, which range.pml shows; splitting and limits, the same; the supervisor.
 * Memory             the worker's arena is dirty: outcomes of the chunk before lie where the next ones will.
 * Memory order       sequentially consistent; claim.pml has what the lane and sleeping need.
 * Mutants            see run.py.
 */
#ifndef CHUNKS
#define CHUNKS 2
#endif
#ifndef LANE
#define LANE 1
#endif
#ifndef STALE
#define STALE 2
#endif

mtype = { FREE, READY, CLAIMED, DONE, TOLD, PROGRESS };

mtype phase = FREE;
bit named;            /* block_offset */
bit head[2] = 1;      /* outcome words of the block */
chan lane = [LANE] of { mtype };
bit rescan;
bit app_sleeps, app_token;

/* The dispatcher's. */
byte submitted, chunks;
bit delivered[2];

/* Only for the properties. */
bit ended[2], over;

inline tell(notice) {
    if :: lane!notice :: full(lane) -> rescan = 1 fi;
    untold = 1
}

inline settle() {
    if
    :: untold ->
        untold = 0;
        if
        :: app_sleeps -> if :: atomic { app_sleeps -> app_sleeps = 0 }; app_token = 1 :: else fi
        :: else
        fi
    :: else
    fi
}

inline flush() {
    if :: unreported -> unreported = 0; tell(PROGRESS) :: else fi;
#ifdef BUG_NO_SETTLE
    untold = 0
#else
    settle()
#endif
}

inline publish(i) {
    d_step { runs[i] = 0; ended[i] = 1 };
#ifdef BUG_HINT_FIRST
    tell(PROGRESS);
    settle();
    head[i] = 1;
#else
    head[i] = 1;
    unreported = 1;
#endif
    if
    :: !runs[0] && !runs[1] -> /* finish_job() */
        phase = DONE;
        unreported = 0;
        tell(TOLD);
        settle()
    :: else
    fi
}

active proctype worker() {
    bit untold, unreported, runs[2];
    byte stale;
    do
    :: stale < STALE -> stale++; tell(PROGRESS)
    :: atomic { phase == READY -> phase = CLAIMED };
#ifdef BUG_NAMED_BEFORE_ZEROED
        named = 1;
        d_step { head[0] = 0; head[1] = 0 };
#else
        d_step { head[0] = 0; head[1] = 0 }; /* room_in() */
        named = 1;
#endif
        d_step { runs[0] = 1; runs[1] = 1 }
    :: runs[0] -> publish(0)
    :: runs[1] && delivered[0] -> publish(1)
    :: unreported || untold -> /* sleep(), or before it takes more */
#ifdef BUG_NO_FLUSH
        d_step { unreported = 0; untold = 0 }
#else
        flush()
#endif
    :: over -> break
    od
}

#define give(i)                              \
    if                                       \
    :: head[i] && !delivered[i] ->           \
        assert(ended[i]);                    \
        delivered[i] = 1                     \
    :: else                                  \
    fi

/* locked_take_message(), in the state that the slot is in. */
inline take_progress() {
    if
    :: phase == CLAIMED && named -> d_step { give(0) }; d_step { give(1) }
    :: else
    fi
}

inline take_done() {
    d_step {
        if
        :: phase == DONE ->
            give(0);
            give(1);
            assert(delivered[0] && delivered[1]);
            phase = FREE;
            chunks++
        :: else
        fi
    }
}

inline collect() {
    do
    :: lane?PROGRESS -> take_progress()
    :: lane?TOLD -> take_done()
    :: empty(lane) -> break
    od;
    if
    :: rescan ->
        rescan = 0;
#ifndef BUG_RESCAN_DONE_ONLY
        take_progress();
#endif
        take_done()
    :: else
    fi
}

#define COMPLETIONS (len(lane) > 0 || rescan)

active proctype application() {
    bit armed;
    do
    :: chunks == CHUNKS -> break
    :: else ->
        collect();
        if
        :: phase == FREE && submitted < CHUNKS ->
            d_step {
                submitted++;
                delivered[0] = 0;
                delivered[1] = 0;
                ended[0] = 0;
                ended[1] = 0;
#ifndef BUG_STALE_BLOCK
                named = 0;
#endif
                phase = READY
            }
        :: else
        fi;
        if
        :: chunks < CHUNKS -> /* dispatch() */
            app_sleeps = 1;
            if
#ifndef BUG_NO_APP_SECOND_LOOK
            :: COMPLETIONS -> if :: atomic { app_sleeps -> app_sleeps = 0 } :: else -> armed = 1 fi
#endif
            :: else -> armed = 1
            fi;
            if :: armed -> app_token; d_step { app_token = 0; armed = 0 } :: else fi
        :: else
        fi
    od;
    over = 1
}
