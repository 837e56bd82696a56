/* range.pml: a chunk of ITEMS items in one slot: started, withdrawn, split, expired, delivered, run again.
 *
 * What is modelled   slots.hpp (start_item, withdraw_unstarted, publish_ready), worker*.cpp (start,
 *                    start_guarded, room_in, complete, finish_job), pool_collect.cpp (locked_take_many while
 *                    the claimer works, when it is done, and when it is dead), pool_split.cpp (the cut),
 *                    pool_limits.cpp (locked_expire), pool_submit.cpp (locked_withdraw), recovery.cpp (fail,
 *                    run_again, the attempt block).
 * Processes          a worker, which runs CONCURRENT items of its chunk at a time and ends them in any
 *                    order; the dispatcher, which delivers what is published at any moment (progress), cuts
 *                    the range CUTS times (a withdrawal takes all unstarted items, a split their upper
 *                    half), with LIMIT finds at any moment that the chunk's start_within is over and takes
 *                    back what has not started, as the worker does from then on when it starts an item; and,
 *                    when the kernel has confirmed a death, recovers and respawns; a killer with
 *                    KILLS kills, between any two steps of the worker. A cut item's outcome is CANCELLED, or
 *                    comes from another slot; here it is given at the cut.
 * Properties         every item has exactly one outcome when the slot is free; an item starts only while it
 *                    has none, and at most RETRIES + 1 times; it is given up only after so many starts; one
 *                    that has started is not EXPIRED, whatever came between; a slot that is DONE has an
 *                    outcome for all that it was left with (assertions).
 * Memory             the worker's arena is dirty: what an earlier attempt published is still where the next
 *                    one's outcome words will lie.
 * Memory order       sequentially consistent. In the code the range word changes by compare-and-swap only;
 *                    outcome words, block and slot word are published by release stores in this order, which
 *                    stay in order on their way, so that a store buffer could only delay them all. The
 *                    mutants change the order where it matters.
 * Mutants            see run.py.
 */
#ifndef ITEMS
#define ITEMS 3
#endif
#ifndef CONCURRENT
#define CONCURRENT 2
#endif
#ifndef CUTS
#define CUTS 1
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef RETRIES
#define RETRIES 0
#endif
#ifndef LIMIT
#define LIMIT 0
#endif
#define DELIVERED 255 /* kDelivered */

mtype = { FREE, READY, CLAIMED, DONE, NONE }; /* NONE: between two of the dispatcher's steps */

mtype phase = READY;
byte next, end = ITEMS;  /* one word */
bit named;               /* block_offset: 0, or the block whose outcome words are `head` */
bit head[ITEMS] = 1;     /* 1: published; by position from item_base on */

/* The request, which workers read. */
byte item_base;
byte attempt = 1;
byte starts[ITEMS];      /* the attempt block: how often in earlier attempts, or DELIVERED */
byte started_before;
bit late;                /* start_by_ns is over */

/* The dispatcher's record. */
byte upto = ITEMS;
bit delivered[ITEMS];

bit doomed, gone;
byte kills;

/* Only for the properties. */
byte outcomes[ITEMS];
byte raised[ITEMS];      /* how often `next` was raised over it, to run it */
byte runs_of[ITEMS];
bit ended[ITEMS];

#define give(item)           \
    outcomes[item]++;        \
    assert(outcomes[item] == 1)

#define expire_from(first)                                                  \
    j = first;                                                              \
    do :: j < upto -> assert(raised[j] == 0); give(j); j++ :: else -> break od; \
    upto = first;                                                           \
    j = 0

#define give_published(item) \
    delivered[item] = 1;     \
    assert(ended[item]);     \
    give(item)

/* --- worker ------------------------------------------------------------------------------------ */

inline runs(item) {
    d_step {
        assert(outcomes[item] == 0 && runs_of[item] <= RETRIES);
        runs_of[item]++;
        running[item] = 1
    }
}

#define count_start(item) raised[item] = raised[item] + (starts[item] == DELIVERED -> 0 : 1)
#ifdef BUG_EXPIRES_STARTED
#define STARTED_EARLIER(item) false
#else
#define STARTED_EARLIER(item) (starts[item] != 0)
#endif

/* CLAIMED → DONE when all that has started has finished and nothing is left. */
inline finish_job() {
    phase = DONE;
    break
}

proctype worker() {
    byte i, n, e, started, finished;
    bit was_late;
    bit running[ITEMS];
    bit mine; /* it has its outcome block */
    {
        do
        :: atomic { phase == READY -> phase = CLAIMED };
            d_step { started = 0; finished = 0; mine = 0 };
            do
            :: started - finished < CONCURRENT -> /* start() */
                if
                :: started == 0 && next >= end /* nothing of it needs a block */
                :: else ->
                    if
                    :: !mine -> /* room_in() */
                        mine = 1;
#ifdef BUG_NAMED_BEFORE_ZEROED
                        named = 1;
#endif
                        d_step {
#ifndef BUG_NOT_ZEROED
                            do :: i < ITEMS - item_base -> head[i] = 0; i++ :: else -> break od;
#endif
                            i = 0
                        };
#ifndef BUG_NAMED_BEFORE_ZEROED
                        named = 1
#endif
                    :: else
                    fi
                fi;
#ifdef BUG_STARTED_BEFORE_NEXT
                n = next;
                if
                :: n < end && starts[n] != DELIVERED ->
                    runs(n);
                    d_step { next = n + 1; count_start(n) };
                    started++
                :: else -> if :: finished == started -> finish_job() :: else -> goto finish_one fi
                fi
#else
                d_step { n = next; e = end; was_late = late };
                if
                :: n < e ->
                    if
#ifdef BUG_NEXT_BY_STORE
                    :: d_step { next = n + 1; end = e; count_start(n) };
#else
                    :: atomic { next == n && end == e -> next = n + 1; count_start(n) };
#endif
                        started++;
                        if
#ifndef BUG_NO_SKIP
                        :: attempt > 1 && starts[n] == DELIVERED -> finished++
#endif
                        :: was_late && !(attempt > 1 && STARTED_EARLIER(n)) ->
                            d_step { assert(runs_of[n] == 0 && outcomes[n] == 0); ended[n] = 1 };
                            head[n - item_base] = 1;
                            finished++;
                            if
                            :: finished == started && next >= end -> finish_job()
                            :: else
                            fi
                        :: else -> runs(n)
                        fi
                    :: else /* the dispatcher was faster: again */
                    fi
                :: else ->
                    if :: finished == started -> finish_job() :: else -> goto finish_one fi
                fi
#endif
            :: started > finished -> /* complete() */
finish_one:     if
                :: running[0] -> i = 0
                :: running[1] -> i = 1
#if ITEMS > 3
                :: running[2] -> i = 2
#endif
                :: running[ITEMS - 1] -> i = ITEMS - 1
                fi;
                ended[i] = 1;
                head[i - item_base] = 1;
                d_step { running[i] = 0; finished++; i = 0 };
                if
                :: finished == started && next >= end -> finish_job()
                :: else
                fi
            od
        :: phase == FREE -> break
        od
    } unless { doomed };
    if :: doomed -> gone = 1 :: else fi
}

active proctype killer() {
    do
    :: kills < KILLS && !doomed && phase != FREE -> kills++; doomed = 1
    :: break
    od
}

/* --- dispatcher --------------------------------------------------------------------------------- */

/* Takes what is published and not delivered, one word at a time. */
inline deliver_published() {
    j = item_base;
    do
    :: j < upto ->
        d_step {
            if
            :: named && head[j - item_base] && !delivered[j] -> give_published(j)
            :: else
            fi
        };
        j++
    :: else -> break
    od;
    j = 0
}

/* Lowers `end` to `to`, by CAS against the worker's `next`. */
inline cut_to(upper_half) {
    d_step {
        n = next;
        e = end;
        m = (upper_half -> n + (e - n) / 2 : n)
    };
    if
    :: n < e && m < e ->
        if
#ifdef BUG_END_BY_STORE
        :: d_step { next = n; end = m };
#else
        :: atomic { next == n && end == e -> end = m };
#endif
            d_step {
                j = m;
                do :: j < upto -> give(j); j++ :: else -> break od;
                upto = m;
                j = 0
            }
        :: else /* started meanwhile: the code tries again, here it is another cut */
        fi
    :: else
    fi;
    d_step { n = 0; e = 0; m = 0 }
}

inline take_done() {
    d_step {
        j = item_base;
        do
        :: j < upto ->
            if
            :: delivered[j]
            :: else -> assert(named && head[j - item_base]); give_published(j)
            fi;
            j++
        :: else -> break
        od;
        j = 0
    };
    phase = FREE
}

#ifdef BUG_RETRIES_BY_ATTEMPT
#define RUNS(item) attempt
#else
#define RUNS(item) (starts[item] + 1)
#endif
#ifdef BUG_EXPIRES_FROM_START
#define EXPIRES_FROM 0
#else
#define EXPIRES_FROM started_before
#endif

/* locked_expire(): what is late and has started in no attempt. */
inline expire() {
    if
    :: phase == READY && EXPIRES_FROM > item_base ->
        if
        :: EXPIRES_FROM < upto && late ->
            if
            :: atomic { phase == READY -> phase = NONE };
                d_step { expire_from(EXPIRES_FROM) };
                d_step { end = EXPIRES_FROM; named = 0; phase = READY }
            :: else
            fi
        :: else
        fi
    :: phase == READY && EXPIRES_FROM <= item_base ->
        if
        :: atomic { phase == READY -> phase = NONE };
            d_step { expire_from(item_base) };
            phase = FREE
        :: else
        fi
    :: phase == CLAIMED ->
        d_step { n = next; e = end; m = (n > EXPIRES_FROM -> n : EXPIRES_FROM) };
        if
        :: m < e ->
            if
            :: atomic { next == n && end == e -> end = m };
                d_step { expire_from(m) }
            :: else
            fi
        :: else
        fi
    :: else
    fi;
    d_step { n = 0; e = 0; m = 0 }
}

/* The worker is dead: nobody else touches the slot, so this is one step. */
inline recover_claimed() {
    d_step {
#ifndef BUG_LOST_BEFORE_PUBLISHED
        j = item_base;
        do
        :: j < upto ->
            if
            :: named && head[j - item_base] && !delivered[j] -> give_published(j)
            :: else
            fi;
            j++
        :: else -> break
        od;
#endif
        /* Started and lost: the first of those that run again is n. */
        j = item_base;
        n = next;
        do
        :: j < next && j < upto ->
            if
            :: !delivered[j] && RUNS(j) <= RETRIES -> if :: j < n -> n = j :: else fi
            :: !delivered[j] && RUNS(j) > RETRIES ->
                assert(raised[j] == RETRIES + 1);
                delivered[j] = 1;
                give(j)
            :: else
            fi;
            j++
        :: else -> break
        od;
#ifdef BUG_LOST_BEFORE_PUBLISHED
        j = item_base;
        do
        :: j < upto ->
            if :: named && head[j - item_base] -> give_published(j) :: else fi;
            j++
        :: else -> break
        od;
#endif
        if
        :: n >= upto -> phase = FREE
        :: else ->
            if
            :: n < next -> /* run_again() */
                attempt++;
                started_before = (started_before > next -> started_before : next);
                j = n;
                do
                :: j < next ->
#ifdef BUG_NOT_COUNTED
                    starts[j] = (delivered[j] -> DELIVERED : starts[j]);
#else
                    starts[j] = (delivered[j] -> DELIVERED : starts[j] + 1);
#endif
                    j++
                :: else -> break
                od
            :: else
            fi;
            item_base = n;
            next = n;
            end = upto;
#ifndef BUG_STALE_BLOCK
            named = 0;
#endif
            phase = READY
        fi;
        j = 0;
        n = 0
    }
}

active proctype dispatcher() {
    byte j, n, e, m, cuts, looks;
    run worker();
    do
    :: LIMIT && !late -> late = 1
    :: late && looks < LIMIT -> looks++; expire()
    :: phase == CLAIMED && named -> deliver_published()
    :: phase == CLAIMED && cuts < CUTS && RETRIES == 0 -> cuts++; cut_to(0)
    :: phase == CLAIMED && cuts < CUTS && attempt == 1 -> cuts++; cut_to(1)
    :: phase == DONE -> take_done()
    :: gone ->
        if
        :: phase == CLAIMED -> recover_claimed()
        :: phase == DONE -> take_done()
        :: else
        fi;
        d_step { gone = 0; doomed = 0 };
        run worker()
    :: phase == FREE -> break
    od;
    end = 0;
    d_step {
        j = 0;
        do :: j < ITEMS -> assert(outcomes[j] == 1); j++ :: else -> break od
    }
}
