/* loans.pml: payloads that a worker reads on after the job they came with has ended.
 *
 * What is modelled   worker_nested.cpp (retain, keep_payload, release, post), worker*.cpp (finish_job,
 *                    tell), pool_nested.cpp (locked_take_return, locked_keep_payload,
 *                    locked_share_payload, locked_free_payload, locked_forget_worker), pool_collect.cpp (locked_take_done,
 *                    locked_rescan), recovery.cpp.
 * Processes          a worker with one place in its outbox, which retains and lets go when it likes; the
 *                    dispatcher, each of whose steps holds the mutex; a killer with KILLS kills, between any
 *                    two steps of the worker. With PARTS both jobs are parts of one split task, so they
 *                    share their payload. With KEEP the application has the first payload, too, and gives
 *                    it back whenever it likes, or not.
 * Properties         a payload is freed once, never while somebody alive reads it, and by the end; what a
 *                    worker gives back is something that it keeps (assertions).
 * Left out           answers to nested tasks, which come and go in the order of one lane; sleeping, which is
 *                    inbox.pml's and claim.pml's; more than one worker.
 * Memory order       sequentially consistent. The mark is a plain store before DONE's release store.
 * Mutants            see run.py. BUG_NOT_COUNTED: two parts of one task that the same worker keeps one
 *                    after the other are one entry; when the hint of the second DONE comes before the
 *                    first kReturn, that return frees what is still read.
 */
#ifndef KILLS
#define KILLS 1
#endif
#define JOBS 2
#ifdef PARTS
#define BLOCK(job) 0
#else
#define BLOCK(job) job
#endif

mtype = { FREE, READY, CLAIMED, DONE, HINT, RETURN };
mtype phase[JOBS] = READY;
chan lane = [1] of { mtype, byte };
bit alive = 1, doomed, gone, over;
byte kills;

active proctype killer() {
    do
    :: kills < KILLS && !doomed && !over -> kills++; doomed = 1
    :: break
    od
}

chan backlog = [4] of { byte };      /* in the worker's memory: returns that wait for room in the lane */
bit mark[JOBS], rescan;              /* mark: `retained` in the slot */
byte kept[JOBS];                     /* by block: the seat's `retained` */
byte had[JOBS] = 1;                  /* by block: the pool's `shared_`, 1 where it has no entry */
bit mine[JOBS], freed[JOBS];         /* by block: the application has it, too; the block went back */
bit running[JOBS], held[JOBS], job_ended[JOBS]; /* the worker's: by job, by job, by block */

#define READ(b) (mine[b] || ((running[0] || held[0]) && BLOCK(0) == b) || ((running[1] || held[1]) && BLOCK(1) == b))
#define LOANS(b) ((held[0] && BLOCK(0) == b) || (held[1] && BLOCK(1) == b))
#define free_payload(b) \
    had[b]--; if :: had[b] == 0 -> assert(!freed[b] && !READ(b)); freed[b] = 1 :: else fi
#define unkeep(b) kept[b]--; if :: kept[b] == 0 -> free_payload(b) :: else fi

inline finish(j) {
#ifdef BUG_MARK_AFTER_DONE
    phase[j] = DONE;
#endif
    d_step { /* keep_payload() */
        if
#ifndef BUG_NOT_COUNTED
        :: LOANS(BLOCK(j)) && !job_ended[BLOCK(j)] -> job_ended[BLOCK(j)] = 1; mark[j] = 1
#else
        :: LOANS(BLOCK(j)) -> job_ended[BLOCK(j)] = 1; mark[j] = 1
#endif
        :: else
        fi;
        running[j] = 0
    };
#ifndef BUG_MARK_AFTER_DONE
    phase[j] = DONE;
#endif
    if :: lane!HINT(j) :: full(lane) -> rescan = 1 fi
}

inline let_go(j) {
    d_step {
        held[j] = 0;
        if
        :: !LOANS(BLOCK(j)) && job_ended[BLOCK(j)] -> job_ended[BLOCK(j)] = 0; backlog!BLOCK(j)
        :: else
        fi
    }
}

inline claim_and_retain(j) {
    atomic { phase[j] == READY -> phase[j] = CLAIMED; running[j] = 1 };
    if :: held[j] = 1 :: skip fi
}

proctype worker() {
    byte i;
    {
        do
        :: claim_and_retain(0)
        :: claim_and_retain(1)
        :: running[0] -> finish(0)
        :: running[1] -> finish(1)
        :: held[0] -> let_go(0)
        :: held[1] -> let_go(1)
        :: atomic { nfull(lane) && nempty(backlog) -> backlog?i; lane!RETURN(i) }
        :: over -> break
        od
    } unless { doomed };
    if :: doomed -> gone = 1 :: else fi
}

#define end_task(j) \
    phase[j] = FREE; \
    if \
    :: phase[0] != FREE && BLOCK(0) == BLOCK(j) || phase[1] != FREE && BLOCK(1) == BLOCK(j) \
    :: else -> free_payload(BLOCK(j)) \
    fi

#ifndef BUG_NOT_COUNTED
#define count(b) kept[b]++
#else
#define count(b) kept[b] = 1
#endif
#define keep(j) if :: kept[BLOCK(j)] == 0 -> had[BLOCK(j)]++ :: else fi; count(BLOCK(j))
#define take_done(j) \
    if               \
    :: phase[j] == DONE -> if :: mark[j] && alive -> keep(j) :: else fi; end_task(j) \
    :: else \
    fi
#define look_at_slots() if :: rescan -> rescan = 0; take_done(0); take_done(1) :: else fi
#define recover(j) \
    take_done(j); \
    if :: phase[j] == CLAIMED -> phase[j] = READY; UNMARK(j) :: else fi
#ifdef BUG_MARK_STAYS
#define UNMARK(j)
#else
#define UNMARK(j) mark[j] = 0
#endif

#ifdef KEEP
proctype application() {
    if
    :: d_step { mine[0] = 0; free_payload(0) }
    :: over /* it may keep it as long as it likes, and the pool's end frees what is left */
    fi
}
#endif

active proctype dispatcher() {
    byte j;
#ifdef KEEP
    d_step {
        mine[0] = 1;
#ifndef BUG_CALLER_NOT_COUNTED
        had[0]++
#endif
    };
    run application();
#endif
    lane!HINT(0); /* of something delivered before */
    run worker();
    do
    :: d_step { lane?HINT(j) -> take_done(j); j = 0 }
    :: d_step {
            lane?RETURN(j) ->
#ifndef BUG_NO_LOOK_AT_RETURN
            if :: kept[j] == 0 -> look_at_slots() :: else fi;
#endif
            assert(kept[j] > 0);
            unkeep(j);
            j = 0
        }
    :: d_step { rescan -> look_at_slots() }
    :: d_step {
            gone -> /* nothing of it reads any more */
            alive = 0;
            running[0] = 0; held[0] = 0; job_ended[0] = 0;
            running[1] = 0; held[1] = 0; job_ended[1] = 0;
            recover(0);
            recover(1);
#ifndef BUG_NOT_FREED_AT_DEATH
            do :: kept[0] > 0 -> unkeep(0) :: else -> break od;
            do :: kept[1] > 0 -> unkeep(1) :: else -> break od;
#endif
            do :: lane?_,_ :: empty(lane) -> break od;
            do :: backlog?_ :: empty(backlog) -> break od;
            rescan = 0; gone = 0; doomed = 0; alive = 1
        };
        run worker()
    :: phase[0] == FREE && phase[1] == FREE && !doomed && empty(lane) && empty(backlog) &&
       !LOANS(0) && !LOANS(1) -> break
    od;
    over = 1;
    assert((freed[0] || mine[0]) && (freed[1] || BLOCK(1) == 0))
}
