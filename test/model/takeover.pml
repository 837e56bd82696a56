/* takeover.pml: results that the application reads on after the worker that made them has died.
 *
 * What is modelled   pool_collect.cpp (locked_take_one, locked_release, locked_loaned_blocks),
 *                    pool_submit.cpp (locked_post), supervisor*.cpp (on_exit, spawn, a start that fails),
 *                    recovery.cpp (what is DONE is delivered), worker*.cpp (the list, take_inbox).
 * Processes          a worker with an arena of two blocks, which waits for room; the dispatcher, each of
 *                    whose steps holds the mutex, with the application, which releases when it likes; a
 *                    killer with KILLS kills, between any two steps of the worker, also of a starting one.
 * Properties         a worker writes into no block that a loan names; what it is told to free it has; it has
 *                    all blocks again when all loans have been given back (assertions).
 * Left out           room in the inbox, which is inbox.pml's; hints, which are claim.pml's: the dispatcher
 *                    looks at slots; how a chunk's items are published, which is range.pml's.
 * Memory order       sequentially consistent. The list and the lanes are written before the successor is.
 * Mutants            see run.py.
 */
#ifndef KILLS
#define KILLS 1
#endif
#define JOBS 2

mtype = { FREE, READY, CLAIMED, DONE };
mtype phase[JOBS] = READY;
bit alive = 1, doomed, gone, over, emptied;
byte kills;

active proctype killer() {
    do
    :: kills < KILLS && !doomed && !over -> kills++; doomed = 1
    :: break
    od
}

bit lent[2], taken[2], listed[2];    /* by block: a loan names it, the worker's arena, the takeover list */
byte result[JOBS];                   /* the block that a DONE slot names */
chan inbox = [4] of { byte };        /* releases */
byte failures = 1;                   /* starts that may fail */

inline give_list() { d_step { listed[0] = lent[0]; listed[1] = lent[1] } }

proctype worker() {
    byte i, b;
    {
        d_step { taken[0] = listed[0]; taken[1] = listed[1] };
        do
        :: atomic { phase[0] == READY -> phase[0] = CLAIMED; i = 0 }; goto place
        :: atomic { phase[1] == READY -> phase[1] = CLAIMED; i = 1 };
place:      do
            :: !taken[0] -> b = 0; break
            :: taken[0] && !taken[1] -> b = 1; break
            :: inbox?b -> assert(taken[b]); taken[b] = 0
            od;
            taken[b] = 1;
            assert(!lent[b]); /* it writes here */
            d_step { result[i] = b; phase[i] = DONE } /* range.pml has them apart */
        :: inbox?b -> assert(taken[b]); taken[b] = 0
        :: over && empty(inbox) -> emptied = 1; break
        od
    } unless { doomed };
    if :: doomed -> gone = 1 :: else fi
}

#define take_done(j) \
    if \
    :: phase[j] == DONE -> assert(!lent[result[j]]); lent[result[j]] = 1; phase[j] = FREE \
    :: else \
    fi
#define let_go(b) d_step { lent[b] -> lent[b] = 0; if :: alive -> inbox!b :: else fi }
#define clear_inbox() do :: inbox?_ :: empty(inbox) -> break od

active proctype dispatcher() {
    run worker();
    do
    :: d_step { phase[0] == DONE -> take_done(0) }
    :: d_step { phase[1] == DONE -> take_done(1) }
    :: let_go(0)
    :: let_go(1)
    :: d_step {
            gone ->
            alive = 0; gone = 0;
            take_done(0);
            take_done(1);
            if :: phase[0] == CLAIMED -> phase[0] = READY :: else fi;
            if :: phase[1] == CLAIMED -> phase[1] = READY :: else fi
        }
#ifdef BUG_LIST_AT_DEATH
        ; give_list()
#endif
    :: !alive -> /* spawn() */
#ifdef BUG_ALIVE_FIRST
        d_step { clear_inbox(); alive = 1 };
        if :: let_go(0) :: let_go(1) :: skip fi;
        give_list();
#else
        d_step {
#ifndef BUG_INBOX_STAYS
            clear_inbox();
#endif
#ifndef BUG_LIST_AT_DEATH
            listed[0] = lent[0]; listed[1] = lent[1];
#endif
#ifdef BUG_NO_LIST
            listed[0] = 0; listed[1] = 0;
#endif
            alive = 1
        };
        if :: let_go(0) :: let_go(1) :: skip fi; /* releases do not wait for the launch */
#endif
        if
        :: failures > 0 -> failures--; alive = 0
        :: doomed = 0 -> run worker()
        fi
    :: phase[0] == FREE && phase[1] == FREE && !lent[0] && !lent[1] && alive && !doomed -> break
    od;
    over = 1;
    (emptied || doomed); /* the worker has emptied its inbox */
    assert(doomed || (!taken[0] && !taken[1]))
}
